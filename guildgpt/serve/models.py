"""Whom a server asks: the models that it was named, else whom the releases in its store want."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from guildgpt.errors import GuildError, StoreError
from guildgpt.feedback.messages.postponed import Postponed
from guildgpt.feedback.store import Store
from guildgpt.serve.metrics import Metrics
from guildgpt.talk.fleet import Fleet, OpenedModel
from guildgpt.talk.following import Following, Opening, record

log = logging.getLogger(__name__)
LOOK_SECONDS = 5.0  # between looks whether the engines live
WATCH_SECONDS = 2.0  # between looks whether the store takes what it did not take at once

# What the operator reads of what happens.
SENTENCES = {
    "serving": "{version} answers {share:.0%} of the conversations, as release {release} says",
    "version_failed": "{version} did not start and is left out: {error}",
    "release_not_taken_up": "nobody of release {release} starts: who answers goes on",
    "fallen_back": "nobody of release {release} starts: {version} answers, as before it",
    "engine_died": "an engine died and is opened anew: {error}",
    "store_failed": "the store is in trouble, and models answer all the same: {error}",
    "erased_meanwhile": "what was to be written was erased meanwhile",
}


class Told:
    """The log of the server, in sentences. A trouble of the store's is told once."""

    def __init__(self) -> None:
        self._trouble = ""

    def __call__(self, event: str, *, level: int = logging.INFO, **fields: Any) -> None:
        """Log an event with its fields; those without a sentence are nobody's business."""
        if event == "store_failed" and self._trouble == str(fields["error"]):
            return
        if event == "store_failed":
            level, self._trouble = logging.WARNING, str(fields["error"])
        if event in SENTENCES and (event != "serving" or "share" in fields):
            log.log(level, SENTENCES[event].format(**fields))

    def unforeseen(self, what: str, error: BaseException) -> None:
        """Log an error that nobody has foreseen, and where it was raised."""
        log.error(what, exc_info=error)

    def well(self) -> None:
        """The store takes what it is given."""
        if self._trouble:
            log.info("the store takes what it is given again")
        self._trouble = ""


@dataclass(eq=False)
class Models:
    """Keeps open whoever answers; `named` are the operator's models, which no release replaces."""

    fleet: Fleet
    opening: Opening
    named: Sequence[str]
    say: Callable[[str], None]
    told: Told = field(default_factory=Told)
    following: Following | None = None
    store_is_well: bool = False

    def __post_init__(self) -> None:
        self.postponed = Postponed(self.told)
        self._own = self.opening.of(None, self.say)

    async def use(self, store: Store) -> None:
        """Have the store know who is open, and follow its releases where no model was named."""

        async def known(model: OpenedModel, *_death: object) -> None:
            await record(store, self.postponed, model.version)

        if self.named:
            self.fleet.opened = known
        else:
            self.following = Following(
                store,
                self.fleet,
                self.postponed,
                self.told,
                own=self._own,
                open_version=self.opening.version,
            )
        for id in self.fleet.open_versions:
            with suppress(GuildError):  # it has died: it is recorded when it opens
                await self.fleet.ask(known, version=id, answers=False)

    async def open(self) -> None:
        """Open whoever answers, and say who does. Raises what opening the operator's own models
        raises."""
        if self.following:
            released = await self.following.begin()
        else:
            released = False
            for name in self.named:
                await self.fleet.open(self.opening.of(name, self.say))
            if not self.named:
                await self.fleet.open(self._own)
        for id in self.fleet.open_versions:
            self.say(f"{id.partition('@')[0]} is open as {id}.")
        if released:
            self.say(f"Release {self.fleet.release} is served, and what is released after it.")
        elif self.following:
            self.say("Nothing is released in the store yet: what will be is taken up.")
        elif self.named:
            self.say(
                "Releases are not followed, since a model is named: leave it out to follow them."
            )

    async def look_after(self) -> None:
        """Open engines anew that have died; for ever. Why one does not open is logged once."""
        logged = ""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.fleet.look()
                logged = ""
            except Exception as error:  # whatever it is, it may be mended
                if str(error) != logged:
                    log.error("an engine does not open: %s", error)
                logged = str(error)

    async def keep(self, store: Store) -> None:
        """Follow what is released, and write what waits; for ever."""
        following = [self.following.keep()] if self.following else []
        await asyncio.gather(self.watch(store), *following)

    @property
    def state(self) -> dict[str, Any]:
        """What anybody may know of the release and the store."""
        return {"release": self.fleet.release or None, "store": self.store_is_well}

    def show(self, metrics: Metrics) -> None:
        """Have the metrics tell of releases and of the store."""
        metrics.release.set_function(lambda: self.fleet.release)
        metrics.store.set_function(lambda: self.store_is_well)
        metrics.postponed.set_function(lambda: len(self.postponed))

    async def watch(self, store: Store) -> None:
        """Write what the store did not take at once, and see whether it is there; for ever."""
        while True:
            try:
                await self.postponed.catch_up()
                await store.releases.current()
                self.store_is_well = True
                self.told.well()
            except StoreError as error:
                self.store_is_well = False
                self.told("store_failed", error=error)
            except Exception as error:
                self.told.unforeseen("the store is not looked after", error)
            await asyncio.sleep(WATCH_SECONDS)
