"""A host whose clock is wrong: nothing that Discord's time decides depends on it."""

from __future__ import annotations

import asyncio

import pytest

from guildgpt.bot.adapter.discord_time import DiscordTime, first_id, moment_of
from guildgpt.bot.operating import run
from simguild.journal import buttons, finished

from .house import FAST, SLOW, House
from .test_health import free_port, get

QUARTER, DAYS = 15 * 60.0, 2 * 86_400.0


@pytest.fixture(params=[-DAYS, -QUARTER, QUARTER, DAYS])
def wrong(request: pytest.FixtureRequest, house: House) -> House:
    """Discord's clock is ahead of the host's by so much; less than 0: the host's is ahead."""
    house.fake.world.ahead = request.param
    return house


async def test_a_command_is_answered_in_its_place(wrong: House) -> None:
    await wrong.open()
    called = await wrong.command("ask", question="What is TLS?")
    assert called.responses[0].content.startswith("You wrote: What is TLS?")
    assert wrong.channel.by(wrong.fake.bot) == called.responses
    again = await wrong.press(called.responses[0], "again")
    await wrong.fake.until(lambda: finished(again.responses[0]))


async def test_a_command_mid_answer_goes_on_in_its_place(wrong: House) -> None:
    wrong.model.rate = SLOW * 2
    await wrong.open()
    called = await wrong.fake.slash(wrong.newcomer, wrong.channel, "ask", {"question": "What?"})
    begun = await wrong.fake.until(lambda: called.responses[0])
    wrong.model.rate = FAST
    wrong.channel.deny(wrong.fake.bot, 1 << 11)  # writing as anything but an answer to a command
    await wrong.restart()
    await wrong.fake.until(lambda: finished(begun))
    assert list(buttons(begun)) == ["up", "down", "again", "report"]
    assert wrong.channel.by(wrong.fake.bot) == [begun]


async def test_what_was_missed_is_answered(wrong: House) -> None:
    await wrong.open()
    await wrong.ask("Before?")
    await wrong.close()
    places = [wrong.channel, wrong.guild.add_channel("new")]
    asked = [await wrong.say("Meanwhile?", where=where) for where in places]
    await wrong.open()
    for one in asked:
        await wrong.answer(one)


async def test_what_is_old_at_the_first_start_stays_unanswered(wrong: House) -> None:
    old = await wrong.say("Before you came?", where=wrong.guild.add_channel("quiet"))
    await asyncio.sleep(0.01)
    await wrong.open()
    await wrong.ask("And now?")
    await wrong.restart()
    # Reading goes channel by channel; one that comes later is read later.
    missed = await wrong.ask("And then?", where=wrong.guild.add_channel("zoo"))
    assert missed
    assert wrong.answers(old) == []


async def test_the_time_to_the_first_sign_is_measured(wrong: House) -> None:
    await wrong.open(health_port=free_port())
    await wrong.ask("What is TLS?")
    await wrong.command("ask", question="What is SSH?")
    _, page = await get(wrong, "/metrics")
    assert 'guildgpt_acknowledge_seconds_bucket{le="3.0"} 2.0\n' in page
    assert "guildgpt_acknowledge_seconds_count 2.0\n" in page


async def test_nothing_is_deleted_by_a_wrong_clock(
    house: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SAVE_SECONDS", 0.1)
    caplog.set_level("INFO", "guildgpt.bot")
    await house.open()
    await house.ask("What is TLS?")
    await house.close()
    await house.change("UPDATE messages SET created_at = datetime('now', '-60 hours')")
    await house.change("UPDATE conversations SET created_at = datetime('now', '-60 hours')")
    house.fake.world.ahead = -DAYS
    caplog.clear()
    await house.open(retention_days=1)
    await house.ask("And what is SSH?")
    assert "clock_is_wrong" in caplog.messages
    assert house.rows("SELECT count(*) FROM messages") == [(4,)]
    house.fake.world.ahead = 0.0
    await house.restart()
    await house.fake.until(lambda: house.rows("SELECT count(*) FROM messages") == [(2,)])


# The clock itself


class Hands:
    """Two clocks that a test moves."""

    monotonic = 100.0
    host = 5_000.0

    def time(self) -> DiscordTime:
        return DiscordTime(lambda: self.monotonic, lambda: self.host)


def test_it_is_the_hosts_until_discord_has_told() -> None:
    hands = Hands()
    time = hands.time()
    assert time.now() == 5_000.0
    time.answered(None)
    time.answered("yesterday")
    assert time.now() == 5_000.0
    time.answered("Sun, 29 Nov 2026 00:00:10 GMT")
    hands.monotonic, hands.host = 107.0, 9_000_000.0
    assert time.now() == 1_795_910_417.0
    assert time.host_ahead == 9_000_000.0 - 1_795_910_417.0


def test_it_is_never_ahead_of_discords() -> None:
    hands = Hands()
    time = hands.time()
    sent = first_id(1_795_910_410.25)
    time.happened(sent)
    assert time.age(sent) == 0
    hands.monotonic += 10
    time.happened(sent)  # it came again: a session was resumed
    assert time.age(sent) == 10
    time.happened(first_id(1_795_910_421.0))  # this one came quicker than all before
    assert time.age(sent) == 10.75
    assert time.age(first_id(1_795_999_999.0)) == 0


def test_ids_and_moments() -> None:
    id = first_id(1_795_910_410.25)
    last = first_id(1_795_910_410.251) - 1  # of the same millisecond
    assert moment_of(id) == moment_of(last) == 1_795_910_410.25
    assert first_id(0.0) == 0
