"""The bot follows the releases in its store: who is released is opened, asked once, and takes over.

A version that does not start is left out: its share goes to the others, and the operator is told in
the log, in `guildgpt versions list` and on /healthz. It is tried again when the release or its file
changes, and now and then: memory or disk may have been short. Where nobody of a release starts,
whoever answers goes on; after a restart it is the last one that was released and starts, and
without any the model that the settings name.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from guildgpt.bot.operating.health import Metrics
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.operating.postponed import Postponed, or_else
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.chat import Message
from guildgpt.engines.engine import SamplingParams, complete
from guildgpt.engines.served_at import served_at
from guildgpt.errors import EngineDied, GuildError, ModelError, StoreError
from guildgpt.feedback.records import Release
from guildgpt.feedback.releasing import served
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions import KnownVersion
from guildgpt.model.lineage import read_lineage
from guildgpt.model.locate import Located, locate, located_at
from guildgpt.talk.fleet import Fleet, Open, OpenedModel, open_model

log = EventLog(__name__)
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
class Following:
    """Keeps the fleet as the newest release wants it.

    `open_own` opens the model that the settings name, or what stands in for it; `open_version`
    a version of a release. Both run in a thread.
    """

    store: Store
    fleet: Fleet
    postponed: Postponed
    settings: BotSettings
    metrics: Metrics
    open_own: Open | None = None
    open_version: OpenVersion | None = None
    _number: int = 0  # of the release that was taken up
    _hashes: dict[str, str] = field(default_factory=dict)  # of the versions that were released
    _failed: dict[str, Failed] = field(default_factory=dict)
    _released: set[str] = field(default_factory=set)  # whom the newest release names
    _answering_instead: str | None = None
    _erased: list[str] = field(default_factory=list)  # who is open, and learned from what was
    _told: tuple[int, Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        self.fleet.opened = self._opened

    async def begin(self) -> None:
        """Open whoever answers; raises what opening the settings' model raises where it is that."""
        release = await or_else([], self.store.releases.current())
        if release:
            with suppress(StoreError):
                await self._take_up(release)
        if not self.fleet.open_versions:
            if self.open_own is None:
                self.open_own = await asyncio.to_thread(_located, self.settings)
            version = await self.fleet.open(self.open_own)
            self._answering_instead = version.id if release else None
            log("serving", version=version.id, reason="the settings name it")
        elif self.settings.model:
            log("settings_model_not_served", reason="a release goes before it")

    async def keep(self) -> None:
        """Follow for ever."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                await self.look()
            except StoreError:
                continue  # who answers goes on, and the housekeeper tells of it
            except Exception as error:
                log.unforeseen("release not taken up", error)

    async def look(self) -> None:
        """Take up what is new. Raises StoreError."""
        release = await self.store.releases.current()
        known = await self.store.versions.all()
        self._erased = [
            one.id for one in known if one.erased_at and one.id in self.fleet.open_versions
        ]
        if release and (release[0].number != self._number or self._is_news()):
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
        if number != self._number:
            self._number = number
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
                log("serving", version=id, share=share, release=number)

    async def _otherwise(
        self, history: Sequence[Sequence[Release]], known: Mapping[str, KnownVersion]
    ) -> dict[str, float]:
        """Who answers where nobody of a release starts: nobody new while somebody does, else the
        last one that was released and starts; a version is passed over that learned from what was
        erased."""
        there = [id for id, failure in self.fleet.open_versions.items() if failure is None]
        if there:
            self._answering_instead = there[-1]
            log("release_not_taken_up", level=logging.WARNING, release=self._number)
            return {}
        for id in reversed(served(history)):
            version = known.get(id)
            if version and not version.erased_at and await self._is_up(id, version):
                self._answering_instead = id
                log("fallen_back", level=logging.WARNING, version=id, release=self._number)
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
            log("version_failed", level=logging.WARNING, version=id, error=failure)
            self.metrics.failures.labels("version").inc()
            await self._note(id, trouble)
        return False

    async def _failure_to_open(self, version: KnownVersion | None) -> Exception | None:
        if version is None:
            return ModelError("it is not in the store")
        opening = self.open_version or self._open
        self._hashes[version.id] = version.sha256
        try:
            await self.fleet.open(lambda: opening(version))
        except Exception as error:  # whatever it is, others go on
            return error
        return None

    def _open(self, version: KnownVersion) -> OpenedModel:
        """A version under the id that it was released by."""
        settings = self.settings
        found = located_at(Path(version.path), version.name)
        opened = _open(found, settings)
        return replace(
            opened, identify=lambda: replace(opened.identify(), id=version.id, name=version.name)
        )

    async def _opened(self, model: OpenedModel, death: EngineDied | None) -> None:
        """Before a model is asked anything: a released one is what it was released as, and answers
        a first question."""
        version = model.version
        if death:
            log("engine_died", error=death)
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
        log("model_opened", version=version.id)
        learned = await asyncio.to_thread(read_lineage, version.path) if version.path else set()
        await self.postponed.do(lambda: self.store.versions.register(version, learned))

    async def _note(self, id: str, trouble: str | None) -> None:
        await self.postponed.do(lambda: self.store.versions.started(id, trouble))


def _mark(path: Path) -> Mark | None:
    """What tells a file from another; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _located(settings: BotSettings) -> Open:
    """How to open the model that the settings name."""
    found = locate(settings.model, on_progress=lambda text: log("fetching_model"))
    return lambda: _open(found, settings)


def _open(found: Located, settings: BotSettings) -> OpenedModel:
    at = served_at(settings.engine)
    return open_model(found, context=settings.context, slots=settings.slots, at=at)
