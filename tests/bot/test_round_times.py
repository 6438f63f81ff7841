"""When rounds open and close, and that nothing that happens meanwhile opens or closes one twice."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from datetime import UTC, datetime

import pytest

from guildgpt.bot.answers.round_keeper import at_that_time, due
from guildgpt.bot.answers.round_keeper import opened as planned
from guildgpt.bot.operating import run
from guildgpt.bot.operating.settings import RoundPlan
from guildgpt.bot.text import rounds as say
from guildgpt.feedback.records import Candidate, RoundState
from simguild.fake import Channel, FakeMessage
from simguild.fake.permissions import Permission
from simguild.fake.trouble import html
from simguild.journal import buttons

from .holding import (
    DAY,
    HOUR,
    WEEK,
    fill,
    later,
    never_twice,
    now,
    opened,
    over,
    prompts,
    rounds,
    shown,
    states,
    vote,
)
from .house import FAST, House
from .process import Process

pytestmark = pytest.mark.usefixtures("unhurried", "quick_rounds")


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been read is soon written down."""
    monkeypatch.setattr(run, "SAVE_SECONDS", 0.1)


async def looked(house: House) -> None:
    """Wait until it has been looked twice what is due."""
    elsewhere = house.guild.add_channel("elsewhere")
    before = len(states(house))
    assert "is being written" in await rounds(house, "now", channel=elsewhere)
    await house.fake.until(lambda: len(states(house)) > before)
    await opened(house, where=elsewhere)
    house.fake.world.remove_channel(elsewhere)
    await house.fake.until(lambda: not {"open", "posting"} & set(states(house)[before:]))


def by_bot(house: House, where: Channel | None = None) -> list[FakeMessage]:
    """What it wrote of its own accord."""
    return [one for one in (where or house.channel).by(house.fake.bot) if not one.interaction]


# The plan


def test_what_is_due() -> None:
    day = int(DAY)
    plan = RoundPlan(every="daily", next_at=1000)
    assert due(RoundPlan(), 5) is None
    assert due(plan, 999) is None
    assert due(plan, 1000) == 1000 + day
    assert due(plan, 1000 + 10 * day + 7) == 1000 + 11 * day  # one, at the usual time of day
    assert due(RoundPlan(once=2000), 1999) == 2000
    assert due(RoundPlan(once=2000), 2000) is None
    assert due(plan.model_copy(update={"once": 5000}), 4000) == 5000


def test_a_plan_by_a_clock_that_was_set() -> None:
    day = int(DAY)
    plan = RoundPlan(every="daily", next_at=100 * day)
    assert at_that_time(plan, 99 * day) == plan
    back = at_that_time(plan, 10 * day)
    assert back is not None
    assert back.next_at == 11 * day
    assert at_that_time(RoundPlan(once=5), 5) is None
    assert at_that_time(RoundPlan(stopped=True), 5) == RoundPlan(stopped=True)


def test_a_plan_once_its_round_is_there() -> None:
    plan = RoundPlan(every="weekly", next_at=5, once=9)
    assert planned(plan, 9) == RoundPlan(every="weekly", next_at=5)
    assert planned(RoundPlan(once=9), 9) is None
    assert planned(RoundPlan(every="weekly", next_at=5), 77) == RoundPlan(
        every="weekly", next_at=77
    )


# Schedules


@pytest.mark.parametrize(("every", "seconds"), [("daily", DAY), ("weekly", WEEK)])
async def test_a_round_closes_when_the_next_one_opens(
    held: House, every: str, seconds: float
) -> None:
    assert f"A round every {every.removesuffix('ly').replace('dai', 'day')}" in await rounds(
        held, every
    )
    first = await opened(held)
    await vote(held, first, "a")
    await later(held, seconds - HOUR)
    await looked(held)
    assert buttons(first)
    await later(held, HOUR)
    assert "1 voted" in await over(held, first)
    second = await opened(held)
    assert second is not first
    assert every in await rounds(held)


async def test_switched_off_no_further_one_opens(held: House) -> None:
    await rounds(held, "daily")
    first = await opened(held)
    assert "No more rounds" in await rounds(held, "off")
    assert "There were no rounds" in await rounds(held, "off")
    await later(held, DAY)
    await over(held, first)
    await looked(held)
    assert shown(held) == []
    assert "No rounds are switched on" in await rounds(held)


