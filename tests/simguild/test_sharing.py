"""Forwards, threads, posts, webhooks, voice messages and stickers, as discord.py sees them."""

from __future__ import annotations

import discord
import pytest
from sim_client import Bot, Scene, running

from simguild.fake import FakeDiscord, Refused
from simguild.fake.world import FORUM


async def test_a_forward_has_no_words_and_no_author(
    fake: FakeDiscord, scene: Scene, bot: Bot
) -> None:
    file = ("a.txt", b"a", "text/plain")
    said = await fake.say(scene.teacher, scene.channel, "one", attachments=[file])
    elsewhere = scene.guild.add_channel("elsewhere")
    await fake.forward(scene.newcomer, said, elsewhere)
    await fake.edit_by_user(said, "two")
    heard = await fake.until(lambda: bot.heard[1])
    assert (heard.content, heard.type) == ("", discord.MessageType.default)
    assert heard.reference.type is discord.MessageReferenceType.forward
    assert heard.reference.message_id == said.id
    assert heard.reference.resolved is None
    [shot] = heard.message_snapshots
    assert shot.content == "one"
    assert await shot.attachments[0].read() == b"a"

    again = await fake.forward(scene.teacher, elsewhere.messages[0], scene.channel)
    assert again.snapshots == elsewhere.messages[0].snapshots
    private = fake.open_dm(scene.teacher)
    hers = await fake.say(scene.teacher, private, "hers")
    with pytest.raises(Refused, match="does not see"):
        await fake.forward(scene.newcomer, hers, scene.channel)


async def test_without_the_intent_a_forward_is_empty(fake: FakeDiscord, scene: Scene) -> None:
    fake.message_content = False
    async with running(fake, Bot(intents=discord.Intents.default())) as bot:
        said = await fake.say(scene.teacher, scene.channel, "one")
        forward = await fake.forward(scene.newcomer, said, scene.channel)
        await fake.say(scene.newcomer, scene.channel, fake.bot.mention, reply_to=forward)
        await fake.forward(scene.newcomer, said, fake.open_dm(scene.newcomer))
        await fake.until(lambda: len(bot.heard) == 4)
    assert [shot.content for shot in bot.heard[1].message_snapshots] == [""]
    [shot] = bot.heard[2].reference.resolved.message_snapshots
    assert shot.content == ""
    assert [shot.content for shot in bot.heard[3].message_snapshots] == ["one"]


async def test_a_thread_has_the_id_of_its_message(
    fake: FakeDiscord, scene: Scene, bot: Bot
) -> None:
    said = await fake.say(scene.teacher, scene.channel, "one")
    thread = await fake.open_thread(scene.teacher, scene.channel, "about one", start=said)
    await fake.say(scene.newcomer, thread, "two")
    begun, heard = (await fake.until(lambda: bot.heard[2] and bot.heard))[1:]
    assert begun.type is discord.MessageType.thread_starter_message
    assert begun.reference.resolved.content == "one"
    assert isinstance(heard.channel, discord.Thread)
    assert (heard.channel.id, heard.channel.name) == (said.id, "about one")
    assert heard.channel.owner_id == scene.teacher.id
    assert (await bot.channel(scene.channel).fetch_message(heard.channel.id)).content == "one"
    with pytest.raises(discord.NotFound):
        await heard.channel.fetch_message(heard.channel.id)

    await fake.open_thread(scene.teacher, scene.channel, "about nothing")
    told = await fake.until(lambda: bot.heard[3])
    assert (told.type, told.content) == (discord.MessageType.thread_created, "about nothing")


async def test_a_post_begins_with_its_message(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    forum = scene.guild.add_channel("help", kind=FORUM)
    post = await fake.post(scene.teacher, forum, "a question", "one")
    heard = await fake.until(lambda: bot.heard[0])
    assert isinstance(heard.channel.parent, discord.ForumChannel)
    assert heard.id == heard.channel.id == post.id
    assert (await heard.channel.fetch_message(post.id)).content == "one"
    with pytest.raises(Refused, match="no forum"):
        await fake.post(scene.teacher, scene.channel, "a question", "one")


async def test_webhooks_voice_stickers_polls_and_previews(
    fake: FakeDiscord, scene: Scene, bot: Bot
) -> None:
    await fake.webhook(scene.channel, "Builder", embeds=[{"title": "Build failed"}])
    await fake.speak(scene.newcomer, scene.channel)
    await fake.say(scene.newcomer, scene.channel, stickers=["Wave"])
    await fake.poll(scene.newcomer, scene.channel, "Which crab?", ["This", "That"])
    linked = await fake.say(scene.newcomer, scene.channel, "https://crabs.example")
    await fake.preview(linked, {"type": "link", "title": "Crabs"})
    event = await fake.until(lambda: bot.edited[0])
    built, spoken, waved, polled, _ = bot.heard
    assert built.webhook_id == built.author.id
    assert built.author.bot
    assert built.embeds[0].title == "Build failed"
    assert spoken.attachments[0].is_voice_message()
    assert [one.name for one in waved.stickers] == ["Wave"]
    assert polled.poll
    assert polled.poll.question == "Which crab?"
    assert [one.text for one in polled.poll.answers] == ["This", "That"]
    assert polled.poll.expires_at is not None
    assert event.message.embeds[0].title == "Crabs"
    assert event.message.edited_at is None


async def test_a_role_is_no_user(fake: FakeDiscord, scene: Scene) -> None:
    """Who names the bot's role does not hand the message over to it."""
    fake.message_content = False
    async with running(fake, Bot(intents=discord.Intents.default())) as bot:
        await fake.say(scene.newcomer, scene.channel, f"{scene.guild.bot_role.mention} hello")
        heard = await fake.until(lambda: bot.heard[0])
        assert heard.content == ""
        assert heard.role_mentions == [heard.guild.self_role]
