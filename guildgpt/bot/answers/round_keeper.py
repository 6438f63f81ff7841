"""When rounds open and close: by Discord's clock, one channel beside another.

What is planned stands in each guild's settings, when a round closes in the store. So a start anew
goes on where it was, and a clock that is set back opens nothing twice. One that is set ahead opens
one round, not all that it passed over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from guildgpt.bot.answers.round_pairs import NoRound
from guildgpt.bot.answers.rounds import MayNotWrite, RoundDesk, RoundOutlet
from guildgpt.bot.answers.service import Service
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.operating.settings import RoundPlan
from guildgpt.bot.text import rounds as say
from guildgpt.errors import StoreError
from guildgpt.feedback.records import Round
from guildgpt.feedback.versions.betting import Standing
from guildgpt.feedback.versions.deciding import look
from guildgpt.feedback.voting.pool import fill_if_empty

log = EventLog(__name__)
LOOK_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 3600.0  # until what failed is tried again; twice each time
DECIDE_SECONDS = 3600.0  # where few people vote a candidate is decided on when a day is over
PERIODS: dict[say.Every, int] = {"daily": 86_400, "weekly": 7 * 86_400}


def due(plan: RoundPlan, now: int) -> int | None:
    """When the round closes that is to open now; None if there is none."""
    if plan.once is not None and plan.once > now:
        return plan.once
    if plan.every and plan.next_at <= now:
        return _next(plan.next_at, PERIODS[plan.every], now)
    return None


def at_that_time(plan: RoundPlan, now: int) -> RoundPlan | None:
    """The plan by a clock that may have been set: the next round is a period away at most; one that
    was wanted and whose time is over is wanted no more. None if nothing is left of it."""
    changes: dict[str, Any] = {}
    if plan.every and plan.next_at > now + PERIODS[plan.every]:
        changes["next_at"] = now + PERIODS[plan.every]
    if plan.once is not None and plan.once <= now:
        changes["once"] = None
    after = plan.model_copy(update=changes)
    return after if after.every or after.once is not None or after.stopped else None


def opened(plan: RoundPlan, closes_at: int) -> RoundPlan | None:
    """The plan once a round that closes then is there."""
    if plan.once == closes_at:
        plan = plan.model_copy(update={"once": None})
    elif plan.every:
        plan = plan.model_copy(update={"next_at": closes_at})
    return plan if plan.every or plan.once is not None else None


def _closes_at(round: Round) -> int:
    return int(round.closes_at.timestamp()) if round.closes_at else 0


def _is_there(last: Round | None, closes_at: int | None) -> bool:
    """Whether the channel's last round is the one that is to close then."""
    return last is not None and last.state != "cancelled" and _closes_at(last) == closes_at


