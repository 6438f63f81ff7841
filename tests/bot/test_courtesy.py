"""Refusals: each member is told once that they ask too much, after all that answers have to say."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talk.test_waiting import Clock

from guildgpt.bot.answers import pacing
from guildgpt.bot.answers.pacing import ChannelWriter, Courtesy, Pacer
from guildgpt.bot.text import sentences as say
from simguild.fake import FakeMessage
from simguild.journal import finished

from .house import House
from .test_limits import people

TOO_MANY = "One thing after another, please"


def refusals(house: House) -> list[FakeMessage]:
    """Everyone's in the channel."""
    own = house.channel.by(house.fake.bot)
    return [one for one in own if one.content.startswith(TOO_MANY)]


async def heard(house: House, count: int) -> None:
    """So many events were claimed."""
    await house.fake.until(lambda: house.rows("SELECT COUNT(*) FROM deliveries")[0][0] >= count, 60)


async def test_a_bystander_among_members_who_do_not_stop(house: House) -> None:
    """The three get one refusal each, whatever they write; who asks once has his fair share: of
    each of them at most one answer comes before his."""
    house.model.rate = 400.0
    await house.open(workers=1, questions_seconds=3600)
    three = people(house, 3)
    count = 0
    for second in range(40):
        for one in three:
            await house.say(f"Again {second}?", who=one)
        count += len(three)
        if second == 20:
            mine = await house.say("May I?", who=house.teacher)
            count += 1
        await heard(house, count)
        if second == 20:
            begun = len(house.model.prompts)  # he waits by now, or has had his turn
    answer = await house.answer(mine)
    await house.settled(count)

    assert Counter(one.reference.author.name for one in refusals(house) if one.reference) == {
        one.name: 1 for one in three
    }
    [turn] = [n for n, prompt in enumerate(house.model.prompts) if "May I?" in prompt]
    assert turn - begun <= 1 + len(three)  # one may have had its turn while he wrote
    assert answer.content.startswith("You wrote: May I?")
    # What the bot shows is for those who are answered: nobody sees it type for the rest.
    assert house.channel.typed < count


async def test_in_the_next_window_they_are_told_again(house: House) -> None:
    await house.open(questions_per_user=1, questions_seconds=2.0)
    asked = 0
    # In each window one answer and one refusal; several at once, so that a slow machine, too, hears
    # two of them within one.
    async with asyncio.timeout(60):
        while len(refusals(house)) < 2:
            for _ in range(5):
                await house.say("And now?")
            asked += 5
            await house.settled(asked)
    assert len(house.model.prompts) >= 2


async def test_commands_are_refused_in_private_each_time(house: House) -> None:
    await house.open(questions_per_user=1, questions_seconds=3600)
    await house.ask("What is TLS?")
    await house.settled()
    written = len(house.channel.by(house.fake.bot))
    for _ in range(6):
        called = await house.command("ask", question="And now?")
        [told] = called.responses
        assert told.content.startswith(TOO_MANY)
        assert told.ephemeral
    assert len(house.channel.by(house.fake.bot)) == written
    assert (await house.answer(await house.say("And now?"))).content.startswith(TOO_MANY)


async def test_other_sentences_come_as_often_as_answers(house: House) -> None:
    """An empty mention costs no question; but it gets no more sentences than those get answers."""
    await house.open(questions_per_user=3, questions_seconds=3600)
    for _ in range(8):
        await house.say("")
    assert await house.settled(8) == ["skipped"] * 8
    await house.fake.until(lambda: len(house.channel.by(house.fake.bot)) == 3)
    assert {one.content for one in house.channel.by(house.fake.bot)} == {say.EMPTY}
    last = await house.say("What is TLS?")
    assert finished(await house.answer(last))
    assert len(house.channel.by(house.fake.bot)) == 4


# Whom to tell


def test_once_a_window() -> None:
    clock = Clock()
    courtesy = Courtesy(10, 60.0, clock)
    told: list[tuple[int, float]] = []
    for second in range(120):
        clock.now = float(second)
        told += [(who, clock.now) for who in (1, 2, 3) if courtesy.tells(who, "too-many")]
    assert told == [(who, now) for now in (0.0, 60.0) for who in (1, 2, 3)]
    assert courtesy.was_told_to_wait(1)
    clock.now = 120.0
    assert not courtesy.was_told_to_wait(1)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 3), st.sampled_from(["busy", "too-many", "empty"]), st.floats(0, 30)
        ),
        max_size=80,
    )
)
def test_in_no_window_more_than_that(events: list[tuple[int, str, float]]) -> None:
    clock = Clock()
    courtesy = Courtesy(2, 60.0, clock)
    said: list[tuple[int, bool, float]] = []
    for who, reason, seconds in events:
        if courtesy.tells(who, reason):
            said.append((who, reason == "empty", clock.now))
        clock.now += seconds
    for who, other, since in said:
        window = [one for one in said if one[:2] == (who, other) and since <= one[2] < since + 60.0]
        assert len(window) <= (2 if other else 1)
    clock.now += 61
    courtesy.tells(9, "busy")
    assert list(courtesy._told) == [(9, True)]


# After the answers


class Channel:
    """A channel that says what is written to it."""

    channel_id = 1
    is_private = False

    def __init__(self, written: list[str]):
        self.written = written

    async def whisper(self, text: str) -> None:
        self.written.append(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Whoever waits lets time pass."""
    clock, rest = Clock(), asyncio.sleep

    async def sleep(seconds: float) -> None:
        await rest(0)
        clock.now += 0.01

    monkeypatch.setattr(pacing, "asyncio", SimpleNamespace(sleep=sleep))
    return clock


async def test_answers_write_before_refusals(clock: Clock) -> None:
    """The refusals were there first, and the channel has had enough; then there is room again."""
    pacer = Pacer(clock)
    writer = ChannelWriter(pacer, clock)
    written: list[str] = []
    outlet = Channel(written)

    async def answer(*, new: bool) -> None:
        await writer.turn(1, new=new)
        written.append("answer")

    for _ in range(5):
        pacer.wrote(1)
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(writer.whisper(outlet, "no"))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        for new in (False, True, False):
            group.create_task(answer(new=new))
    assert written == ["answer"] * 3 + ["no"] * 4


async def test_what_is_shown_on_the_way_takes_turns_with_refusals(clock: Clock) -> None:
    """An answer that streams neither stops for many refusals, nor keeps them waiting."""
    writer = ChannelWriter(Pacer(clock), clock)
    written: list[str] = []
    outlet = Channel(written)

    async def show() -> None:
        while len(written) < 10:
            if writer.may_write(1):
                written.append("shown")
            await pacing.asyncio.sleep(writer.wait(1))

    async with asyncio.TaskGroup() as group:
        group.create_task(show())
        await asyncio.sleep(0)
        for _ in range(4):
            group.create_task(writer.whisper(outlet, "no"))  # type: ignore[arg-type]
    assert written[:10].count("no") == 4
    assert "no no no" not in " ".join(written)