async def test_a_schedule_lives_through_a_restart(held: House) -> None:
    await rounds(held, "daily")
    first = await opened(held)
    await vote(held, first, "tie")
    await held.close()
    held.fake.world.ahead += DAY + HOUR
    await held.open()
    assert "1 voted: 0 for A, 0 for B, 1 tie." in await over(held, first)
    await opened(held)
    assert len(states(held)) == 2


@pytest.mark.parametrize("seconds", [-HOUR, -30 * DAY])
async def test_a_clock_that_is_set_back_opens_nothing_twice(held: House, seconds: float) -> None:
    await rounds(held, "daily")
    first = await opened(held)
    await held.close()
    held.fake.world.ahead += seconds
    await held.open()
    await looked(held)
    assert shown(held) == [first]
    await later(held, DAY + HOUR)  # by the clock as it is now
    await held.fake.until(lambda: len(by_bot(held)) == 2)


async def test_a_clock_that_is_set_ahead_opens_one(held: House) -> None:
    await rounds(held, "daily")
    first = await opened(held)
    await later(held, 30 * DAY)
    await over(held, first)
    await opened(held)
    await looked(held)
    assert len(by_bot(held)) == 2


# Started anew in every state


async def put(house: House, state: RoundState = "posting", seconds: float = DAY) -> None:
    """A round that an earlier process left."""
    async with house.store() as store:
        [prompt, *_] = await store.prompts.all()
        answers = [Candidate("They dig.", "old@1"), Candidate("They run.", "new@2")]
        closes_at = datetime.fromtimestamp(int(house.fake.world.time() + seconds), UTC)
        await store.rounds.open(
            prompt, answers, "discord",
            guild_id=house.guild.id, channel_id=house.channel.id, closes_at=closes_at, state=state,
        )  # fmt: skip


async def test_one_that_was_not_yet_posted_is_posted(held: House) -> None:
    await held.close()
    await put(held)
    await held.open()
    message = await opened(held)
    assert "They dig." in message.content
    await looked(held)
    assert by_bot(held) == [message]


@pytest.mark.parametrize("nonces", [True, False])
async def test_one_that_was_posted_without_a_note_of_it_is_found(held: House, nonces: bool) -> None:
    """Either Discord knows the nonce still, or the message is looked for."""
    message = await now(held)
    await held.close()
    if not nonces:
        held.fake.limits.nonce_seconds = 0.0
    await held.fake.say(held.newcomer, held.channel, "Something else meanwhile")
    await held.change("UPDATE rounds SET state = 'posting', discord_id = NULL")
    await held.open()
    assert await opened(held) is message
    await looked(held)
    assert by_bot(held) == [message]
    assert held.rows("SELECT discord_id FROM rounds WHERE state = 'open'") == [(message.id,)]
    await vote(held, message, "a")
    await later(held, DAY)
    assert "1 voted" in await over(held, message)


async def test_where_it_may_not_look_it_posts_none_twice(held: House) -> None:
    message = await now(held)
    await held.close()
    held.channel.deny(held.fake.bot, Permission.READ_MESSAGE_HISTORY)
    await held.change("UPDATE rounds SET state = 'posting', discord_id = NULL")
    await held.open()
    await held.fake.until(lambda: states(held) == ["cancelled"])
    assert by_bot(held) == [message]
    assert await vote(held, message, "a") == say.CLOSED


async def test_one_of_which_a_part_was_posted_is_completed(house: House) -> None:
    numbers = iter(range(10))
    house.model.answer = lambda prompt: f"{next(numbers)} " + "and so on, " * 120
    await fill(house)
    await house.open(max_tokens=2048)
    last = await now(house)
    parts = by_bot(house)
    assert len(parts) > 1
    await house.close()
    house.fake.limits.nonce_seconds = 0.0
    await house.fake.delete(last)
    await house.change("UPDATE rounds SET state = 'posting', discord_id = NULL")
    await house.open()
    again = await opened(house)
    assert by_bot(house) == [*parts[:-1], again]
    assert again.content == last.content


