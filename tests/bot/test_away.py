"""What was said while the bot was away, or a part of it, is answered once, whoever is quicker."""

from __future__ import annotations

import pytest

from guildgpt.bot.adapter import catching_up
from guildgpt.bot.text import sentences as say
from simguild.fake import Channel, FakeMessage, Guild, Permission
from simguild.fake.trouble import Answer, cloudflare, html, torn
from simguild.fake.world import FORUM, PUBLIC_THREAD

from .house import House

HISTORY = "GET /channels/{channel}/messages"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tries again sooner to read what it could not."""
    monkeypatch.setattr(catching_up, "AGAIN_SECONDS", 0.05)


async def answered_once(house: House, *asked: FakeMessage) -> None:
    """Each of them has one answer, and still has after another start."""
    for one in asked:
        await house.answer(one)
    await house.restart()
    for one in asked:
        assert len(house.answers(one)) == 1


@pytest.fixture
async def away(house: House) -> House:
    """A bot that answered once somewhere, and is away."""
    await house.open(questions_per_user=100, waiting_per_user=100)
    await house.ask("Before?")
    await house.close()
    return house


async def quicker(away: House, where: Channel, *, killed: bool = False) -> FakeMessage:
    """Somebody asks there, and is answered before the bot could read what it missed."""
    away.ready_seconds = 0.5
    trouble = away.fake.trouble(HISTORY, html(503))
    await away.open()
    asked = await away.say("Now?", where=where)
    await away.answer(asked)
    if killed:
        await away.close()
    trouble.over()
    return asked


async def test_somebody_is_quicker_elsewhere(away: House) -> None:
    """Nothing was ever answered in either channel; the one who asks now does not hide who asked
    in the gap."""
    one, other = away.guild.add_channel("one"), away.guild.add_channel("other")
    missed = await away.say("Meanwhile?", where=one)
    quick = await quicker(away, other)
    assert away.answers(missed) == []
    await answered_once(away, missed, quick)


async def test_somebody_is_quicker_in_the_same_channel(away: House) -> None:
    where = away.guild.add_channel("new")
    missed = await away.say("Meanwhile?", where=where)
    quick = await quicker(away, where)
    assert away.answers(missed) == []
    await answered_once(away, missed, quick)


async def test_it_is_killed_before_it_has_read(away: House) -> None:
    one, other = away.guild.add_channel("one"), away.guild.add_channel("other")
    missed = await away.say("Meanwhile?", where=one)
    quick = await quicker(away, other, killed=True)
    assert away.answers(missed) == []
    await away.open()
    await answered_once(away, missed, quick)


# Two shards


def on_both_shards(house: House) -> list[Guild]:
    """A guild on each of two shards."""
    found = {(house.guild.id >> 22) % 2: house.guild}
    while len(found) < 2:
        other = house.fake.add_guild("gardeners")
        other.join(house.newcomer)
        found.setdefault((other.id >> 22) % 2, other)
    return [found[0], found[1]]


@pytest.mark.parametrize("gaps", [6])
async def test_gaps_of_two_shards(house: House, gaps: int) -> None:
    """In every gap a question on each shard, in a channel where nothing was ever answered; and one
    as soon as either is back."""
    guilds = on_both_shards(house)
    await house.open(shards=2, questions_per_user=100, waiting_per_user=100)
    await house.fake.until(lambda: house.fake.connected == 2)
    asked: list[FakeMessage] = []
    for gap in range(gaps):
        if gap % 3 == 0:  # killed and started anew
            await house.close()
        else:  # one shard loses its session, or both do
            house.fake.drop(resume=False, shard=gap % 2 if gap % 3 == 1 else None)
        new = [guild.add_channel(f"gap-{gap}") for guild in guilds]
        asked += [await house.say("Meanwhile?", where=where) for where in new]
        if gap % 3 == 0:
            await house.open()
        quick = guilds[gap % 2].add_channel(f"quick-{gap}")
        asked.append(await house.say("Now?", where=quick))
        for one in asked:
            await house.answer(one)
    await house.restart()
    assert [len(house.answers(one)) for one in asked] == [1] * len(asked)


async def test_a_shard_that_is_not_there_yet(house: House) -> None:
    """What the first shard hears meanwhile does not make the second one's gap pass for read."""
    guilds = on_both_shards(house)
    await house.open(shards=2, questions_per_user=100, waiting_per_user=100)
    await house.fake.until(lambda: house.fake.connected == 2)
    first = [await house.ask("Before?", where=guild.add_channel("before")) for guild in guilds]
    assert len(first) == 2
    await house.close()
    missed = await house.say("Meanwhile?", where=guilds[1].add_channel("missed"))
    house.fake.gateway_server.refused_shards.add(1)
    await house.open()
    quick = await house.say("Now?", where=guilds[0].add_channel("quick"))
    await house.answer(quick)
    await house.close()
    house.fake.gateway_server.refused_shards.clear()
    await house.open()
    await answered_once(house, missed, quick)


