"""Marks: however the bot is killed, cut off and started anew, no question is lost.

A small world is played through: shards with channels, some of direct messages; people who write;
Discord, which tells each shard in order and a little later; a bot that hears, claims in its own
time, saves its marks, reads what it missed, and dies. At the end everything is read, and every
question has been claimed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guildgpt.bot.adapter import marks as marks_module
from guildgpt.bot.adapter.discord_time import DiscordTime, first_id
from guildgpt.bot.adapter.marks import EVERYWHERE, Marks
from guildgpt.feedback.store import Store

START = 1_700_000_000.0
TICK = 10.0  # seconds between two steps
LATE = 2  # steps within which Discord tells of a message, or the line is known to be dead
SHARDS, CHANNELS = 2, 2  # of each shard


class Table:
    """What of the store marks need, its `places`; it outlasts the bot."""

    def __init__(self) -> None:
        self.places = self
        self.seen: dict[int, tuple[int | None, int]] = {}
        self.claimed: set[int] = set()

    async def marks(self) -> dict[int, tuple[int | None, int]]:
        return dict(self.seen)

    async def see_all(self, marks: Mapping[int, tuple[int | None, int]]) -> None:
        for id, (guild, read) in marks.items():
            if read > self.seen.get(id, (None, -1))[1]:
                self.seen[id] = guild, read

    def claim(self, channel: int, message: int) -> None:
        self.claimed.add(message)
        if is_direct(channel):
            self.seen.setdefault(channel, (None, 0))


def shard_of(channel: int) -> int:
    return channel // 10 - 1


def is_direct(channel: int) -> bool:
    """The first shard has a channel of direct messages, which is known once it was claimed in."""
    return channel == 11


ALL = [10 * (shard + 1) + number for shard in range(SHARDS) for number in range(CHANNELS)]


@dataclass
class Line:
    """A shard's session: what Discord has yet to tell it, and what its bot knows of it."""

    told: list[tuple[int, int]] = field(default_factory=list)  # channel, message: on their way
    alive: bool = True  # Discord tells; the bot may believe so a while longer
    known_dead: bool = False
    caught_up: bool = False


class Bot:
    """One process."""

    def __init__(self, world: World):
        self.world = world
        self.time = DiscordTime(monotonic=lambda: world.now, host=lambda: 0.0)
        self.time.told(world.now)
        self.marks = Marks(cast(Store, world.table), self.time)
        self.marks.shards = frozenset(range(SHARDS))
        self.lines: dict[int, Line] = {}
        self.claiming: list[tuple[int, int, ExitStack]] = []

    async def begin(self) -> None:
        await self.marks.begin()

    def hear(self, channel: int, message: int) -> None:
        guild = None if is_direct(channel) else shard_of(channel)
        stack = ExitStack()
        stack.enter_context(self.marks.handling(channel, message, guild))
        self.claiming.append((channel, message, stack))

    def claim(self, number: int) -> None:
        if self.claiming:
            channel, message, stack = self.claiming.pop(number % len(self.claiming))
            self.world.table.claim(channel, message)
            stack.close()

    def connect(self, shard: int) -> None:
        if shard not in self.lines or self.lines[shard].known_dead:
            self.marks.behind(shard)
            self.lines[shard] = Line()

    def resume(self, shard: int) -> None:
        """Discord tells what it could not tell, and then goes on."""
        line = self.lines.get(shard)
        if line and line.known_dead:
            line.alive, line.known_dead = True, False
            for channel, message in line.told:
                self.hear(channel, message)
            line.told.clear()
            if line.caught_up:
                self.marks.caught_up(shard)

    def cut(self, shard: int) -> None:
        if line := self.lines.get(shard):
            line.alive = False

    def notice(self, shard: int) -> None:
        line = self.lines.get(shard)
        if line and not line.alive and not line.known_dead:
            line.known_dead = True
            self.marks.behind(shard)

    def tell(self, shard: int) -> None:
        line = self.lines.get(shard)
        if line and line.alive and line.told:
            self.hear(*line.told.pop(0))

    async def read(self, shard: int) -> None:
        """The new session's past."""
        line = self.lines.get(shard)
        if line is None or line.caught_up or not line.alive:
            return
        missed = await self.marks.missed()
        for channel, messages in self.world.messages.items():
            known = channel in missed.direct or not is_direct(channel)
            if shard_of(channel) == shard and known:
                for message in messages:
                    if message > missed.after(channel):
                        self.hear(channel, message)
        line.caught_up = True
        self.marks.caught_up(shard)


