"""The fair queue: everyone's turn comes, and whoever leaves leaves no trace."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guildgpt.talk.waiting import Busy, FairQueue, TooMany


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def queue_of(clock: Clock, workers: int = 1, **limits: int) -> FairQueue:
    return FairQueue(
        workers, **{"bound": 1000, "rate": 1000, "per_user": 100} | limits, clock=clock
    )


class Guild:
    """Members who ask, and somebody who ends their turns one by one."""

    def __init__(self, queue: FairQueue, clock: Clock | None = None):
        self.queue = queue
        self.clock = clock
        self.order: list[tuple[int | None, int]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._running: list[asyncio.Event] = []

    async def ask(self, guild: int | None, user: int) -> asyncio.Task[None]:
        task = asyncio.create_task(self._ask(guild, user))
        self.tasks.append(task)
        await settle()
        return task

    async def _ask(self, guild: int | None, user: int) -> None:
        async with self.queue.turn(guild=guild, user=user):
            self.order.append((guild, user))
            done = asyncio.Event()
            self._running.append(done)
            await done.wait()

    async def end_one(self, seconds: float = 1.0) -> None:
        if self.clock:
            self.clock.now += seconds
        self._running.pop(0).set()
        await settle()

    async def end_all(self) -> None:
        while self._running:
            await self.end_one()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def empty(queue: FairQueue) -> bool:
    return (queue.running, queue.waiting) == (0, 0) and not queue._guilds


async def test_guilds_take_turns_and_members_inside_them(clock: Clock) -> None:
    guild = Guild(queue_of(clock))
    for where, who in [
        (1, 1),
        (1, 1),
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 9),
        (2, 9),
        (None, 5),
        (None, 6),
    ]:
        await guild.ask(where, who)
    await guild.end_all()
    assert guild.order == [
        (1, 1), (1, 1), (2, 9), (None, 5), (None, 6), (1, 2), (2, 9), (1, 3), (1, 1),
    ]  # fmt: skip
    assert empty(guild.queue)


async def test_as_many_turns_at_once_as_there_are_workers(clock: Clock) -> None:
    guild = Guild(queue_of(clock, workers=3))
    for user in range(5):
        await guild.ask(1, user)
    assert (len(guild.order), guild.queue.running, guild.queue.waiting) == (3, 3, 2)
    await guild.end_one()
    assert (len(guild.order), guild.queue.running, guild.queue.waiting) == (4, 3, 1)
    await guild.end_all()
    assert empty(guild.queue)


steps = st.lists(
    st.tuples(st.just("ask"), st.sampled_from([1, 2, 3, None]), st.integers(0, 4))
    | st.tuples(st.sampled_from(["end", "cancel"]), st.integers(0, 100), st.just(0)),
    max_size=60,
)


@given(steps, st.integers(1, 3))
@settings(deadline=None)
def test_nobody_starves(steps: list[tuple[str, int | None, int]], workers: int) -> None:
    """While a member waits, every other member of the guild has one turn at most, and between two
    turns of the guild every other guild has one at most."""

    async def play() -> None:
        guild = Guild(queue_of(Clock(), workers))
        # The waiting questions: who asked where, and how many turns had begun by then.
        waiting: dict[asyncio.Task[None], tuple[int | None, int, int]] = {}
        for kind, one, two in [*steps, *[("end", 0, 0)] * len(steps)]:
            if kind == "ask":
                busy = guild.queue.running == workers
                task = await guild.ask(one, two)
                if busy:
                    waiting[task] = (one, two, len(guild.order))
            elif kind == "cancel" and waiting:
                task = list(waiting)[(one or 0) % len(waiting)]
                del waiting[task]
                task.cancel()
                await settle()
                assert guild.queue.waiting == len(waiting)
            elif kind == "end" and guild._running:
                begun = len(guild.order)
                await guild.end_one()
                for turn in guild.order[begun:]:
                    task = next(t for t, place in waiting.items() if place[:2] == turn)
                    since = waiting.pop(task)[2]
                    check(guild.order[since:begun], *turn)
        assert empty(guild.queue)

    def check(between: list[tuple[int | None, int]], where: int | None, who: int) -> None:
        own = between.count((where, who))  # earlier questions of the same member
        guilds = Counter((guild, user if guild is None else 0) for guild, user in between)
        rounds = guilds.pop((where, who if where is None else 0), 0)
        assert max(guilds.values(), default=0) <= rounds + 1
        mates = Counter(turn for turn in between if turn[0] == where and turn[1] != who)
        if where is not None:
            assert max(mates.values(), default=0) <= own + 1

    asyncio.run(play())


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3, None]), st.integers(0, 4)), max_size=30))
@settings(deadline=None)
def test_the_place_in_the_queue_is_told_as_it_comes(asks: list[tuple[int | None, int]]) -> None:
    async def play() -> None:
        guild = Guild(queue_of(Clock()))
        await guild.ask(9, 9)
        for index, (where, who) in enumerate(asks):
            new = (where, who) not in asks[:index]
            ahead = guild.queue.ahead(where, who)
            await guild.ask(where, who)
            assert not new or guild.queue.ahead(where, who) == ahead
        last = {turn: guild.queue.ahead(*turn) for turn in asks}
        await guild.end_all()
        assert last == {turn: place for place, turn in enumerate(guild.order[1:])}

    asyncio.run(play())


async def test_a_cancelled_question_leaves_no_trace(clock: Clock) -> None:
    guild = Guild(queue_of(clock))
    await guild.ask(1, 1)
    waiting = [await guild.ask(1, user) for user in (2, 3, 4)]
    waiting[1].cancel()
    await settle()
    assert guild.queue.waiting == 2
    assert guild.queue.ahead(1, 4) == 1
    await guild.end_all()
    assert [user for _, user in guild.order] == [1, 2, 4]
    assert empty(guild.queue)


async def test_one_that_is_cancelled_as_its_turn_comes_hands_it_on(clock: Clock) -> None:
    guild = Guild(queue_of(clock))
    await guild.ask(1, 1)
    second, _ = await guild.ask(1, 2), await guild.ask(1, 3)
    guild._running.pop(0).set()
    await asyncio.sleep(0)  # the first leaves, the second's turn is there but not taken
    second.cancel()
    await settle()
    assert guild.order == [(1, 1), (1, 3)]
    await guild.end_all()
    assert empty(guild.queue)


async def test_a_turn_that_fails_is_over(clock: Clock) -> None:
    queue = queue_of(clock)
    with pytest.raises(RuntimeError):
        async with queue.turn(guild=1, user=1):
            raise RuntimeError
    async with queue.turn(guild=None, user="a hash"):
        assert queue.running == 1
    assert empty(queue)


async def test_the_bound_says_how_long_it_would_take(clock: Clock) -> None:
    guild = Guild(queue_of(clock, workers=2, bound=3), clock)
    for user in range(5):
        await guild.ask(user, user)
    with pytest.raises(Busy) as caught:
        async with guild.queue.turn(guild=9, user=9):
            pass
    assert caught.value.seconds == 4 * 15 / 2  # nothing has been seen yet: a guess
    assert caught.value.remedy == "Ask again later; the wait would be about 30 seconds now."
    await guild.end_one(10.0)
    await guild.ask(7, 7)
    with pytest.raises(Busy) as caught:
        async with guild.queue.turn(guild=9, user=9):
            pass
    assert caught.value.seconds == pytest.approx(4 * 10 / 2)
    await guild.end_all()
    assert empty(guild.queue)


async def test_the_estimate_follows_how_long_turns_take(clock: Clock) -> None:
    guild = Guild(queue_of(clock), clock)
    assert guild.queue.estimate(1, 1) == 0
    await guild.ask(1, 1)
    await guild.end_one(10.0)
    assert guild.queue.estimate(1, 1) == 0  # somebody is idle
    await guild.ask(1, 1)
    assert guild.queue.estimate(1, 2) == 10
    await guild.ask(1, 2)
    assert guild.queue.ahead(1, 2) == 0
    assert guild.queue.estimate(1, 2) == 10
    assert guild.queue.estimate(2, 3) == 20
    await guild.end_one(20.0)
    assert guild.queue.estimate(2, 3) == pytest.approx(12)
    await guild.end_all()


async def test_waiting_questions_of_one_member_are_limited_everywhere(clock: Clock) -> None:
    guild = Guild(queue_of(clock, per_user=1), clock)
    await guild.ask(1, 1)
    await guild.ask(1, 1)
    for where in (1, 2, None):
        with pytest.raises(TooMany, match="a question of yours is waiting") as caught:
            async with guild.queue.turn(guild=where, user=1):
                pass
        assert caught.value.seconds >= 15
    await guild.ask(1, 2)
    await guild.end_all()
    assert guild.order == [(1, 1), (1, 1), (1, 2)]


async def test_the_rate_of_one_member_is_limited(clock: Clock) -> None:
    queue = queue_of(clock, workers=5, rate=3)
    for _ in range(3):
        async with queue.turn(guild=1, user=1):
            pass
    with pytest.raises(TooMany, match="quicker than I can answer") as caught:
        async with queue.turn(guild=2, user=1):
            pass
    assert caught.value.seconds == 20
    async with queue.turn(guild=1, user=2):
        pass
    clock.now = 19.9
    with pytest.raises(TooMany) as caught:
        async with queue.turn(guild=1, user=1):
            pass
    assert caught.value.seconds == pytest.approx(0.1)
    clock.now = 20.1
    async with queue.turn(guild=1, user=1):
        pass
    with pytest.raises(TooMany):
        async with queue.turn(guild=1, user=1):
            pass
    clock.now = 200
    for _ in range(3):
        async with queue.turn(guild=1, user=1):
            pass


async def test_a_refusal_costs_nothing(clock: Clock) -> None:
    guild = Guild(queue_of(clock, bound=0, rate=1), clock)
    await guild.ask(1, 1)
    for _ in range(3):
        with pytest.raises(Busy):
            async with guild.queue.turn(guild=1, user=2):
                pass
    await guild.end_all()
    async with guild.queue.turn(guild=1, user=2):
        pass
    assert empty(guild.queue)


async def test_members_are_forgotten(clock: Clock) -> None:
    queue = queue_of(clock)
    for user in range(1000):
        clock.now += 1
        async with queue.turn(guild=user, user=user):
            pass
    assert len(queue._whole_at) <= 61
    assert empty(queue)