def _next(at: int, period: int, now: int) -> int:
    """The first time after now that is so many periods after another one."""
    return at + ((now - at) // period + 1) * period


@dataclass
class _Trouble:
    what: say.Trouble
    pause: float
    again_at: float  # on the monotonic clock


@dataclass
class RoundKeeper:
    """Opens and closes the rounds of all guilds. `place` makes the outlet of a channel; `now` is
    Discord's time, None while nobody knows it; `present` are the guilds that the bot is in; `spawn`
    does work beside this."""

    service: Service
    place: Callable[[int], RoundOutlet]
    now: Callable[[], float | None]
    present: Callable[[], Collection[int]]
    spawn: Callable[[Coroutine[Any, Any, object]], None]
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _working: set[int] = field(default_factory=set)  # channels
    _trouble: dict[int, _Trouble] = field(default_factory=dict)
    _open: dict[str, Round] = field(default_factory=dict)
    _decided_at: float = float("-inf")

    def __post_init__(self) -> None:
        self.desk = RoundDesk(self.service, self.place)
        self.guilds, self.clock = self.service.guilds, self.service.clock

    async def keep(self) -> None:
        """Go on for ever."""
        while True:
            try:
                await self._look()
            except StoreError as error:
                log("store_failed", error=error)
            except Exception as error:
                log.unforeseen("rounds failed", error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), LOOK_SECONDS)
            self._wanted.clear()

    async def _look(self) -> None:
        """Begin what is due."""
        told = self.now()
        if told is None:
            return
        now = int(told)
        there = await self.desk.unended()
        await self._note(there)
        if self.clock() - self._decided_at > DECIDE_SECONDS:
            self._decided_at = self.clock()
            await self.desk.decide()
        channels = {one.channel_id: one.guild_id for one in there if self._is_due(one, now)}
        for guild_id in self.present():
            for channel_id, plan in (await self.guilds.rules(guild_id)).rounds.items():
                if (after := at_that_time(plan, now)) != plan:
                    await self.guilds.plan_rounds(
                        guild_id, channel_id, lambda plan: at_that_time(plan, now)
                    )
                if after and due(after, now) is not None:
                    channels[channel_id] = guild_id
        for found, guild in channels.items():
            if found is not None and guild is not None and self._may_begin(found):
                self._working.add(found)
                self.spawn(self._work(guild, found, now))

    @staticmethod
    def _is_due(round: Round, now: int) -> bool:
        return _closes_at(round) <= now or round.state != "open"

    def _may_begin(self, channel_id: int) -> bool:
        trouble = self._trouble.get(channel_id)
        is_early = trouble is not None and trouble.again_at > self.clock()
        return channel_id not in self._working and not is_early

    async def _note(self, there: Collection[Round]) -> None:
        """Which rounds are open; those that are gone from the store were erased."""
        before, self._open = self._open, {one.id: one for one in there}
        for one in there:
            if one.state == "open" and one.id not in before and not self.desk.knows(one):
                self.spawn(self.desk.recall(one))
        for id in before.keys() - self._open.keys():
            if await self.desk.store.rounds.by_id(id) is None:
                self.spawn(self.desk.withdrawn(before[id]))

    async def _work(self, guild_id: int, channel_id: int, now: int) -> None:
        """Do in a channel what is due there; what fails is done later."""
        try:
            await self._end_and_open(guild_id, channel_id, now)
            self._trouble.pop(channel_id, None)
        except MayNotWrite:
            log("rounds_stopped", guild=guild_id)
            await self.guilds.plan_rounds(guild_id, channel_id, lambda _: RoundPlan(stopped=True))
            self._trouble.pop(channel_id, None)
        except NoRound as error:
            self._failed(guild_id, channel_id, error.trouble)
        except StoreError as error:
            log("store_failed", error=error)
            self._failed(guild_id, channel_id, "store")
        finally:
            self._working.discard(channel_id)

    async def _end_and_open(self, guild_id: int, channel_id: int, now: int) -> None:
        for one in await self.desk.unended(channel_id):
            if one.state == "closing" or _closes_at(one) <= now:
                await self.desk.close(one)
            elif one.state == "posting":
                await self.desk.post(one, again=True)
        plan = (await self.guilds.rules(guild_id)).rounds.get(channel_id)
        closes_at = due(plan, now) if plan else None
        if closes_at is None:
            return
        last = await self.desk.store.rounds.last_in(channel_id)
        if not _is_there(last, closes_at):
            await self.desk.open(guild_id, channel_id, closes_at)
        await self.guilds.plan_rounds(guild_id, channel_id, lambda plan: opened(plan, closes_at))

    def _failed(self, guild_id: int, channel_id: int, what: say.Trouble) -> None:
        before = self._trouble.get(channel_id)
        pause = min(2 * before.pause, LONGEST_PAUSE) if before else FIRST_PAUSE
        self._trouble[channel_id] = _Trouble(what, pause, self.clock() + pause)
        log("round_put_off", guild=guild_id, reason=what, again_in=pause)

    # What happens to rounds

    def message_deleted(self, message_id: int) -> None:
        """A message was deleted at Discord."""
        if id := self.desk.holding(message_id, self._open.values()):
            self._open.pop(id, None)
            self.spawn(self.desk.message_deleted(id, message_id))

    # What admins want

    async def now_in(self, guild_id: int, channel_id: int, mention: str, hours: int) -> str:
        """A round in a channel as soon as it is written; what to tell the admin."""
        now = int(self.now() or 0)
        plan = (await self.guilds.rules(guild_id)).rounds.get(channel_id) or RoundPlan()
        last = await self.desk.store.rounds.last_in(channel_id)
        if (plan.once or 0) > now and not _is_there(last, plan.once):
            return say.POSTING
        if trouble := await self._lacking(guild_id):
            return say.cannot(trouble)
        closes_at = now + hours * 3600
        if last and _closes_at(last) == closes_at:  # by that it would pass for this one
            closes_at += 1
        await self._plan(guild_id, channel_id, once=closes_at)
        return say.on_its_way(mention, closes_at)

    async def every(self, guild_id: int, channel_id: int, mention: str, every: say.Every) -> str:
        """A round every day or week, the first one now."""
        now = int(self.now() or 0)
        await self._plan(guild_id, channel_id, every=every, next_at=now)
        trouble = await self._lacking(guild_id)
        told = say.scheduled(every, mention)
        return f"{told}\n{say.cannot(trouble)}" if trouble else told

    async def off(self, guild_id: int, channel_id: int, mention: str) -> str:
        """No more rounds."""
        was_on = channel_id in (await self.guilds.rules(guild_id)).rounds
        await self.guilds.plan_rounds(guild_id, channel_id, lambda _: None, seen=True)
        self._trouble.pop(channel_id, None)
        return say.switched_off(mention, was_on=was_on)

    async def _plan(self, guild_id: int, channel_id: int, **changes: Any) -> None:
        changes["stopped"] = False
        await self.guilds.plan_rounds(
            guild_id, channel_id, lambda plan: plan.model_copy(update=changes), seen=True
        )
        self._trouble.pop(channel_id, None)
        self._wanted.set()

    async def _lacking(self, guild_id: int) -> say.Trouble | None:
        decision, _ = await self.desk.purpose(guild_id)
        await fill_if_empty(self.desk.store)
        pool = await self._pool()
        return None if pool["decide" if decision else "train"] else "empty"

    async def _pool(self) -> Counter[str]:
        return Counter(one.purpose for one in await self.desk.store.prompts.all("accepted"))

    async def status(self, guild_id: int) -> str:
        """How the guild's rounds stand."""
        await self.desk.decide()  # with a day that is over, say
        rules = await self.guilds.rules(guild_id)
        channels = [
            say.Channel(f"<#{id}>", plan.every, plan.next_at, plan.stopped, self._trouble_in(id))
            for id, plan in rules.rounds.items()
        ]
        there = [
            say.OpenRound(
                f"<#{one.round.channel_id}>",
                len(one.votes),
                _closes_at(one.round),
                one.round.decision_id is not None,
            )
            for one in await self.desk.store.rounds.ballots(states=("open",))
            if one.round.guild_id == guild_id and one.round.place == "discord"
        ]
        return say.status(
            channels,
            there,
            await self._pool(),
            await self._standing(),
            deleted=rules.rounds_deleted,
        )

    def _trouble_in(self, channel_id: int) -> say.Trouble | None:
        trouble = self._trouble.get(channel_id)
        return trouble.what if trouble else None

    async def _standing(self) -> tuple[str, Standing] | None:
        """The state of the candidate that is decided on, or of the last one that was not chosen,
        and what its rounds say."""
        store = self.desk.store
        newest = [await store.decisions.current(), *await store.decisions.all()][:2]
        decision = next((one for one in newest if one is not None), None)
        if decision is None or decision.state in ("promoted", "dropped"):
            return None
        decision, standing = await look(store, decision)
        return decision.state, standing