async def test_one_whose_time_is_over_before_it_was_posted_is_given_up(held: House) -> None:
    message = await now(held)
    await held.close()
    await held.change("UPDATE rounds SET state = 'posting', discord_id = NULL")
    held.fake.world.ahead += 2 * DAY
    await held.open()
    await held.fake.until(lambda: states(held) == ["cancelled"])
    assert message.deleted


async def test_one_that_was_being_closed_is_closed(held: House) -> None:
    message = await now(held)
    await vote(held, message, "b")
    await held.close()
    await held.change("UPDATE rounds SET state = 'closing', closed_at = created_at")
    await held.open()
    assert "1 voted: 0 for A, 1 for B." in await over(held, message)
    await held.fake.until(lambda: states(held) == ["closed"])


async def test_no_vote_is_taken_while_one_is_being_closed(held: House) -> None:
    message = await now(held)
    trouble = held.fake.trouble("PATCH /channels/{channel}/messages/{message}", html(503))
    await later(held, DAY)
    await held.fake.until(lambda: states(held) == ["closing"])
    assert await vote(held, message, "a") == say.CLOSED
    trouble.over()
    await held.restart()  # who need not wait as long as the bot has patience
    assert "Nobody voted." in await over(held, message)


async def test_what_discord_took_without_saying_so_is_there_once(held: House) -> None:
    held.fake.trouble("POST /channels/{channel}/messages", html(502, done=True), times=1)
    message = await now(held)
    assert by_bot(held) == [message]


# What happens meanwhile


@pytest.mark.parametrize("away", [False, True])
async def test_a_deleted_channel_closes_its_round_and_keeps_the_votes(
    held: House, away: bool
) -> None:
    pond = held.guild.add_channel("pond")
    await rounds(held, "daily", channel=pond)
    message = await opened(held, where=pond)
    await vote(held, message, "a")
    if away:
        await held.close()
    held.fake.world.remove_channel(pond)
    if away:
        await held.open()
    await held.fake.until(lambda: states(held) == ["closed"])
    await held.fake.until(lambda: str(pond.id) not in held.tables())
    assert len(held.rows("SELECT 1 FROM votes")) == 1
    async with held.store() as store:
        [ballots] = await store.rounds.ballots()
        assert len(ballots.votes) == 1
    told = await rounds(held)
    assert "A channel that had rounds was deleted" in told
    assert "No rounds are switched on" in told


async def test_without_a_vote_it_is_cancelled(held: House) -> None:
    pond = held.guild.add_channel("pond")
    await rounds(held, "now", channel=pond)
    await opened(held, where=pond)
    held.fake.world.remove_channel(pond)
    await held.fake.until(lambda: states(held) == ["cancelled"])


async def test_where_it_may_not_write_any_more_the_schedule_ends(held: House) -> None:
    await rounds(held, "daily")
    first = await opened(held)
    await vote(held, first, "a")
    held.channel.deny(held.fake.bot, Permission.SEND_MESSAGES)
    await later(held, DAY)
    assert "1 voted" in await over(held, first)
    await held.fake.until(lambda: states(held) == ["closed", "cancelled"])
    await held.fake.until(lambda: "stopped" in held.tables())
    assert "switched off, for I may not write there" in await rounds(held)
    held.channel.overwrites.clear()
    held.channel.tell("CHANNEL_UPDATE")
    await rounds(held, "daily")
    await opened(held)


async def test_a_channel_that_it_does_not_see_any_more(held: House) -> None:
    await rounds(held, "daily")
    first = await opened(held)
    await vote(held, first, "a")
    elsewhere = held.guild.add_channel("elsewhere")
    held.channel.deny(held.fake.bot, Permission.VIEW_CHANNEL)
    held.fake.world.ahead += DAY
    await held.command("help", where=elsewhere)
    await held.fake.until(lambda: states(held) == ["closed", "cancelled"])
    assert len(held.rows("SELECT 1 FROM votes")) == 1
    held.channel.overwrites.clear()


