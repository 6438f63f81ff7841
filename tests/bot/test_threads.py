"""`/chat`: a thread where there can be one, and the right reason where there can be none."""

from __future__ import annotations

import pytest

from guildgpt.bot.text import sentences as say
from guildgpt.bot.text.splitting import utf16_len
from simguild.fake import Channel, Interaction, Permission, Refused
from simguild.fake.world import FORUM, MEDIA, NEWS, NEWS_THREAD, PUBLIC_THREAD, STAGE, VOICE
from simguild.journal import finished

from .house import House, words


def said(called: Interaction) -> str:
    """What a command brought, which has to be one message for the member alone."""
    [one] = called.responses
    assert one.ephemeral
    return one.content


async def opened(bot: House, **options: object) -> Channel:
    """The thread that `/chat` opened, its first answer written if there is a topic."""
    called = await bot.command("chat", **options)
    thread = bot.guild.threads[-1]
    assert said(called) == say.here(thread.mention)
    if options.get("topic"):
        await bot.fake.until(lambda: finished(thread.by(bot.fake.bot)[-1]))
    return thread


async def test_in_an_announcement_channel(bot: House) -> None:
    news = bot.guild.add_channel("news", kind=NEWS)
    thread = await opened(bot, where=news, topic="What is new?")
    assert (thread.kind, thread.parent) == (NEWS_THREAD, news)
    assert bot.newcomer in thread.members
    [answer] = words(thread.by(bot.fake.bot))
    assert answer.startswith("You wrote: What is new?")
    # It is a thread of the bot's like any other: the whole of it is the conversation.
    await bot.ask("And then?", where=thread)
    assert "What is new?" in bot.model.prompts[-1]


async def test_in_a_text_channel_it_is_an_ordinary_one(bot: House) -> None:
    assert (await opened(bot, topic="Cats")).kind == PUBLIC_THREAD


@pytest.mark.parametrize("kind", [VOICE, STAGE])
async def test_in_a_voice_channel_there_is_none(bot: House, kind: int) -> None:
    voice = bot.guild.add_channel("voices", kind=kind)
    assert said(await bot.command("chat", where=voice)) == say.NO_THREADS_IN_VOICE
    assert bot.guild.threads == []
    await bot.ask("But here?", where=voice)  # as the sentence says


@pytest.mark.parametrize("kind", [FORUM, MEDIA])
async def test_in_a_post_of_a_forum_one_talks_right_there(bot: House, kind: int) -> None:
    forum = bot.guild.add_channel("help", kind=kind)
    post = bot.guild.add_channel("How do I?", kind=PUBLIC_THREAD, parent=forum)
    post.owner = bot.newcomer
    post.tell("THREAD_CREATE")
    assert said(await bot.command("chat", where=post)) == say.THREAD_ALREADY
    await bot.ask("So?", where=post)


async def test_in_a_thread(bot: House) -> None:
    thread = await opened(bot, topic="Cats")
    assert said(await bot.command("chat", where=thread, topic="Dogs")) == say.THREAD_ALREADY
    with pytest.raises(Refused):
        await bot.fake.slash(bot.newcomer, bot.fake.open_dm(bot.newcomer), "chat")


@pytest.mark.parametrize(
    ("permission", "called"),
    [
        (Permission.CREATE_PUBLIC_THREADS, "Create Public Threads"),
        (Permission.SEND_MESSAGES_IN_THREADS, "Send Messages in Threads"),
    ],
)
async def test_the_permission_that_lacks_is_named(
    bot: House, permission: Permission, called: str
) -> None:
    bot.channel.deny(bot.fake.bot, permission)
    assert said(await bot.command("chat", topic="Cats")) == say.lacking([called])
    assert bot.guild.threads == []
    bot.channel.allow(bot.fake.bot, permission)
    await opened(bot, topic="Cats")


async def test_several_permissions_lack(bot: House) -> None:
    lacking = Permission.CREATE_PUBLIC_THREADS | Permission.SEND_MESSAGES_IN_THREADS
    bot.channel.deny(bot.fake.bot, lacking)
    told = said(await bot.command("chat", topic="Cats"))
    assert "the permissions **Create Public Threads** and **Send Messages in Threads**" in told


async def test_a_server_with_too_many_threads(bot: House) -> None:
    bot.fake.limits.active_threads = 0
    assert said(await bot.command("chat", topic="Cats")) == say.TOO_MANY_THREADS


# Titles


FAMILY = "👩‍👩‍👧"


@pytest.mark.parametrize(
    ("topic", "title"),
    [
        ("😀" * 60, "😀" * 49 + "…"),
        ("x" * 100, "x" * 100),
        ("x" * 101, "x" * 99 + "…"),
        (FAMILY * 20, FAMILY * 12 + "…"),
        ("🇩🇪" * 40, "🇩🇪" * 24 + "…"),
        ("word " * 30, ("word " * 20).strip() + "…"),
        ("Two\n\nlines  of it", "Two lines of it"),
        ("東京" * 60, ("東京" * 50)[:99] + "…"),
    ],
)
async def test_a_fitting_title(bot: House, topic: str, title: str) -> None:
    thread = await opened(bot, topic=topic)
    assert thread.name == title
    assert utf16_len(thread.name) <= 100
    assert topic.strip() in bot.model.prompts[-1]  # the question is whole


@pytest.mark.parametrize("topic", [" ", "\u200b\u2060", "\u3164", "\n\t "])
async def test_a_blank_topic_is_asked_for_again(bot: House, topic: str) -> None:
    assert said(await bot.command("chat", topic=topic)) == say.NO_TOPIC
    assert bot.guild.threads == []
    assert bot.model.made[0].prompts == []


async def test_without_a_topic_nothing_is_asked(bot: House) -> None:
    thread = await opened(bot)
    assert thread.name == say.chat_with("newcomer")
    assert thread.messages == []
    await bot.ask("Hello", where=thread)
    assert bot.model.prompts == [bot.model.prompts[0]]


# A member who cannot be added


async def test_who_cannot_be_added_is_answered_all_the_same(bot: House) -> None:
    bot.fake.limits.thread_members = 1  # the bot itself
    thread = await opened(bot, topic="Cats")
    assert bot.newcomer not in thread.members
    assert len(thread.by(bot.fake.bot)) == 1


@pytest.mark.parametrize("may_delete", [True, False])
async def test_a_thread_in_which_it_cannot_write_is_taken_back(
    bot: House, monkeypatch: pytest.MonkeyPatch, may_delete: bool
) -> None:
    """The permission goes while the thread is being made."""
    if may_delete:
        bot.channel.allow(bot.fake.bot, Permission.MANAGE_THREADS)
    add = bot.fake.world.add_channel

    def then_denied(*args: object, **more: object) -> Channel:
        bot.channel.deny(bot.fake.bot, Permission.SEND_MESSAGES_IN_THREADS)
        return add(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(bot.fake.world, "add_channel", then_denied)
    called = await bot.command("chat", topic="Cats")
    assert said(called) == say.lacking(["Send Messages in Threads"])
    assert bot.guild.threads == []  # deleted, or else archived
    assert [one for one in bot.guild.channels if one.is_thread and not one.archived] == []
    assert bot.model.made[0].prompts == []
