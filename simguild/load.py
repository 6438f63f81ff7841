"""A whole crowd at once, with connections cut and the bot killed under it, and what came of it."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from simguild.fake import FakeDiscord, Interaction
from simguild.fake.interactions import MODAL_SUBMIT
from simguild.journal import Journal, missing_opinions
from simguild.members import live, script_of
from simguild.person import Person
from simguild.process import BotProcess

# Ways to lose a connection: by their names, what `FakeDiscord.drop` takes.
LOSSES: Mapping[str, Mapping[str, object]] = {
    "op 7": {"op": 7},
    "op 7, events repeated": {"op": 7, "duplicate": 10},
    "op 9 true": {"invalid": True},
    "op 9 false": {"invalid": False},
    "close 4000": {"code": 4000},
    "close 4000, events repeated": {"code": 4000, "duplicate": 10},
    "close 4007": {"code": 4007},
    "close 4009": {"code": 4009},
    "close 1001": {"code": 1001},
    "cut": {},
    "cut, events repeated": {"duplicate": 10},
    "cut, session forgotten": {"resume": False},
}


@dataclass(frozen=True)
class Plan:
    """How many, how long (seconds), and what happens to them.

    `pause` is how long a member does nothing between two rounds, `rate` the engine's tokens a
    second. `haste` divides the seconds that members think and pause. `losses` are the names of
    `LOSSES` that the reconnects take in turn.
    """

    members: int = 200
    guilds: int = 20
    steady: float = 60.0
    reconnects: int = 50
    kills: int = 10
    pause: tuple[float, float] = (10.0, 30.0)
    rate: float = 20.0
    haste: float = 1.0
    patience: float = 60.0
    seed: int = 0
    losses: tuple[str, ...] = tuple(LOSSES)


@dataclass
class Span:
    """A part of the time; `start` and `end` on the fake's clock, in seconds."""

    start: float
    end: float = float("inf")

    def __contains__(self, moment: float) -> bool:
        return self.start <= moment <= self.end


@dataclass
class Outcome:
    """What was measured; times in milliseconds, memory in MB (1e6 bytes), CPU in cores."""

    messages_ms: list[float] = field(default_factory=list)
    interactions_ms: list[float] = field(default_factory=list)
    answers_ms: list[float] = field(default_factory=list)
    asked: int = 0
    asked_while_away: int = 0
    answered: int = 0
    busiest: int = 0  # questions that waited for their answers at one moment
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    put_off: list[str] = field(default_factory=list)  # a sentence came in an answer's place
    failed_while_away: int = 0
    forms_outlived: int = 0  # forms sent to another process than the one that opened them
    late: list[str] = field(default_factory=list)
    opinions: int = 0
    opinions_missing: list[str] = field(default_factory=list)
    limited: Counter[str] = field(default_factory=Counter)  # 429s in the steady state, by route
    limited_later: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    reconnects: int = 0
    kills: int = 0
    rss_mb: float = 0.0
    cpu: float = 0.0
    own_cpu: float = 0.0  # of the process with the fake and the members
    lags_ms: list[float] = field(default_factory=list)  # by which that process was late itself
    seconds: float = 0.0
    status: int = 0  # the bot's exit status, in the end

    @property
    def broken(self) -> list[str]:
        """Everything that must not happen, in words."""
        ended = [f"the bot ended with status {self.status}"] if self.status else []
        limited = [f"{count} answers of 429: {what}" for what, count in self.limited.items()]
        groups = (self.violations, self.lost, self.doubled, self.unfinished, self.put_off)
        more = (self.late, self.opinions_missing)
        return [*ended, *limited, *(one for group in (*groups, *more) for one in group)]


async def run(plan: Plan, folder: Path, say: Callable[[str], None] = lambda text: None) -> Outcome:
    """Carry out the plan with the bot in a process of its own, its store and log in `folder`."""
    async with FakeDiscord() as fake:
        settings = {
            "message_content_intent": "true",
            "workers": plan.members,
            "queue_bound": plan.members,
            "log_level": "warning",
        }
        bot = BotProcess(fake, folder, engine=f"paced:{plan.rate:g}", settings=settings)
        crowd = Crowd(fake, plan)
        await bot.start()
        try:
            outcome = await _phases(plan, fake, bot, crowd, say)
        except BaseException:
            await bot.kill()
            raise
        outcome.status = await bot.stop()
        await _look_back(fake, bot, crowd, outcome)
        return outcome


class Crowd:
    """The members, each living by a script of theirs."""

    def __init__(self, fake: FakeDiscord, plan: Plan):
        self.journal = Journal()
        self._plan = plan
        self._people = []
        for index in range(plan.guilds):
            guild = fake.add_guild(f"guild {index}")
            channels = [guild.add_channel("general"), guild.add_channel("random")]
            for number in range(index, plan.members, plan.guilds):
                place = number // plan.guilds
                script = script_of(place, index)
                user = fake.add_user(f"{script.__name__}_{number}")
                guild.join(user)
                person = Person(
                    fake,
                    user,
                    channels[place % len(channels)],
                    self.journal,
                    random.Random(f"{plan.seed} {number}"),
                    haste=plan.haste,
                    patience=plan.patience,
                )
                self._people.append((person, script))
        self._lives: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """They come in, one by one within a pause."""
        pause = self._plan.pause
        self._lives = [
            asyncio.create_task(live(person, script, pause)) for person, script in self._people
        ]

    async def end(self, patience: float) -> None:
        """They stop asking; for so many seconds it is waited for the answers that lack."""
        for one in self._lives:
            one.cancel()
        ended = await asyncio.gather(*self._lives, return_exceptions=True)
        for problem in ended:
            if isinstance(problem, Exception):
                raise problem
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self.journal.faults:
                    await asyncio.sleep(0.5)

    @property
    def waiting(self) -> int:
        """Questions that are not answered yet."""
        latest = self.journal.asked[-4 * len(self._people) :]
        return sum(one.seen is None and not one.failed for one in latest)


