"""Losing the gateway and finding it again, shards, and what the gateway refuses."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import discord
import pytest
from sim_client import Bot, Scene, running

from simguild.fake import FakeDiscord
from simguild.fake.server import PATIENCE


class ShardedBot(Bot, discord.AutoShardedClient):
    """As many shards as the gateway recommends."""


@pytest.fixture
async def gateway(fake: FakeDiscord) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A bare socket that has said nothing yet."""
    async with aiohttp.ClientSession() as session, session.ws_connect(fake.gateway) as socket:
        hello = await socket.receive_json()
        assert hello["op"] == 10
        assert hello["d"]["heartbeat_interval"] == 41250
        yield socket


def identify(fake: FakeDiscord, **more: Any) -> dict[str, Any]:
    return {"op": 2, "d": {"token": fake.token, "intents": 1 << 9, "properties": {}, **more}}


LOSSES: dict[str, dict[str, Any]] = {
    "a plain cut": {},
    "code 4000": {"code": 4000},
    "code 4008": {"code": 4008},
    "op 7": {"op": 7},
    "op 9, resumable": {"invalid": True},
}
FORGOTTEN: dict[str, dict[str, Any]] = {
    "a plain cut": {"resume": False},
    "code 4000": {"code": 4000, "resume": False},
    "code 1000": {"code": 1000},
    "code 4007": {"code": 4007},
    "code 4009": {"code": 4009},
    "op 7": {"op": 7, "resume": False},
    "op 9": {"invalid": False},
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_a_resume_replays_what_was_missed(
    fake: FakeDiscord, scene: Scene, bot: Bot, loss: dict[str, Any]
) -> None:
    await fake.say(scene.newcomer, scene.channel, "before")
    assert fake.drop(**loss) == 1
    for number in range(3):
        await fake.say(scene.newcomer, scene.channel, f"meanwhile {number}")
    await fake.until(lambda: bot.resumes == 1)
    await fake.say(scene.newcomer, scene.channel, "after")
    await fake.until(lambda: "after" in bot.texts("newcomer"))
    expected = ["before", "meanwhile 0", "meanwhile 1", "meanwhile 2", "after"]
    assert bot.texts("newcomer") == expected
    assert (bot.readies, fake.gateway_server.identified) == (1, 1)
    assert fake.connected == 1


@pytest.mark.parametrize("loss", FORGOTTEN.values(), ids=FORGOTTEN)
async def test_a_forgotten_session_replays_nothing(
    fake: FakeDiscord, scene: Scene, bot: Bot, loss: dict[str, Any]
) -> None:
    fake.drop(**loss)
    missed = await fake.say(scene.newcomer, scene.channel, "meanwhile")
    await fake.until(lambda: bot.readies == 2)
    await fake.say(scene.newcomer, scene.channel, "after")
    await fake.until(lambda: bot.texts("newcomer") == ["after"])
    assert bot.resumes == 0
    assert fake.gateway_server.identified == 2
    found = [one.id async for one in bot.channel(scene.channel).history()]
    assert missed.id in found  # this is how a bot catches up


async def test_a_guild_tells_what_was_said_last(fake: FakeDiscord, scene: Scene) -> None:
    """Whoever connects sees how far each channel has come."""
    said = await fake.say(scene.newcomer, scene.channel, "long ago")
    async with running(fake, Bot()) as bot:
        assert bot.channel(scene.channel).last_message_id == said.id


async def test_duplicates_after_a_resume(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    for number in range(4):
        await fake.say(scene.newcomer, scene.channel, str(number))
    await fake.until(lambda: len(bot.heard) == 4)
    fake.drop(duplicate=2)
    await fake.say(scene.newcomer, scene.channel, "new")
    await fake.until(lambda: "new" in bot.texts("newcomer"))
    assert bot.texts("newcomer") == ["0", "1", "2", "3", "2", "3", "new"]
    fake.drop()
    await fake.until(lambda: bot.resumes == 2)
    assert len(bot.heard) == 7


async def test_many_losses_lose_nothing(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    kinds = list(LOSSES.values())
    for number in range(20):
        await fake.say(scene.newcomer, scene.channel, str(number))
        fake.drop(**kinds[number % len(kinds)])
        await fake.say(scene.newcomer, scene.channel, f"{number} again")
        await fake.until(lambda wanted=number + 1: bot.resumes == wanted)
    await fake.until(lambda: len(bot.heard) == 40)
    assert max(Counter(message.id for message in bot.heard).values()) == 1


async def test_an_interaction_waits_for_the_client(
    fake: FakeDiscord, scene: Scene, bot: Bot
) -> None:
    """Who was not connected is not to blame for being late."""
    fake.interaction_seconds = 0.05
    body = {"name": "ask", "description": "Ask", "type": 1}
    await bot.http.bulk_upsert_global_commands(fake.application_id, [body])
    heard: list[discord.Interaction] = []

    @bot.event
    async def on_interaction(interaction: discord.Interaction) -> None:
        heard.append(interaction)

    fake.drop()
    await fake.slash(scene.newcomer, scene.channel, "ask")
    await fake.until(lambda: heard)
    with pytest.raises(discord.NotFound):
        await heard[0].response.defer()
    assert fake.violations == []


async def test_a_session_does_not_wait_for_ever(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    async with running(fake, Bot()):
        assert len(fake.gateway_server.sessions) == 2
    await fake.until(lambda: fake.connected == 1)
    assert len(fake.gateway_server.sessions) == 2  # it may come back
    fake.limits.session_seconds = 0
    await fake.say(scene.newcomer, scene.channel, "hello")
    assert len(fake.gateway_server.sessions) == 1
    fake.drop(code=4000)
    await fake.until(lambda: bot.readies == 2)


async def test_a_client_that_hangs_up_for_good(
    fake: FakeDiscord, gateway: aiohttp.ClientWebSocketResponse
) -> None:
    await gateway.send_json(identify(fake))
    await fake.until(lambda: fake.connected)
    await gateway.close(code=1000)
    await fake.until(lambda: not fake.gateway_server.sessions)


async def test_shards(fake: FakeDiscord, scene: Scene) -> None:
    fake.gateway_server.shards = 2
    channels = [scene.channel]
    for name in ("gardeners", "sailors", "cooks"):
        guild = fake.add_guild(name)
        guild.join(scene.newcomer)
        channels.append(guild.add_channel("general"))
    async with running(fake, ShardedBot()) as bot:
        assert fake.connected == bot.shard_count == 2
        assert Counter(guild.shard_id for guild in bot.guilds) == {0: 2, 1: 2}
        for channel in [*channels, fake.open_dm(scene.newcomer)]:
            await fake.say(scene.newcomer, channel, channel.name)
        await fake.until(lambda: len(bot.heard) == 5)
        fake.drop(shard=1)
        for channel in channels:
            await fake.say(scene.newcomer, channel, "again")
        await fake.until(lambda: len(bot.heard) == 9)
        assert fake.gateway_server.resumed == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"token": "wrong"}, 4004),
        ({"shard": [2, 2]}, 4010),
        ({"intents": None}, 4013),
        ({"intents": 1 << 1}, 4014),
        ({"intents": 1 << 8}, 4014),
    ],
)
async def test_identify_is_checked(
    fake: FakeDiscord, gateway: aiohttp.ClientWebSocketResponse, change: dict[str, Any], code: int
) -> None:
    await gateway.send_json(identify(fake, **change))
    assert (await gateway.receive()).type is aiohttp.WSMsgType.CLOSE
    assert gateway.close_code == code


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (["no json"], 4002),
        (["{}"], 4002),
        (['{"op":42,"d":null}'], 4001),
        (['{"op":3,"d":{}}'], 4003),
        (['{"op":1,"d":null}'] * 121, 4008),
    ],
)
async def test_frames_that_are_refused(
    fake: FakeDiscord, gateway: aiohttp.ClientWebSocketResponse, frames: list[str], code: int
) -> None:
    for frame in frames:
        await gateway.send_str(frame)
    while (await gateway.receive()).type is aiohttp.WSMsgType.TEXT:
        pass
    assert gateway.close_code == code


