"""The bot from its start to its end: store, lease, model, health, Discord."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from guildgpt.bot.adapter.client import GuildClient
from guildgpt.bot.answers.service import Service
from guildgpt.bot.answers.systems import check_operators
from guildgpt.bot.operating.following import followed
from guildgpt.bot.operating.health import Metrics, health_server
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.errors import StoreError
from guildgpt.feedback.erasing.purging import purge
from guildgpt.feedback.storage.leases import holder_here, is_dead
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from guildgpt.talk.fleet import Fleet, Open
from guildgpt.talk.following import OpenVersion
from guildgpt.talk.moderation import moderators

log = EventLog(__name__)
LEASE_SECONDS = 15.0
SAVE_SECONDS = 2.0  # between writing down what has been read
LOOK_SECONDS = 5.0  # between looks whether the engine lives
LONGEST_LOOK_SECONDS = 60.0  # the same while it does not open
PURGE_SECONDS = 60.0
RETENTION_SECONDS = 6 * 3600.0
REWRITE_SECONDS = 15 * 60.0  # at least, between two times that the store's file is written anew
REWRITE_AT_LATEST = 3600.0  # ... though there may be somebody to answer

CLOCK_SECONDS = 24 * 3600.0  # by which the host's clock may be off for rows to be deleted by it


def run_bot(settings: BotSettings, *, open_it: Open | None = None) -> None:
    """Serve until SIGINT or SIGTERM; `open_it` opens what stands in for the model that `settings`
    name.

    Raises `GuildError` with words for what a person can mend: a wrong token, no model, a store
    that cannot be opened, a port that is taken.
    """

    async def until_signalled() -> None:
        stopping = asyncio.Event()
        with suppress(NotImplementedError):  # Windows knows Ctrl-C only, which cancels
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await serve(settings, open_it, stopping)

    asyncio.run(until_signalled())


async def serve(
    settings: BotSettings,
    open_it: Open | None,
    stopping: asyncio.Event,
    *,
    open_version: OpenVersion | None = None,
    **options: Any,
) -> None:
    """Be the bot until `stopping` is set, or another process has become it; `open_version` opens
    what stands in for a released version, `options` are discord.py's."""
    store = await Store.open(settings.store, key=member_key(settings.store))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        lease = await stack.enter_async_context(_lease(store, stopping))
        if stopping.is_set():
            return

        fleet = Fleet()
        stack.push_async_callback(fleet.close)
        metrics = Metrics()
        service = Service(
            store,
            fleet,
            settings,
            moderator=moderators(settings.moderation, settings.blocked_words),
            clock=time.monotonic,
            chance=random.Random(),
            metrics=metrics,
        )
        following = followed(
            store, fleet, service.postponed, settings, metrics, open_it, open_version
        )
        if await following.begin() and settings.model:
            log("settings_model_not_served", reason="a release goes before it")
        check_operators(await service.systems.generator.room(settings.system))
        client = await stack.enter_async_context(GuildClient(service, **options))
        keeper = Housekeeper(client, settings)
        metrics.answering.set_function(lambda: len(service.running))
        if settings.health_port is not None:

            def state() -> dict[str, bool]:
                return {
                    "discord": client.is_connected,
                    "engine": fleet.well,
                    "lease": not lease.done(),
                    "store": keeper.content,
                }

            await stack.enter_async_context(
                health_server(
                    settings.health_host,
                    settings.health_port,
                    metrics,
                    state,
                    lambda: following.warnings,
                )
            )
        keeping = [keeper.keep(), following.keep(), client.rounds.keep()]
        beside = [*keeping, _look_after(fleet, metrics), stopping.wait()]
        await _connected(client, keeper, lease, beside)


async def _look_after(fleet: Fleet, metrics: Metrics) -> None:
    """Look at the engines now and then, and open them anew where they died; for ever."""
    pause = LOOK_SECONDS
    while True:
        await asyncio.sleep(pause)
        try:
            await fleet.look()
            pause = LOOK_SECONDS
        except Exception as error:  # whatever it is, it may be mended
            log("engine_failed", error=error)
            metrics.failures.labels("engine").inc()
            pause = min(2 * pause, LONGEST_LOOK_SECONDS)