async def test_a_moderator_who_deletes_it_closes_it(held: House) -> None:
    message = await now(held)
    await vote(held, message, "a")
    await held.fake.delete(message)
    await held.fake.until(lambda: states(held) == ["closed"])
    async with held.store() as store:
        [ballots] = await store.rounds.ballots()
        assert len(ballots.votes) == 1


@pytest.mark.parametrize("restarted", [False, True])
async def test_who_deletes_a_part_of_it_deletes_it_whole(house: House, restarted: bool) -> None:
    numbers = iter(range(10))
    house.model.answer = lambda prompt: f"{next(numbers)} " + "and so on, " * 120
    await fill(house)
    await house.open(max_tokens=2048)
    message = await now(house)
    await vote(house, message, "b")
    if restarted:
        await house.restart()
        await looked(house)
    await house.fake.delete(by_bot(house)[0])
    await house.fake.until(lambda: states(house)[0] == "closed")
    await house.fake.until(lambda: by_bot(house) == [])


async def test_a_guild_that_was_left_has_no_open_round(held: House) -> None:
    await rounds(held, "daily")
    message = await opened(held)
    await vote(held, message, "a")
    held.guild.remove_bot()
    await held.fake.until(lambda: states(held) == ["closed"])
    held.guild.invite_bot()
    await held.fake.until(lambda: not held.rows("SELECT * FROM left_guilds"))
    await later(held, DAY)
    await held.fake.until(lambda: states(held) == ["closed", "open"])


async def test_an_engine_that_dies_is_tried_again_later(held: House) -> None:
    held.model.dies_after = 0
    held.model.now.fail_after(0)
    await rounds(held, "daily")
    while "I cannot think" not in await rounds(held):
        pass
    assert states(held) == []
    held.model.dies_after = None
    held.model.now.fail_after(None)
    await opened(held)


async def test_what_the_guilds_rules_withhold_takes_the_next_prompt(held: House) -> None:
    first, second, third = prompts()
    held.guild.blocked_words = [first.text.casefold(), third.text.casefold()]
    await rounds(held, "now")
    await held.fake.until(lambda: states(held)[-1:] == ["open"])
    assert second.text in (await opened(held)).content
    assert {*states(held)[:-1]} <= {"cancelled"}


async def test_who_offered_its_prompt_may_take_it_back(house: House) -> None:
    never_twice(house)
    await house.open()
    async with house.store() as store:
        member = await store.members.of_user(house.newcomer.id)
        [new] = prompts(count=1)
        offered = await store.prompts.submit(
            member.id, dataclasses.replace(new, source="member", credit="")
        )
        assert offered is not None
        await store.prompts.judge(offered.id, "accepted")
    message = await now(house)
    assert new.text in message.content
    asked = await house.command("forget-me")
    await house.press(asked.responses[0], "forget")
    await house.fake.until(lambda: message.content == say.WITHDRAWN)
    assert not buttons(message)
    assert house.rows("SELECT 1 FROM rounds") == []
    assert new.text not in house.tables()


@pytest.mark.slow
async def test_killed_while_it_posts_and_while_it_closes(house: House) -> None:
    """Each time Discord has done what it was asked for, and the bot has not heard of it."""
    await fill(house)
    await put(house)
    house.fake.trouble("POST /channels/{channel}/messages", html(502, done=True), times=1)
    first, second, third = processes = [Process(house, FAST) for _ in range(3)]
    try:
        await first.start()
        await house.fake.until(lambda: by_bot(house))
        await first.end(signal.SIGKILL)
        assert states(house) == ["posting"]
        await second.start()
        message = await opened(house)
        assert by_bot(house) == [message]
        await vote(house, message, "a")
        house.fake.trouble(
            "PATCH /channels/{channel}/messages/{message}", html(502, done=True), times=1
        )
        await later(house, DAY)
        await house.fake.until(lambda: "1 voted" in message.content)
        await second.end(signal.SIGKILL)
        assert states(house) == ["closing"]
        await third.start()
        await house.fake.until(lambda: states(house) == ["closed"])
        assert not buttons(message)
        assert by_bot(house) == [message]
    finally:
        for process in processes:
            with contextlib.suppress(AssertionError):  # it was not started
                await process.end(signal.SIGKILL)