# Channels of all kinds


def thread_in(parent: Channel, house: House) -> Channel:
    """Somebody opens a thread, or a post in a forum."""
    return house.fake.world.add_channel(
        "a thread",
        guild=house.guild,
        parent=parent,
        kind=PUBLIC_THREAD,
        owner=house.newcomer,
        members=[house.newcomer],
    )


async def test_channels_threads_and_posts_that_are_new(away: House) -> None:
    forum = away.guild.add_channel("questions", kind=FORUM)
    places = [
        away.guild.add_channel("new"),
        thread_in(away.channel, away),
        thread_in(forum, away),
    ]
    asked = [await away.say("Meanwhile?", where=place) for place in places]
    await away.open()
    await answered_once(away, *asked)


async def test_a_first_direct_message(away: House) -> None:
    """Discord does not say that there is such a channel. With the next message it is found."""
    private = away.fake.open_dm(away.teacher)
    missed = await away.say("Are you there?", where=private, who=away.teacher)
    await away.open()
    again = await away.say("Hello?", where=private, who=away.teacher)
    await answered_once(away, missed, again)


async def test_direct_messages_that_are_known(away: House) -> None:
    private = away.fake.open_dm(away.teacher)
    await away.open()
    await away.ask("Before?", where=private, who=away.teacher)
    await away.close()
    missed = await away.say("Are you there?", where=private, who=away.teacher)
    await away.open()
    await answered_once(away, missed)


async def test_a_guild_that_discord_has_trouble_with(away: House) -> None:
    missed = await away.say("Meanwhile?", where=away.guild.add_channel("new"))
    away.guild.available = False
    await away.open()
    other = away.fake.open_dm(away.newcomer)
    quick = await away.say("Now?", where=other)
    await away.answer(quick)
    assert away.answers(missed) == []
    away.guild.come_back()
    await answered_once(away, missed, quick)


# What stands in the way


@pytest.mark.parametrize("trouble", [html(503), cloudflare(), torn()])
async def test_a_history_that_cannot_be_read_at_once(away: House, trouble: Answer) -> None:
    missed = await away.say("Meanwhile?", where=away.guild.add_channel("new"))
    met = away.fake.trouble(HISTORY, trouble, times=3)
    await away.open()
    await answered_once(away, missed)
    assert met.met >= 3


async def test_killed_while_a_history_cannot_be_read(away: House) -> None:
    missed = await away.say("Meanwhile?", where=away.guild.add_channel("new"))
    met = away.fake.trouble(HISTORY, html(503))
    await away.open()
    await away.ask("Now?")
    await away.fake.until(lambda: met.met >= 2)
    await away.close()
    met.over()
    await away.open()
    await answered_once(away, missed)


async def test_what_may_not_be_read_holds_up_nothing(away: House) -> None:
    hidden = away.guild.add_channel("hidden")
    await away.say("Meanwhile?", where=hidden)
    hidden.deny(away.fake.bot, Permission.VIEW_CHANNEL)
    missed = await away.say("Meanwhile?")
    await away.open()
    await answered_once(away, missed)
    assert say.FAILED not in str(away.channel.messages)