async def _phases(
    plan: Plan, fake: FakeDiscord, bot: BotProcess, crowd: Crowd, say: Callable[[str], None]
) -> Outcome:
    chance, clock, outcome = random.Random(plan.seed), fake.world.clock, Outcome()
    began = clock()
    away: list[Span] = []
    say(f"{plan.members} members in {plan.guilds} guilds come in")
    crowd.begin()
    await asyncio.sleep(plan.pause[1] / plan.haste)

    say(f"steady for {plan.steady:g} s")
    steady, limited = Span(clock()), fake.limited
    await _steadily(plan.steady, bot, crowd, outcome)
    steady.end = clock()
    outcome.limited = fake.limited - limited

    for number in range(plan.reconnects):
        name = plan.losses[number % len(plan.losses)]
        say(f"reconnect {number + 1} of {plan.reconnects}: {name}")
        fake.drop(**LOSSES[name])  # type: ignore[arg-type]
        outcome.reconnects += 1
        # Until it is back: a session that died takes discord.py five seconds and more.
        await fake.until(lambda: fake.connected, timeout=60)
        await asyncio.sleep(chance.uniform(0.5, 2.0))

    for number in range(plan.kills):
        say(f"kill {number + 1} of {plan.kills}")
        with _away(away, clock):
            await bot.kill()
            await asyncio.sleep(chance.uniform(0.2, 3.0))
            await bot.start()
        outcome.kills += 1
        await asyncio.sleep(chance.uniform(3.0, 7.0))

    say("the members finish")
    await crowd.end(plan.patience)
    outcome.limited_later = fake.limited - limited - outcome.limited
    outcome.seconds = clock() - began
    _count(crowd.journal, steady, away, outcome)
    return outcome


@contextmanager
def _away(spans: list[Span], clock: Callable[[], float]) -> Iterator[None]:
    span = Span(clock())
    spans.append(span)
    yield
    span.end = clock()


async def _steadily(seconds: float, bot: BotProcess, crowd: Crowd, outcome: Outcome) -> None:
    """Watch the bot's process, and how late this one's own clock is."""
    process, own = psutil.Process(bot.pid), psutil.Process()
    clock = asyncio.get_running_loop().time
    began, before, own_before = clock(), process.cpu_times(), own.cpu_times()
    while clock() < began + seconds:
        outcome.rss_mb = max(outcome.rss_mb, process.memory_info().rss / 1e6)
        outcome.busiest = max(outcome.busiest, crowd.waiting)
        for _ in range(20):
            due = clock() + 0.05
            await asyncio.sleep(0.05)
            outcome.lags_ms.append((clock() - due) * 1000)
    outcome.cpu = _used(before, process.cpu_times()) / (clock() - began)
    outcome.own_cpu = _used(own_before, own.cpu_times()) / (clock() - began)


def _used(before: Any, after: Any) -> float:
    """Seconds of CPU between two of psutil's `cpu_times`."""
    return float(after.user + after.system - before.user - before.system)


def _count(journal: Journal, steady: Span, away: list[Span], outcome: Outcome) -> None:
    """Everything that the journal tells."""
    for one in journal.asked:
        if one.failed or one.expects == "silence":
            continue
        outcome.asked += 1
        outcome.answered += bool(one.answers)
        outcome.asked_while_away += any(one.at in span for span in away)
        if one.at in steady and one.message is not None and one.acknowledged_ms is not None:
            outcome.messages_ms.append(one.acknowledged_ms)
        if one.at in steady and one.seen is not None:
            outcome.answers_ms.append((one.seen - one.at) * 1000)
    for fault in journal.faults:
        lists = {
            "lost": outcome.lost,
            "unfinished": outcome.unfinished,
            "put": outcome.put_off,
        }
        lists.get(re.split("[: ]", fault)[0], outcome.doubled).append(fault)
    for interaction in journal.interactions:
        if interaction.acknowledged_ms is None:
            _count_failed(interaction, away, outcome)
        elif interaction.started in steady:
            outcome.interactions_ms.append(interaction.acknowledged_ms)


def _count_failed(one: Interaction, away: list[Span], outcome: Outcome) -> None:
    """An interaction failed: because the bot was not there, or because it was late?"""
    seconds = one.channel.world.limits.interaction_seconds
    if one.kind == MODAL_SUBMIT and any(span.end < one.started for span in away):
        outcome.forms_outlived += 1  # its process may be gone, and with it what it knew of the form
        return
    if one.undelivered or any(span.start - seconds <= one.started <= span.end for span in away):
        outcome.failed_while_away += 1
    else:
        what = one.data.get("name") or one.data.get("custom_id")
        outcome.late.append(f"late: {one.user.name} {what}")


async def _look_back(fake: FakeDiscord, bot: BotProcess, crowd: Crowd, outcome: Outcome) -> None:
    """What is in the store, and what limits were broken."""
    outcome.violations = list(fake.violations)
    outcome.opinions = len(crowd.journal.noted)
    async with await Store.open(bot.store, key=member_key(bot.store)) as store:
        outcome.opinions_missing = await missing_opinions(crowd.journal, store)