class World:
    """All there is."""

    def __init__(self) -> None:
        self.now = START
        self.table = Table()
        self.messages: dict[int, list[int]] = {channel: [] for channel in ALL}
        self.sent = itertools.count()
        self.bot: Bot | None = None
        self.old: set[int] = set()  # written before the bot was ever there

    async def start(self) -> None:
        self.bot = Bot(self)
        await self.bot.begin()

    def say(self, channel: int) -> None:
        message = first_id(self.now) + next(self.sent)
        self.messages[channel].append(message)
        line = self.bot.lines.get(shard_of(channel)) if self.bot else None
        if line:
            line.told.append((channel, message))

    def pass_(self) -> None:
        """Discord tells within its time, and a dead line is known for dead within it."""
        self.now += TICK
        if self.bot is None:
            return
        oldest = first_id(self.now - LATE * TICK)
        for shard, line in self.bot.lines.items():
            if not line.alive and line.told and line.told[0][1] < oldest:
                self.bot.notice(shard)
            while line.alive and line.told and line.told[0][1] < oldest:
                self.bot.tell(shard)

    async def do(self, step: str, number: int) -> None:
        bot, shard = self.bot, number % SHARDS
        if step == "say":
            self.say(ALL[number % len(ALL)])
        elif step == "kill":
            self.bot = None
        elif bot is None:
            if step == "start":
                await self.start()
        elif step == "read":
            await bot.read(shard)
        elif step == "come back":
            for one in range(SHARDS):
                bot.connect(one)
                await bot.read(one)
        elif step == "save":
            await bot.marks.save()
        elif step in ("connect", "resume", "cut", "notice", "tell", "claim"):
            getattr(bot, step)(number if step == "claim" else shard)
        self.pass_()

    async def end(self) -> None:
        """A last start, in which everything is read."""
        self.bot = None
        await self.start()
        assert self.bot is not None
        for shard in range(SHARDS):
            self.bot.connect(shard)
            await self.bot.read(shard)
        while self.bot.claiming:
            self.bot.claim(0)

    def lost(self) -> set[int]:
        known = {id for id in ALL if not is_direct(id) or id in self.table.seen}
        said = {message for id in known for message in self.messages[id]}
        return said - self.old - self.table.claimed


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Times in steps of this world."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marks_module, "LATE_SECONDS", (LATE + 1) * TICK)
        patch.setattr(marks_module, "STEP_SECONDS", 0.0)
        yield


STEPS = (
    *("say", "tell", "claim", "save", "come back", "start", "kill"),
    *("connect", "read", "cut", "notice", "resume", "say", "start", "save"),
)


async def played(steps: list[tuple[str, int]]) -> World:
    world = World()
    world.say(ALL[0])
    world.say(ALL[-1])
    world.old = {message for said in world.messages.values() for message in said}
    world.pass_()
    await world.start()
    for step, number in steps:
        await world.do(step, number)
    await world.end()
    return world


@given(
    st.lists(
        st.tuples(st.sampled_from(STEPS), st.integers(0, 7)),
        max_size=60,
    )
)
@settings(deadline=None, max_examples=1000)
def test_no_question_is_lost_whatever_happens_in_whatever_order(
    steps: list[tuple[str, int]],
) -> None:
    world = asyncio.run(played(steps))
    assert world.lost() == set()
    assert not world.old & world.table.claimed


def test_no_question_is_lost_in_any_order_of_coming_back() -> None:
    """All orders of what two shards do when they come back, each with a question of the gap."""
    back = [
        *[("connect", shard) for shard in range(SHARDS)],
        *[("read", shard) for shard in range(SHARDS)],
        ("say", 3),
        ("claim", 0),
        ("save", 0),
    ]
    gap = [("kill", 0), ("say", 0), ("say", 2), ("start", 0)]

    async def play() -> None:
        for order in itertools.permutations(back):
            world = await played([*gap, *order, ("kill", 0)])
            assert world.lost() == set(), order

    asyncio.run(play())


async def test_the_common_mark_moves_on_where_nothing_is_said() -> None:
    world = World()
    await world.start()
    bot: Any = world.bot
    for shard in range(SHARDS):
        bot.connect(shard)
        await bot.read(shard)
    begun = world.table.seen[EVERYWHERE][1]
    for _ in range(LATE + 3):
        world.pass_()
        await bot.marks.save()
    assert begun < world.table.seen[EVERYWHERE][1] < first_id(world.now)


async def test_of_a_guild_that_was_left_nothing_is_written_down() -> None:
    world = World()
    await world.start()
    bot: Any = world.bot
    for channel, guild in ((31, 3), (32, 3), (41, 4)):
        with bot.marks.handling(channel, first_id(world.now), guild):
            if channel == 32:
                bot.marks.forget_guild(3)
    for shard in range(SHARDS):
        bot.connect(shard)
        await bot.read(shard)
    await bot.marks.save()
    assert world.table.seen.keys() == {EVERYWHERE, 41}
