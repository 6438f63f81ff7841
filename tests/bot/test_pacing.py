"""Pacing: whatever the answers in a channel do, the channel's budget is kept."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.bot.answers.pacing import Pacer


class Clock:
    def __init__(self, now: float = 1000.0):
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pacer(clock: Clock) -> Pacer:
    return Pacer(clock)


def test_a_channel_at_rest_is_ready_now(clock: Clock, pacer: Pacer) -> None:
    assert pacer.ready_at(1) == clock.now
    assert pacer.ready_at(1, new=True) == clock.now
    assert len(pacer._channels) == 0


def test_edits_are_a_second_apart_and_new_answers_need_not_wait(clock: Clock, pacer: Pacer) -> None:
    pacer.wrote(1)
    assert pacer.ready_at(1) == clock.now + 1
    assert pacer.ready_at(1, new=True) == clock.now
    assert pacer.ready_at(2) == clock.now
    clock.now += 1.5
    assert pacer.ready_at(1) == clock.now


def test_one_write_of_the_window_is_kept_for_a_new_answer(clock: Clock, pacer: Pacer) -> None:
    for _ in range(4):
        pacer.wrote(1)
        clock.now += 1
    assert pacer.ready_at(1) == 1005.25
    assert pacer.ready_at(1, new=True) == clock.now == 1004
    pacer.wrote(1)
    assert pacer.ready_at(1, new=True) == 1005.25
    assert pacer.ready_at(1) == 1006.25


def test_a_429_is_obeyed_and_then_edits_go_slower_for_a_while(clock: Clock, pacer: Pacer) -> None:
    pacer.wrote(1)
    pacer.slow_down(1, 3.0)
    assert pacer.ready_at(1, new=True) == 1003
    pacer.slow_down(1, 1.0)  # does not shorten the first
    assert pacer.ready_at(1) == 1004  # four times a second apart by now
    clock.now = 1004
    gaps = []
    for _ in range(30):
        pacer.wrote(1)
        gaps.append(pacer.ready_at(1) - clock.now)
        clock.now += 10
    assert gaps[0] == pytest.approx(3.6)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == 1
    for _ in range(10):
        pacer.slow_down(1, 0)
    pacer.wrote(1)
    assert pacer.ready_at(1) - clock.now == pytest.approx(7.2)


def test_idle_channels_are_forgotten(clock: Clock, pacer: Pacer) -> None:
    for channel in range(5000):
        pacer.wrote(channel)
        clock.now += 0.1
    assert len(pacer._channels) < 100
    pacer.slow_down(7, 3600)
    for channel in range(5000):
        pacer.wrote(10_000 + channel)
        clock.now += 0.1
    assert pacer.ready_at(7) > clock.now  # a 429 is remembered as long as it holds


@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.integers(1, 12), st.integers(0, 1)), min_size=1, max_size=8
    ),
    st.data(),
)
def test_no_window_of_a_channel_ever_holds_more_than_its_burst(
    answers: list[tuple[float, int, int]], data: st.DataObject
) -> None:
    """Several answers stream at once: each sends a message, then edits it as often as it may."""
    clock = Clock(0.0)
    pacer = Pacer(clock)
    written: dict[int, list[tuple[float, bool]]] = {0: [], 1: []}
    queue = [
        (start, number, 0, writes, channel)
        for number, (start, writes, channel) in enumerate(answers)
    ]
    heapq.heapify(queue)
    while queue:
        clock.now, number, done, writes, channel = heapq.heappop(queue)
        at = pacer.ready_at(channel, new=done == 0)
        if at > clock.now:
            heapq.heappush(queue, (at, number, done, writes, channel))
            continue
        pacer.wrote(channel)
        written[channel].append((clock.now, done == 0))
        if done < writes:
            later = clock.now + data.draw(st.sampled_from([0.0, 0.03, 1.0]))
            heapq.heappush(queue, (later, number, done + 1, writes, channel))
    assert sum(map(len, written.values())) == sum(writes + 1 for _, writes, _ in answers)
    for writes_there in written.values():
        for index, (time, _) in enumerate(writes_there):
            within = [new for at, new in writes_there[: index + 1] if at > time - 5.0]
            assert len(within) <= 5
            if not within[-1]:
                assert len(within) <= 4


def test_all_channels_together_keep_a_budget_that_edits_may_not_use_up(clock: Clock) -> None:
    pacer = Pacer(clock, everywhere=8)
    for channel in range(6):
        assert pacer.ready_at(channel) == clock.now
        pacer.wrote(channel)
    assert pacer.ready_at(99) == clock.now + 1.25  # an edit
    assert pacer.ready_at(99, new=True) == clock.now
    pacer.wrote(98)
    pacer.wrote(99)
    assert pacer.ready_at(100, new=True) == clock.now + 1.25
    clock.now += 1.25
    assert pacer.ready_at(100) == clock.now


def test_what_is_no_write_counts_as_well_and_leaves_room_for_new_answers(clock: Clock) -> None:
    pacer = Pacer(clock, everywhere=8)
    for _ in range(6):
        assert pacer.free_at() == clock.now
        pacer.asked()
    assert pacer.free_at() == pacer.ready_at(1) == clock.now + 1.25
    assert pacer.ready_at(1, new=True) == clock.now
    for _ in range(2):  # what cannot wait, such as showing at once that a question was heard
        pacer.asked()
    assert pacer.ready_at(1, new=True) == clock.now + 1.25
