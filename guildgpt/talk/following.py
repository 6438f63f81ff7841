"""Following the releases in a store: who is released is opened, asked once, and takes over.

A version that does not start is left out: its share goes to the others, and the operator is told in
the log, in `guildgpt versions list` and in `warnings`. It is tried again when the release or its
file changes, and now and then: memory or disk may have been short. Where nobody of a release
starts, whoever answers goes on; after a restart it is the last one that was released and starts,
and without any the operator's own model.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from guildgpt.chat import Message
from guildgpt.engines.engine import SamplingParams, complete
from guildgpt.engines.served_at import ServedAt
from guildgpt.errors import EngineDied, GuildError, ModelError, StoreError
from guildgpt.feedback.messages.postponed import Log, Postponed
from guildgpt.feedback.records import Release
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.releasing import served
from guildgpt.feedback.versions.versions import KnownVersion
from guildgpt.model.lineage import read_lineage
from guildgpt.model.locate import Located, locate, located_at
from guildgpt.model.version import Version
from guildgpt.talk.fleet import Fleet, Open, OpenedModel, open_model

FOLLOW_SECONDS = 2.0  # between looks whether something was released
RETRY_SECONDS = 60.0  # until a version that did not start is tried again; then twice as long
LONGEST_SECONDS = 3600.0
FIRST_QUESTION = "Hello! Who are you?"  # that a version answers before people ask it
FIRST_ANSWER = SamplingParams(temperature=0, max_tokens=8)

OpenVersion = Callable[[KnownVersion], OpenedModel]
Mark = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a version did not start, and what its file was like then."""

    path: Path
    mark: Mark | None
    trouble: str
    wait: float = field(default=0.0, compare=False)  # seconds until it is tried again
    again: float = field(default=0.0, compare=False)  # when, on the monotonic clock

    @property
    def is_due(self) -> bool:
        """Whether it may start now: its file is another one, or it is time to try again."""
        return _mark(self.path) != self.mark or time.monotonic() >= self.again


@dataclass(eq=False)
class Opening:
    """How models are opened; see `open_model`."""

    context: int
    slots: int
    threads: int | None = None
    at: ServedAt | None = None

    def of(self, model: str | None, on_progress: Callable[[str], None]) -> Open:
        """Opens the model of that name, always the same one: it is looked for once."""
        found = cache(lambda: locate(model, on_progress=on_progress))
        return lambda: self._open(found())

    def version(self, version: KnownVersion) -> OpenedModel:
        """A version under the id that it was released by."""
        opened = self._open(located_at(Path(version.path), version.name))
        return replace(
            opened, identify=lambda: replace(opened.identify(), id=version.id, name=version.name)
        )

    def _open(self, found: Located) -> OpenedModel:
        return open_model(
            found, context=self.context, slots=self.slots, threads=self.threads, at=self.at
        )