async def test_the_protocol_by_hand(
    fake: FakeDiscord, scene: Scene, gateway: aiohttp.ClientWebSocketResponse
) -> None:
    await gateway.send_json({"op": 1, "d": None})  # the first heartbeat comes before identify
    assert (await gateway.receive_json())["op"] == 11
    await gateway.send_json(identify(fake))
    ready = await gateway.receive_json()
    assert (ready["t"], ready["s"], ready["d"]["v"]) == ("READY", 1, 10)
    assert ready["d"]["guilds"] == [{"id": str(scene.guild.id), "unavailable": True}]
    assert ready["d"]["resume_gateway_url"] == fake.gateway
    create = await gateway.receive_json()
    assert (create["t"], create["s"], create["d"]["unavailable"]) == ("GUILD_CREATE", 2, False)
    await gateway.send_json({"op": 8, "d": {"guild_id": str(scene.guild.id), "query": "new"}})
    chunk = await gateway.receive_json()
    assert [member["user"]["username"] for member in chunk["d"]["members"]] == ["newcomer"]
    await gateway.send_json(identify(fake))
    assert (await gateway.receive()).type is aiohttp.WSMsgType.CLOSE
    assert gateway.close_code == 4005


async def test_a_resume_with_nonsense(
    fake: FakeDiscord, scene: Scene, gateway: aiohttp.ClientWebSocketResponse
) -> None:
    data = {"token": fake.token, "session_id": "unknown", "seq": 1}
    await gateway.send_json({"op": 6, "d": data})
    told = json.loads((await gateway.receive()).data)
    assert (told["op"], told["d"]) == (9, False)
    await gateway.send_json({"op": 6, "d": {**data, "token": "wrong"}})
    assert (await gateway.receive()).type is aiohttp.WSMsgType.CLOSE
    assert gateway.close_code == 4004


async def test_who_does_not_beat_is_cut(fake: FakeDiscord, scene: Scene) -> None:
    fake.limits.heartbeat_seconds = 0.05
    async with aiohttp.ClientSession() as session, session.ws_connect(fake.gateway) as socket:
        await socket.receive_json()
        assert (await socket.receive(timeout=PATIENCE)).type in (
            aiohttp.WSMsgType.CLOSED,
            aiohttp.WSMsgType.ERROR,
        )


async def test_who_beats_has_time_again(
    fake: FakeDiscord, gateway: aiohttp.ClientWebSocketResponse
) -> None:
    (line,) = fake.gateway_server._lines
    assert line.heartbeat is not None
    before = line.heartbeat.when()
    await gateway.send_json({"op": 1, "d": None})
    assert json.loads((await gateway.receive()).data)["op"] == 11
    assert line.heartbeat.when() > before
    assert len(fake.gateway_server._lines) == 1


async def test_until_says_what_was_last(fake: FakeDiscord, scene: Scene) -> None:
    await fake.say(scene.newcomer, scene.channel, "is anybody there?")
    with pytest.raises(AssertionError, match="is anybody there"):
        await fake.until(lambda: scene.channel.by(fake.bot)[0], timeout=0.05)
    assert await fake.until(lambda: 3) == 3