async def _connected(
    client: GuildClient,
    keeper: Housekeeper,
    lease: asyncio.Task[None],
    beside: Sequence[Coroutine[Any, Any, object]],
) -> None:
    """Be on Discord until the lease or one of the works `beside` ends."""
    talking = asyncio.create_task(client.talk())
    working = [asyncio.create_task(work) for work in beside]
    try:
        await asyncio.wait({talking, lease, *working}, return_when=asyncio.FIRST_COMPLETED)
        for task in (talking, *working):
            if task.done():
                task.result()
    finally:
        for task in working:
            task.cancel()
        await client.close()
        with suppress(StoreError):
            await keeper.write_down()
        talking.cancel()
        await asyncio.wait({talking, *working})


@dataclass(eq=False)
class Housekeeper:
    """Writes down what has been read and what was postponed, and deletes what is too old."""

    _client: GuildClient
    _settings: BotSettings
    _cleaned: float = float("-inf")
    _purged: float = float("-inf")
    _rewritten: float = float("-inf")
    _traces_since: float | None = None
    content: bool = True  # the store took what it was given last

    async def keep(self) -> None:
        """Go on for ever."""
        while True:
            try:
                await self.write_down()
                await self._clean()
                await self._scrub()
                await self._purge()
                self.content = True
            except StoreError as error:
                self.content = False
                log("store_failed", error=error)
            await asyncio.sleep(SAVE_SECONDS)

    async def write_down(self) -> None:
        """Everything that the store does not know yet; raises `StoreError`."""
        await self._client.service.postponed.catch_up()
        await self._client.marks.save()

    async def _clean(self) -> None:
        time_there = self._client.time
        if not time_there.is_told or abs(time_there.host_ahead) > CLOCK_SECONDS:
            return  # nothing is too old by a clock that may be wrong
        if time.monotonic() - self._cleaned > RETENTION_SECONDS:
            store = self._client.service.store
            await self._client.tell_guilds()  # what was still being written when one was left
            gone = await store.privacy.retain(self._settings.retention_days, scrub=False)
            since = datetime.now(UTC) - timedelta(days=self._settings.left_guild_days)
            left = await store.places.delete_left_guilds(since)
            self._cleaned = time.monotonic()
            rows = sum(gone.values()) + sum(left.counts.values())
            log("retention", rows=rows, versions=len(left.versions))

    async def _purge(self) -> None:
        """Take what was erased out of the folders of turns of the circle that lie on this host."""
        if time.monotonic() - self._purged > PURGE_SECONDS:
            self._purged = time.monotonic()
            try:
                if files := await purge(self._client.service.store):
                    log("purged", files=files)
            except OSError as error:
                log("purge_failed", error=error)

    async def _scrub(self) -> None:
        """Take what was deleted out of the store's files: out of the log soon, out of the file,
        which nobody can write to meanwhile, when nobody waits for an answer; at last in any case.
        """
        store, now = self._client.service.store, time.monotonic()
        if store.traces.in_log:
            await store.traces.empty_log()
        if not store.traces.in_file:
            self._traces_since = None
            return
        self._traces_since = self._traces_since or now
        is_late = now - self._traces_since > REWRITE_AT_LATEST
        if now - self._rewritten > REWRITE_SECONDS and (
            is_late or not self._client.service.running
        ):
            await store.traces.scrub()
            self._rewritten = self._traces_since = time.monotonic()
            log("scrubbed", seconds=round(self._rewritten - now, 2))


@asynccontextmanager
async def _lease(store: Store, stopping: asyncio.Event) -> AsyncGenerator[asyncio.Task[None]]:
    """Hold the right to answer: only one process with this store has it.

    Waits for it. Yields a task that ends when it was lost: then this process must be silent.
    """
    holder = holder_here()
    told = False
    while not stopping.is_set() and not await store.leases.acquire("bot", holder, LEASE_SECONDS):
        earlier = await store.leases.holder("bot")
        if earlier and is_dead(earlier):
            await store.leases.release("bot", earlier)
            continue
        if not told:
            log("waiting_for_lease")
            told = True
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), 1.0)
    renewing = asyncio.create_task(_renew(store, holder))
    try:
        yield renewing
    finally:
        renewing.cancel()
        with suppress(StoreError):
            await store.leases.release("bot", holder)


async def _renew(store: Store, holder: str) -> None:
    """Hold the lease until it is lost."""
    held_until = time.monotonic() + LEASE_SECONDS
    while time.monotonic() < held_until:
        await asyncio.sleep(LEASE_SECONDS / 4)
        asked = time.monotonic()
        try:
            if not await store.leases.acquire("bot", holder, LEASE_SECONDS):
                break
            held_until = asked + LEASE_SECONDS
        except StoreError as error:
            log("store_failed", error=error)
    log("lease_lost")