@dataclass(eq=False)
class Following:
    """Keeps the fleet as the newest release wants it.

    `own` opens the operator's own model, which answers where nothing is released, `open_version` a
    version of a release. Both run in a thread.
    """

    store: Store
    fleet: Fleet
    postponed: Postponed
    log: Log
    own: Open
    open_version: OpenVersion
    number: int = 0  # of the release that was taken up
    _hashes: dict[str, str] = field(default_factory=dict)  # of the versions that were released
    _failed: dict[str, Failed] = field(default_factory=dict)
    _released: set[str] = field(default_factory=set)  # whom the newest release names
    _answering_instead: str | None = None
    _erased: list[str] = field(default_factory=list)  # who is open, and learned from what was
    _told: tuple[int, Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        self.fleet.opened = self._opened

    async def begin(self) -> bool:
        """Open whoever answers where nobody does yet; whether that was released. Raises what
        opening the operator's own model raises where it is that."""
        release: Sequence[Release] = []
        try:
            release = await self.store.releases.current()
            if release:
                await self._take_up(release)
        except StoreError as error:
            self.log("store_failed", error=error)
        if self.fleet.open_versions:
            return bool(release)
        version = await self.fleet.open(self.own)
        self._answering_instead = version.id if release else None
        self.log("serving", version=version.id, reason="the settings name it")
        return False

    async def keep(self) -> None:
        """Follow for ever."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                await self.look()
            except StoreError:
                continue  # who answers goes on, and the housekeeper tells of it
            except Exception as error:
                self.log.unforeseen("release not taken up", error)

    async def look(self) -> None:
        """Take up what is new. Raises StoreError."""
        release = await self.store.releases.current()
        known = await self.store.versions.all()
        self._erased = [
            one.id for one in known if one.erased_at and one.id in self.fleet.open_versions
        ]
        if release and (release[0].number != self.number or self._is_news()):
            await self._take_up(release)

    @property
    def warnings(self) -> list[str]:
        """What the operator should know, in sentences."""
        told = [f"{id} did not start: {failed.trouble}" for id, failed in self._failed.items()]
        if self._answering_instead:
            told.append(f"{self._answering_instead} answers, which is not what was released last")
        told += [f"{id} learned from what was erased since" for id in self._erased]
        return told

    def _is_news(self) -> bool:
        """Whether a version has failed or recovered since, or the file of one that failed is
        another one."""
        for id, failure in self.fleet.open_versions.items():
            if (failure is None) == (id in self._failed):
                return True
        return any(failed.is_due for id, failed in self._failed.items() if id in self._released)

    async def _take_up(self, release: Sequence[Release]) -> None:
        number = release[0].number
        self._released = {one.version_id for one in release}
        known = {version.id: version for version in await self.store.versions.all()}
        history = await self.store.releases.history()
        if number != self.number:
            self.number = number
            self._failed.clear()
        shares = {
            one.version_id: one.share
            for one in release
            if await self._is_up(one.version_id, known.get(one.version_id))
        }
        self._answering_instead = None
        if not shares:
            shares = await self._otherwise(history, known)
        if not shares:
            return
        whole = sum(shares.values())
        shares = {id: share / whole for id, share in shares.items()}
        self.fleet.share(shares, number)
        for id in self.fleet.open_versions.keys() - shares.keys():
            await self.fleet.retire(id)
        if (number, shares) != self._told:
            self._told = number, shares
            for id, share in shares.items():
                self.log("serving", version=id, share=share, release=number)

    async def _otherwise(
        self, history: Sequence[Sequence[Release]], known: Mapping[str, KnownVersion]
    ) -> dict[str, float]:
        """Who answers where nobody of a release starts: nobody new while somebody does, else the
        last one that was released and starts; a version is passed over that learned from what was
        erased."""
        there = [id for id, failure in self.fleet.open_versions.items() if failure is None]
        if there:
            self._answering_instead = there[-1]
            self.log("release_not_taken_up", level=logging.WARNING, release=self.number)
            return {}
        for id in reversed(served(history)):
            version = known.get(id)
            if version and not version.erased_at and await self._is_up(id, version):
                self._answering_instead = id
                self.log("fallen_back", level=logging.WARNING, version=id, release=self.number)
                return {id: 1.0}
        return {}

    async def _is_up(self, id: str, version: KnownVersion | None) -> bool:
        """Whether a version can be asked; it is opened where it is not open."""
        path = Path(version.path) if version else Path()
        there = self.fleet.open_versions
        if id in there:
            failure = there[id]
        elif id in self._failed and not self._failed[id].is_due:
            return False
        else:
            failure = await self._failure_to_open(version)
        if failure is None:
            if id not in there or id in self._failed:
                self._failed.pop(id, None)
                await self._note(id, None)
            return True
        trouble = failure.what if isinstance(failure, GuildError) else type(failure).__name__
        before = self._failed.get(id)
        wait = min(2 * before.wait, LONGEST_SECONDS) if before else RETRY_SECONDS
        failed = Failed(path, _mark(path), trouble, wait, time.monotonic() + wait)
        self._failed[id] = failed
        if failed != before:
            self.log("version_failed", level=logging.WARNING, version=id, error=failure)
            await self._note(id, trouble)
        return False

    async def _failure_to_open(self, version: KnownVersion | None) -> Exception | None:
        if version is None:
            return ModelError("it is not in the store")
        self._hashes[version.id] = version.sha256
        try:
            await self.fleet.open(lambda: self.open_version(version))
        except Exception as error:  # whatever it is, others go on
            return error
        return None

    async def _opened(self, model: OpenedModel, death: EngineDied | None) -> None:
        """Before a model is asked anything: a released one is what it was released as, and answers
        a first question."""
        version = model.version
        if death:
            self.log("engine_died", error=death)
        if version.id in self._hashes:
            if version.sha256 != self._hashes[version.id]:
                raise ModelError(
                    "its file is another one than was registered",
                    where=version.path,
                    remedy="Put the right one back, or register and release the new one.",
                )
            ids = await asyncio.to_thread(model.prompt, [Message("user", FIRST_QUESTION)])
            if not (await complete(model.engine, ids, FIRST_ANSWER)).ids:
                raise ModelError("it says nothing to a first question", where=version.path)
        self.log("model_opened", version=version.id)
        await record(self.store, self.postponed, version)

    async def _note(self, id: str, trouble: str | None) -> None:
        await self.postponed.do(lambda: self.store.versions.started(id, trouble))


async def record(store: Store, postponed: Postponed, version: Version) -> None:
    """Have the store know a version that is open, and what it learned from."""
    learned = await asyncio.to_thread(read_lineage, version.path) if version.path else set()
    await postponed.do(lambda: store.versions.register(version, learned))


def _mark(path: Path) -> Mark | None:
    """What tells a file from another; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
