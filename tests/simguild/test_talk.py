"""discord.py logs in, sees guilds, hears and answers: messages, DMs, files, threads."""

from __future__ import annotations

import io

import discord
import pytest
from sim_client import Bot, Scene, running

from simguild.fake import FakeDiscord, Permission, Refused


async def test_it_logs_in_and_sees_the_guild(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    assert bot.user is not None
    assert bot.user.id == fake.bot.id == bot.application_id
    [guild] = bot.guilds
    assert (guild.id, guild.name, guild.member_count) == (scene.guild.id, "rustaceans", 4)
    assert [channel.name for channel in guild.text_channels] == ["general"]
    assert {role.name for role in guild.roles} == {"@everyone", "admin", "guildgpt"}
    assert guild.me.top_role.is_bot_managed()
    assert guild.owner_id == fake.world.owner.id


async def test_application_and_flags(fake: FakeDiscord, bot: Bot) -> None:
    info = await bot.application_info()
    assert info.flags.gateway_message_content_limited
    assert not info.flags.gateway_guild_members_limited
    fake.message_content = False
    info = await bot.application_info()
    assert not info.flags.gateway_message_content_limited
    [guild] = await bot.http.get_guilds(limit=200)
    assert discord.Permissions(int(guild["permissions"])).send_messages


async def test_a_message_a_reply_an_edit_and_its_end(
    fake: FakeDiscord, scene: Scene, bot: Bot
) -> None:
    said = await fake.say(scene.newcomer, scene.channel, f"{fake.bot.mention} hello")
    heard = await fake.until(lambda: bot.heard[0])
    assert heard.content == said.content
    assert isinstance(heard.author, discord.Member)
    assert heard.author.id == scene.newcomer.id
    assert [user.id for user in heard.mentions] == [fake.bot.id]
    assert isinstance(heard.channel, discord.TextChannel)

    answer = await heard.reply("hi")
    [posted] = scene.channel.by(fake.bot)
    assert (posted.content, posted.id, posted.reference) == ("hi", answer.id, said)
    assert said.reacted_ms is not None
    assert 0 <= said.reacted_ms < 5000

    await answer.edit(content="hi there")
    assert (posted.content, posted.edits) == ("hi there", ["hi there"])
    await fake.until(lambda: bot.edited)

    await answer.delete()
    assert posted.deleted
    assert scene.channel.by(fake.bot) == []
    assert scene.channel.messages == [said, posted]
    await fake.until(lambda: bot.deleted == [posted.id])
    assert fake.violations == []


async def test_people_edit_reply_and_delete(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    first = await fake.say(scene.newcomer, scene.channel, "one")
    await fake.edit_by_user(first, "two")
    event = await fake.until(lambda: bot.edited[0])
    assert event.message.content == "two"
    reply = await fake.say(scene.teacher, scene.channel, "indeed", reply_to=first)
    heard = await fake.until(lambda: bot.heard[1])
    assert heard.reference is not None
    assert isinstance(heard.reference.resolved, discord.Message)
    assert heard.reference.resolved.content == "two"
    assert reply.mentions == [scene.newcomer]
    await fake.delete(first)
    await fake.until(lambda: bot.deleted == [first.id])


async def test_typing_is_a_sign_of_life(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    said = await fake.say(scene.newcomer, scene.channel, "hello?")
    assert said.reacted_ms is None
    async with bot.channel(scene.channel).typing():
        assert said.reacted_ms is not None
    assert scene.channel.typed == 1


async def test_history_in_pages(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    said = [await fake.say(scene.newcomer, scene.channel, str(n)) for n in range(7)]
    await fake.delete(said[3])
    channel = bot.channel(scene.channel)
    texts = [message.content async for message in channel.history(limit=3)]
    assert texts == ["6", "5", "4"]
    after = discord.Object(said[1].id)
    texts = [message.content async for message in channel.history(after=after, limit=3)]
    assert texts == ["2", "4", "5"]
    texts = [message.content async for message in channel.history(before=after)]
    assert texts == ["0"]
    assert (await channel.fetch_message(said[0].id)).content == "0"
    with pytest.raises(discord.NotFound) as refusal:
        await channel.fetch_message(said[3].id)
    assert refusal.value.code == 10008


async def test_direct_messages(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    dm = fake.open_dm(scene.newcomer)
    assert fake.open_dm(scene.newcomer) is dm
    await fake.say(scene.newcomer, dm, "psst")
    heard = await fake.until(lambda: bot.heard[0])
    assert isinstance(heard.channel, discord.DMChannel)
    await heard.channel.send("yes?")
    assert [message.content for message in dm.messages] == ["psst", "yes?"]
    user = await bot.fetch_user(scene.teacher.id)
    await user.send("hello, teacher")
    assert [one.content for one in fake.open_dm(scene.teacher).messages] == ["hello, teacher"]

    scene.newcomer.blocks_dms = True
    with pytest.raises(discord.Forbidden) as refusal:
        await heard.channel.send("still there?")
    assert refusal.value.code == 50007
    assert fake.violations == []


async def test_files_both_ways(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    await fake.say(
        scene.newcomer, scene.channel, attachments=[("nötes.txt", b"what I know", "text/plain")]
    )
    heard = await fake.until(lambda: bot.heard[0])
    [attachment] = heard.attachments
    assert (attachment.filename, attachment.size) == ("nötes.txt", 11)
    assert attachment.content_type == "text/plain"
    assert await attachment.read() == b"what I know"

    file = discord.File(io.BytesIO(b"1,2"), "table.csv")
    sent = await heard.reply("here", file=file)
    [posted] = scene.channel.by(fake.bot)
    assert [(one.filename, one.content) for one in posted.attachments] == [("table.csv", b"1,2")]
    assert await sent.attachments[0].read() == b"1,2"
    await sent.edit(attachments=[])
    assert posted.attachments == []
    assert fake.violations == []


async def test_a_thread_from_a_message(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    said = await fake.say(scene.newcomer, scene.channel, "let us talk")
    heard = await fake.until(lambda: bot.heard[0])
    thread = await heard.create_thread(name="a talk")
    assert thread.id == said.id
    assert said.thread is not None
    await thread.send("here we are")
    await fake.say(scene.newcomer, said.thread, "indeed")
    answer = await fake.until(lambda: bot.heard[-1].content == "indeed" and bot.heard[-1])
    assert isinstance(answer.channel, discord.Thread)
    assert answer.channel.owner_id == fake.bot.id
    assert answer.channel.parent_id == scene.channel.id
    with pytest.raises(discord.HTTPException) as refusal:
        await heard.create_thread(name="again")
    assert refusal.value.code == 160004
    await answer.channel.edit(archived=True)
    assert said.thread.archived
    async with running(fake, Bot()) as later:
        assert list(later.guilds[0].threads) == []


async def test_a_thread_without_a_message(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    channel = bot.channel(scene.channel)
    thread = await channel.create_thread(name="chat", type=discord.ChannelType.public_thread)
    await thread.add_user(discord.Object(scene.newcomer.id))
    [there] = scene.guild.threads
    assert scene.newcomer in there.members
    async with running(fake, Bot()) as later:
        assert [one.name for one in later.guilds[0].threads] == ["chat"]


async def test_a_guild_comes_changes_and_goes(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    new = fake.add_guild("gardeners")
    await fake.until(lambda: [guild.name for guild in bot.joined] == ["gardeners"])
    channel = new.add_channel("roses")
    await fake.until(lambda: bot.get_channel(channel.id))
    new.join(scene.newcomer)
    await fake.say(scene.newcomer, channel, "hello")
    await fake.until(lambda: bot.heard)
    new.leave(scene.newcomer)
    with pytest.raises(Refused):
        await fake.say(scene.newcomer, channel, "am I still here?")
    new.remove_bot()
    await fake.until(lambda: bot.left)
    with pytest.raises(discord.Forbidden):
        await bot.get_partial_messageable(channel.id).send("hello?")


async def test_permissions_come_out_as_discord_computes_them(
    fake: FakeDiscord, scene: Scene, bot: Bot
) -> None:
    channel, me = bot.channel(scene.channel), bot.guilds[0].me
    assert channel.permissions_for(me).send_messages
    scene.channel.deny(fake.bot, Permission.SEND_MESSAGES)
    await fake.until(lambda: not bot.channel(scene.channel).permissions_for(me).send_messages)
    for act in (channel.send("hello"), channel.typing().__aenter__()):
        with pytest.raises(discord.Forbidden) as refusal:
            await act
        assert refusal.value.code == 50013

    scene.channel.allow(scene.guild.bot_role, Permission.SEND_MESSAGES)
    scene.channel.deny(scene.guild.everyone, Permission.VIEW_CHANNEL)
    with pytest.raises(discord.Forbidden) as refusal:
        await channel.send("hello")
    assert refusal.value.code == 50001
    await fake.say(scene.teacher, scene.channel, "only admins read this")
    with pytest.raises(Refused):
        await fake.say(scene.newcomer, scene.channel, "what do they read?")
    scene.channel.allow(fake.bot, Permission.VIEW_CHANNEL | Permission.SEND_MESSAGES)
    await channel.send("hello")
    assert bot.texts("teacher") == []


@pytest.mark.parametrize(
    ("lacking", "act", "code"),
    [
        (Permission.ATTACH_FILES, "file", 50013),
        (Permission.CREATE_PUBLIC_THREADS, "thread", 50013),
        (Permission.ADD_REACTIONS, "react", 50013),
        (Permission.READ_MESSAGE_HISTORY, "reply", 160002),
        (Permission.READ_MESSAGE_HISTORY, "fetch", 50013),
        (Permission.MANAGE_MESSAGES, "delete", 50013),
    ],
)
async def test_every_permission_is_asked_for(
    fake: FakeDiscord, scene: Scene, bot: Bot, lacking: Permission, act: str, code: int
) -> None:
    said = await fake.say(scene.newcomer, scene.channel, "hello")
    heard = await fake.until(lambda: bot.heard[0])
    scene.channel.deny(fake.bot, lacking)
    channel = bot.channel(scene.channel)
    acts = {
        "file": lambda: channel.send(file=discord.File(io.BytesIO(b"x"), "x")),
        "thread": lambda: heard.create_thread(name="x"),
        "react": lambda: heard.add_reaction("👍"),
        "reply": lambda: heard.reply("x"),
        "fetch": lambda: channel.fetch_message(said.id),
        "delete": lambda: heard.delete(),
    }
    with pytest.raises(discord.HTTPException) as refusal:
        await acts[act]()
    assert refusal.value.code == code


async def test_reactions(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    said = await fake.say(scene.newcomer, scene.channel, "hello")
    heard = await fake.until(lambda: bot.heard[0])
    await heard.add_reaction("👍")
    assert said.reactions == {"👍": [fake.bot]}
    await heard.remove_reaction("👍", discord.Object(fake.bot.id))
    assert said.reactions == {"👍": []}


async def test_a_message_that_is_gone(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    said = await fake.say(scene.newcomer, scene.channel, "hello")
    heard = await fake.until(lambda: bot.heard[0])
    answer = await heard.reply("hi")
    await fake.delete(said)
    with pytest.raises(discord.NotFound) as refusal:
        await heard.reply("are you there?")
    assert refusal.value.code == 10008
    await heard.channel.send("anyway", reference=heard.to_reference(fail_if_not_exists=False))
    assert scene.channel.by(fake.bot)[-1].reference is None
    await fake.delete(scene.channel.by(fake.bot)[0])
    with pytest.raises(discord.NotFound) as refusal:
        await answer.edit(content="hi again")
    assert refusal.value.code == 10008
    assert fake.violations == []


async def test_a_wrong_token(fake: FakeDiscord) -> None:
    client = Bot()
    with pytest.raises(discord.LoginFailure):
        await client.start("not the token")
    await client.close()
