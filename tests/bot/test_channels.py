"""Where it answers: the list of channels, taken apart again, and what becomes of deleted ones."""

from __future__ import annotations

import pytest

from guildgpt.bot.text import sentences as say
from simguild.fake import Channel, Refused
from simguild.fake.world import CATEGORY, FORUM, NEWS, PUBLIC_THREAD, STAGE, VOICE
from simguild.journal import finished

from .house import House


async def set_to(bot: House, **options: object) -> str:
    """What `/settings` says."""
    called = await bot.command("settings", who=bot.teacher, **options)
    [one] = called.responses
    assert one.ephemeral
    return one.content


async def is_silent(bot: House, where: Channel) -> None:
    """Nothing is answered there: neither a mention nor a command."""
    await bot.say("Here?", where=where)
    called = await bot.command("ask", question="Here?", where=where)
    assert called.responses[-1].content == say.OTHER_CHANNEL


async def test_one_channel_is_taken_off_the_list(bot: House) -> None:
    pond = bot.guild.add_channel("pond")
    await set_to(bot, channel=pond)
    told = await set_to(bot, channel=bot.channel)
    listed = sorted([pond, bot.channel], key=lambda one: one.id)
    assert told == say.rules([one.mention for one in listed], feedback=True)
    assert await set_to(bot, remove=pond) == say.rules([bot.channel.mention], feedback=True)
    await is_silent(bot, pond)
    await bot.ask("And here?")
    told = await set_to(bot, remove=pond)
    assert told.startswith(say.not_listed(pond.mention))
    # Without any on it, the list names all.
    assert await set_to(bot, remove=bot.channel) == say.rules([], feedback=True)
    await bot.ask("And now?", where=pond)


async def test_another_is_put_on_while_one_goes(bot: House) -> None:
    pond = bot.guild.add_channel("pond")
    await set_to(bot, channel=pond)
    told = await set_to(bot, channel=bot.channel, remove=pond)
    assert told == say.rules([bot.channel.mention], feedback=True)


@pytest.mark.parametrize("kind", [NEWS, VOICE, STAGE])
async def test_channels_of_other_kinds(bot: House, kind: int) -> None:
    other = bot.guild.add_channel("other", kind=kind)
    assert await set_to(bot, channel=other) == say.rules([other.mention], feedback=True)
    await bot.ask("Here?", where=other)
    await is_silent(bot, bot.channel)


async def test_a_forum_stands_for_its_posts_and_a_thread_for_itself(bot: House) -> None:
    forum = bot.guild.add_channel("help", kind=FORUM)
    posts = [bot.guild.add_channel(f"post {n}", kind=PUBLIC_THREAD, parent=forum) for n in "12"]
    for post in posts:
        post.owner = bot.newcomer
        post.tell("THREAD_CREATE")
    await set_to(bot, channel=forum)
    for post in posts:
        await bot.ask("Here?", where=post)
    await set_to(bot, channel=posts[0], remove=forum)
    await bot.ask("Here?", where=posts[0])
    await is_silent(bot, posts[1])


async def test_a_category_is_not_offered(bot: House) -> None:
    with pytest.raises(Refused, match="not offered"):
        await set_to(bot, channel=bot.guild.add_channel("all", kind=CATEGORY))


# Deleted channels


async def test_a_deleted_channel_leaves_the_list(bot: House) -> None:
    pond, lake = bot.guild.add_channel("pond"), bot.guild.add_channel("lake")
    await set_to(bot, channel=pond)
    await set_to(bot, channel=lake)
    bot.fake.world.remove_channel(pond)
    await bot.fake.until(lambda: str(pond.id) not in listed(bot))
    assert await set_to(bot) == say.rules([lake.mention], feedback=True)
    await is_silent(bot, bot.channel)


def listed(bot: House) -> str:
    [(settings,)] = bot.rows("SELECT settings FROM guild_settings")
    return str(settings)


async def test_the_last_one_deleted_does_not_silence_the_guild(bot: House) -> None:
    pond = bot.guild.add_channel("pond")
    await set_to(bot, channel=pond)
    await is_silent(bot, bot.channel)
    bot.fake.world.remove_channel(pond)
    await bot.fake.until(lambda: str(pond.id) not in listed(bot))
    await bot.ask("And now?")
    told = await set_to(bot)
    assert told == say.rules([], feedback=True, emptied=True)
    assert "the channels you had chosen were deleted" in told
    await bot.restart()
    assert await set_to(bot) == told
    # Once somebody has chosen again, it is of no interest.
    await set_to(bot, channel=bot.channel)
    assert await set_to(bot, everywhere=True) == say.rules([], feedback=True)


async def test_a_deleted_thread_leaves_the_list_with_its_channel_too(bot: House) -> None:
    pond = bot.guild.add_channel("pond")
    for topic in ("Frogs", "Newts"):
        await bot.command("chat", where=pond, topic=topic)
        thread = bot.guild.threads[-1]
        await bot.fake.until(lambda t=thread: finished(t.messages[0]))
    frogs, newts = bot.guild.threads
    for thread in (frogs, newts):
        await set_to(bot, channel=thread)
    bot.fake.world.remove_channel(frogs)
    await bot.fake.until(lambda: str(frogs.id) not in listed(bot))
    assert str(newts.id) in listed(bot)
    bot.fake.world.remove_channel(pond)
    await bot.fake.until(lambda: str(newts.id) not in listed(bot))
    await bot.ask("And now?")


async def test_a_channel_that_was_deleted_while_the_bot_was_away(bot: House) -> None:
    pond = bot.guild.add_channel("pond")
    await set_to(bot, channel=pond)
    await bot.close()
    bot.fake.world.remove_channel(pond)
    await bot.open()
    await bot.fake.until(lambda: str(pond.id) not in listed(bot))
    await bot.ask("And now?")


async def test_an_archived_thread_is_not_a_deleted_one(bot: House) -> None:
    await bot.command("chat", topic="Frogs")
    [thread] = bot.guild.threads
    await bot.fake.until(lambda: finished(thread.messages[0]))
    pond = bot.guild.add_channel("pond")
    await set_to(bot, channel=thread)
    await set_to(bot, channel=pond)
    await bot.close()
    thread.archived = True
    bot.fake.world.remove_channel(pond)
    await bot.open()
    await bot.fake.until(lambda: str(pond.id) not in listed(bot))
    assert str(thread.id) in listed(bot)
