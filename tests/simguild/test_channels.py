"""Channels of every kind, and what Discord allows in each."""

from __future__ import annotations

import discord
import pytest
from sim_client import Bot, Scene, running

from simguild.fake import FakeDiscord, Permission
from simguild.fake.world import FORUM, MEDIA, NEWS, STAGE, VOICE

KINDS = discord.ChannelType


async def refusal_of(act: object) -> int:
    """The code with which Discord refuses."""
    with pytest.raises(discord.HTTPException) as refusal:
        await act  # type: ignore[misc]
    return refusal.value.code


async def test_every_kind_of_channel_is_known(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    kinds = {
        NEWS: discord.TextChannel,
        VOICE: discord.VoiceChannel,
        STAGE: discord.StageChannel,
        FORUM: discord.ForumChannel,
        MEDIA: discord.ForumChannel,
    }
    made = {kind: scene.guild.add_channel(f"channel {kind}", kind=kind) for kind in kinds}
    for kind, expected in kinds.items():
        await fake.until(lambda one=made[kind]: bot.get_channel(one.id))
        found = bot.get_channel(made[kind].id)
        assert isinstance(found, expected)
        assert found.type.value == kind
    async with running(fake, Bot()) as later:
        assert {made[kind].id for kind in kinds} < {one.id for one in later.guilds[0].channels}


async def test_each_kind_has_its_own_threads(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    made = scene.guild.add_channel("news", kind=NEWS)
    await fake.until(lambda: bot.get_channel(made.id))
    news, text = bot.get_channel(made.id), bot.channel(scene.channel)
    assert isinstance(news, discord.TextChannel)
    assert isinstance(text, discord.TextChannel)
    assert news.is_news()
    for channel, kind in ((news, KINDS.public_thread), (text, KINDS.news_thread)):
        assert await refusal_of(channel.create_thread(name="x", type=kind)) == 50024
    thread = await news.create_thread(name="x", type=KINDS.news_thread)
    assert thread.type == KINDS.news_thread
    said = await fake.say(scene.newcomer, made, "hello")
    heard = await fake.until(lambda: bot.heard[0])
    assert (await heard.create_thread(name="y")).type == KINDS.news_thread
    assert said.thread is not None
    voice = scene.guild.add_channel("voices", kind=VOICE)
    starting = bot.http.start_thread_without_message(
        voice.id, name="x", auto_archive_duration=60, type=KINDS.public_thread.value
    )
    assert await refusal_of(starting) == 50024


async def test_who_may_be_added_to_a_thread(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    text = bot.channel(scene.channel)
    thread = await text.create_thread(name="x", type=KINDS.public_thread)
    member = discord.Object(scene.newcomer.id)
    fake.limits.thread_members = 1
    assert await refusal_of(thread.add_user(member)) == 30033
    fake.limits.thread_members = 2
    scene.channel.deny(fake.bot, Permission.SEND_MESSAGES_IN_THREADS)
    assert await refusal_of(thread.add_user(member)) == 50013
    scene.channel.allow(fake.bot, Permission.SEND_MESSAGES_IN_THREADS)
    await thread.edit(archived=True)
    assert await refusal_of(thread.add_user(member)) == 50083
    fake.limits.active_threads = 0
    again = text.create_thread(name="y", type=KINDS.public_thread)
    assert await refusal_of(again) == 160006


async def test_who_opened_a_thread_may_archive_but_not_delete_it(
    fake: FakeDiscord, scene: Scene, bot: Bot
) -> None:
    thread = await bot.channel(scene.channel).create_thread(name="x", type=KINDS.public_thread)
    assert await refusal_of(thread.delete()) == 50013
    await thread.edit(archived=True)
    scene.channel.allow(fake.bot, Permission.MANAGE_THREADS)
    await thread.delete()
    assert await refusal_of(bot.fetch_channel(thread.id)) == 10003


async def test_a_channel_goes_with_its_threads(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    made = scene.guild.add_channel("pond")
    await fake.until(lambda: bot.get_channel(made.id))
    pond = bot.get_channel(made.id)
    assert isinstance(pond, discord.TextChannel)
    thread = await pond.create_thread(name="x", type=KINDS.public_thread)
    fake.world.remove_channel(made)
    await fake.until(lambda: bot.get_channel(made.id) is None)
    assert bot.guilds[0].get_thread(thread.id) is None
    for gone in (made.id, thread.id):
        assert await refusal_of(bot.fetch_channel(gone)) == 10003
