"""Channels, threads and guilds that are gone take along what was said in them."""

from __future__ import annotations

import pytest

from guildgpt.bot.adapter import catching_up
from guildgpt.bot.operating import run
from simguild.fake import Channel
from simguild.journal import finished

from .house import SLOW, House


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a second between channels that are looked for, nor hours for what is old."""
    monkeypatch.setattr(catching_up, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(run, "RETENTION_SECONDS", 0.0)
    monkeypatch.setattr(run, "SAVE_SECONDS", 0.1)


async def talk(house: House, where: Channel | None = None) -> None:
    """A question about wombats, an answer and a rating."""
    house.model.answer = lambda prompt: "Wombats dig deep burrows."
    answer = await house.ask("What of wombats?", where=where)
    await house.press(answer, "up")
    await house.settled()


async def gone(house: House, *traces: object) -> None:
    """Wait until nothing of them is in the store's tables and files."""
    await house.fake.until(lambda: not any(str(trace) in house.tables() for trace in traces))
    await house.scrubbed()
    await house.fake.until(lambda: not any(str(trace) in house.everything() for trace in traces))


async def chat(house: House, where: Channel) -> Channel:
    """A thread of the bot's."""
    await house.command("chat", where=where, topic="Koalas")
    thread = house.guild.threads[-1]
    await house.fake.until(lambda: finished(thread.messages[0]))
    await house.settled()
    return thread


@pytest.mark.parametrize("archived", [False, True])
async def test_a_deleted_channel_takes_its_threads_along(bot: House, archived: bool) -> None:
    """Of archived threads Discord says nothing."""
    pond = bot.guild.add_channel("pond")
    await talk(bot, pond)
    thread = await chat(bot, pond)
    if archived:
        thread.archived = True
        thread.tell("THREAD_UPDATE")
    bot.model.answer = lambda prompt: "Elsewhere."
    await bot.ask("And here?")
    bot.fake.world.remove_channel(pond)
    await gone(bot, "ombats", "Koalas", pond.id, thread.id)
    assert "Elsewhere." in bot.tables()
    assert bot.rows("SELECT COUNT(*) FROM ratings") == [(0,)]


async def test_a_deleted_thread(bot: House) -> None:
    await talk(bot)
    thread = await chat(bot, bot.channel)
    bot.fake.world.remove_channel(thread)
    await gone(bot, "Koalas", thread.id)
    assert "wombats" in bot.tables()


@pytest.mark.parametrize("archived", [False, True])
async def test_what_was_deleted_while_the_bot_was_away(bot: House, archived: bool) -> None:
    pond = bot.guild.add_channel("pond")
    await talk(bot, pond)
    bot.model.answer = lambda prompt: "Kanga is."
    kept = await chat(bot, bot.channel)
    thread = await chat(bot, bot.channel)
    for one in (kept, thread):
        one.archived = archived
    await bot.close()
    bot.fake.world.remove_channel(pond)
    bot.fake.world.remove_channel(thread)
    await bot.open()
    await gone(bot, "ombats", pond.id, thread.id)
    assert "Kanga" in bot.tables()


