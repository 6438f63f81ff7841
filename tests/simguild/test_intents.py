"""The message content intent, and the other privileged ones."""

from __future__ import annotations

import discord
import pytest
from sim_client import Bot, Scene, running

from simguild.fake import FakeDiscord


def intents(**more: bool) -> discord.Intents:
    asked = discord.Intents.default()
    for name, on in more.items():
        setattr(asked, name, on)
    return asked


@pytest.mark.parametrize("name", ["message_content", "members", "presences"])
async def test_an_intent_that_is_not_switched_on(
    fake: FakeDiscord, scene: Scene, name: str
) -> None:
    fake.message_content = False
    client = Bot(intents=intents(**{name: True}))
    with pytest.raises(discord.PrivilegedIntentsRequired):
        await client.start(fake.token)
    await client.close()


async def test_without_the_intent_contents_are_empty(fake: FakeDiscord, scene: Scene) -> None:
    fake.message_content = False
    mention = fake.bot.mention
    async with running(fake, Bot(intents=intents())) as bot:
        file = ("a.txt", b"a", "text/plain")
        plain = await fake.say(scene.newcomer, scene.channel, "secret", attachments=[file])
        await fake.say(scene.newcomer, scene.channel, f"{mention} what of this?", reply_to=plain)
        await fake.until(lambda: len(bot.heard) == 2)
        hidden, asked = bot.heard
        assert (hidden.content, hidden.attachments) == ("", [])
        assert asked.content == f"{mention} what of this?"
        assert asked.reference.resolved.content == ""

        answer = await asked.reply("I cannot see it")
        [own] = scene.channel.by(fake.bot)
        await fake.say(scene.teacher, scene.channel, "but I can", reply_to=own)
        await fake.say(scene.teacher, scene.channel, "not you", reply_to=own, ping=False)
        await fake.until(lambda: len(bot.heard) == 5)
        assert [one.content for one in bot.heard[2:]] == ["I cannot see it", "but I can", ""]
        assert bot.heard[3].reference.resolved.content == "I cannot see it"
        assert answer.content == "I cannot see it"

        await fake.say(scene.newcomer, fake.open_dm(scene.newcomer), "between us")
        await fake.until(lambda: bot.heard[-1].content == "between us")

        history = [one.content async for one in bot.channel(scene.channel).history()]
        assert history == ["", "but I can", "I cannot see it", f"{mention} what of this?", ""]
        fetched = await bot.channel(scene.channel).fetch_message(plain.id)
        assert fetched.content == ""
    assert fake.violations == []


async def test_each_client_sees_what_it_asked_for(fake: FakeDiscord, scene: Scene) -> None:
    """Two processes with one token, one of them without the intent."""
    async with (
        running(fake, Bot(intents=intents())) as blind,
        running(fake, Bot()) as seeing,
    ):
        assert fake.connected == 2
        await fake.say(scene.newcomer, scene.channel, "hello")
        await fake.until(lambda: blind.heard and seeing.heard)
        assert (blind.heard[0].content, seeing.heard[0].content) == ("", "hello")


async def test_events_that_were_not_asked_for(fake: FakeDiscord, scene: Scene) -> None:
    asked = discord.Intents.none()
    asked.guilds = asked.dm_messages = True
    async with running(fake, Bot(intents=asked)) as bot:
        await fake.say(scene.newcomer, scene.channel, f"{fake.bot.mention} hello")
        await fake.say(scene.newcomer, fake.open_dm(scene.newcomer), "hello")
        await fake.until(lambda: bot.heard)
        assert [message.guild for message in bot.heard] == [None]


async def test_members_when_switched_on(scene: Scene) -> None:
    async with FakeDiscord(members_intent=True) as fake:
        guild = fake.add_guild("gardeners")
        newcomer = fake.add_user("newcomer")
        guild.join(newcomer)
        asked = intents(members=True)
        with fake.redirected():
            async with running(fake, Bot(intents=asked, chunk_guilds_at_startup=True)) as bot:
                [there] = bot.guilds
                assert there.chunked
                assert {member.name for member in there.members} == {
                    "newcomer",
                    "operator",
                    "guildgpt",
                }
                guild.join(fake.add_user("skeptic"))
                await fake.until(lambda: there.get_member_named("skeptic"))
                guild.leave(newcomer)
                await fake.until(lambda: there.get_member_named("newcomer") is None)
                [found] = await there.query_members("ske")
                assert found.name == "skeptic"