@pytest.mark.parametrize("seconds", [0.1, 3.0])
async def test_a_channel_that_proves_gone_when_it_is_answered_in(
    house: House, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """What was read in it may be written down before it proves gone, and not after."""
    monkeypatch.setattr(run, "SAVE_SECONDS", seconds)
    house.model.rate = SLOW
    await house.open()
    pond = house.guild.add_channel("pond")
    asked = await house.say("What of wombats?", where=pond)
    await house.begun(asked)
    house.guild.has_bot = False  # so that nobody tells of it
    house.fake.world.remove_channel(pond)
    house.guild.has_bot = True
    await gone(house, "ombats", pond.id)


# Guilds


async def left(house: House) -> None:
    """Wait until the store knows that the bot was taken out."""
    await house.fake.until(lambda: house.rows("SELECT * FROM left_guilds"))


async def test_a_guild_that_was_left_is_forgotten_after_its_time(house: House) -> None:
    await house.open(left_guild_days=2)
    await talk(house)
    await house.command("settings", who=house.teacher, feedback=True)
    house.guild.remove_bot()
    await left(house)
    await house.change("UPDATE left_guilds SET left_at = datetime('now', '-47 hours')")
    kept = house.rows("SELECT COUNT(*) FROM messages")
    await house.restart()  # which looks at once for what is too old
    assert house.rows("SELECT COUNT(*) FROM messages") == kept
    await house.change("UPDATE left_guilds SET left_at = datetime('now', '-49 hours')")
    await gone(house, "ombats", house.guild.id, house.channel.id)
    for table in ("guild_settings", "left_guilds", "deliveries", "ratings"):
        assert house.rows(f"SELECT COUNT(*) FROM {table}") == [(0,)]


async def test_at_once_if_the_operator_wants_it(house: House) -> None:
    await house.open(left_guild_days=0)
    await talk(house)
    house.guild.remove_bot()
    await gone(house, "ombats", house.guild.id)


async def test_what_was_still_being_written_when_a_guild_was_left(house: House) -> None:
    await house.open(left_guild_days=0)
    await talk(house)
    house.guild.remove_bot()
    await gone(house, house.guild.id)
    await house.change("INSERT INTO channel_marks VALUES (7, ?, 7)", house.guild.id)
    await gone(house, house.guild.id)


async def test_coming_back_in_time_keeps_everything(bot: House) -> None:
    await talk(bot)
    bot.guild.remove_bot()
    await left(bot)
    bot.guild.invite_bot()
    await bot.fake.until(lambda: not bot.rows("SELECT * FROM left_guilds"))
    assert "wombats" in bot.tables()


async def test_coming_back_before_the_session_is_ready_keeps_everything(house: House) -> None:
    """discord.py then takes the invitation for a guild that it was told of at the start."""
    house.ready_seconds = 3.0
    await house.open()
    await talk(house)
    house.guild.remove_bot()
    await left(house)
    house.guild.invite_bot()
    await house.fake.until(lambda: not house.rows("SELECT * FROM left_guilds"))
    assert "wombats" in house.tables()


async def test_an_outage_is_no_farewell(house: House) -> None:
    await house.open(left_guild_days=0)
    await talk(house)
    house.guild.fail()
    elsewhere = house.fake.open_dm(house.newcomer)
    await house.ask("A round trip", where=elsewhere)
    await house.restart()
    await house.ask("Another", where=elsewhere)
    assert house.rows("SELECT * FROM left_guilds") == []
    house.guild.come_back()
    await house.ask("And here?")
    assert "wombats" in house.tables()


async def test_what_was_left_and_joined_while_the_bot_was_away(bot: House) -> None:
    other = bot.fake.add_guild("others")
    other.join(bot.newcomer)
    await talk(bot)
    await talk(bot, other.add_channel("general"))
    await bot.close()
    other.remove_bot()
    await bot.open()
    await left(bot)
    assert bot.rows("SELECT guild_id FROM left_guilds") == [(other.id,)]
    await bot.close()
    other.invite_bot()
    await bot.open()
    await bot.fake.until(lambda: not bot.rows("SELECT * FROM left_guilds"))


async def test_channels_are_looked_for_once_the_guild_is_there(house: House) -> None:
    """In an outage nobody knows which channels there are."""
    await house.open()
    pond = house.guild.add_channel("pond")
    await talk(house, pond)
    await house.close()
    house.fake.world.remove_channel(pond)
    house.guild.fail()
    house.model.answer = lambda prompt: "Heard."
    await house.open()
    await house.ask("A round trip", where=house.fake.open_dm(house.newcomer))
    assert "ombats" in house.tables()
    house.guild.come_back()
    await gone(house, "ombats", pond.id)
