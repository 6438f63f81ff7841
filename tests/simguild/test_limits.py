"""Every limit that the fake enforces, broken once, through discord.py or past it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import discord
import pytest
from sim_client import Bot, Scene, running

from simguild.fake import FakeDiscord
from simguild.fake.limits import RateLimiter, utf16_length


@pytest.fixture
async def http(fake: FakeDiscord) -> AsyncIterator[aiohttp.ClientSession]:
    """The bot's token without discord.py, which would not even send some of this."""
    headers = {"Authorization": f"Bot {fake.token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield session


def row(*buttons: dict[str, Any]) -> dict[str, Any]:
    return {"type": 1, "components": list(buttons)}


def button(custom_id: str = "a", **more: Any) -> dict[str, Any]:
    return {"type": 2, "style": 1, "label": "A", "custom_id": custom_id, **more}


def rows(count: int, width: int) -> list[dict[str, Any]]:
    return [row(*(button(f"{r}.{c}") for c in range(width))) for r in range(count)]


GOOD = {
    "2000 units": {"content": "x" * 2000},
    "1000 emoji": {"content": "😀" * 1000},
    "nonce": {"content": "x", "nonce": "n" * 25},
    "custom_id": {"components": [row(button("i" * 100, label="l" * 80))]},
    "25 buttons": {"components": rows(5, 5)},
    "description": {"embeds": [{"description": "d" * 4096}]},
    "emoji instead of label": {"components": [row(button(label=None, emoji={"name": "👍"}))]},
    "link": {"components": [row({"type": 2, "style": 5, "label": "A", "url": "https://x.y"})]},
}
BAD = {
    "2001 units": ({"content": "x" * 2001}, 50035, "content"),
    "emoji count twice": ({"content": "😀" * 1001}, 50035, "content"),
    "nonce": ({"content": "x", "nonce": "n" * 26}, 50035, "nonce"),
    "empty": ({"content": " \n "}, 50006, None),
    "six rows": ({"components": rows(6, 1)}, 50035, "components"),
    "six buttons": ({"components": rows(1, 6)}, 50035, "components"),
    "an empty row": ({"components": [row()]}, 50035, "components"),
    "custom_id": ({"components": [row(button("i" * 101))]}, 50035, "components"),
    "custom_id twice": ({"components": [row(button(), button())]}, 50035, "components"),
    "no custom_id": ({"components": [row({"type": 2, "style": 1, "label": "A"})]}, 50035, None),
    "label": ({"components": [row(button(label="l" * 81))]}, 50035, "components"),
    "no label": ({"components": [row(button(label=None))]}, 50035, "components"),
    "style": ({"components": [row(button(style=9))]}, 50035, "components"),
    "no row": ({"components": [button()]}, 50035, "components"),
    "description": ({"embeds": [{"description": "d" * 4097}]}, 50035, "embeds"),
    "eleven embeds": ({"embeds": [{"title": "t"}] * 11}, 50035, "embeds"),
    "embeds together": ({"embeds": [{"description": "d" * 3500}] * 2}, 50035, "embeds"),
    "mentions twice": (
        {"content": "x", "allowed_mentions": {"parse": ["users"], "users": ["1"]}},
        50035,
        "allowed_mentions",
    ),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
async def test_what_just_fits(
    fake: FakeDiscord, scene: Scene, http: aiohttp.ClientSession, body: dict[str, Any]
) -> None:
    url = f"{fake.rest}/channels/{scene.channel.id}/messages"
    async with http.post(url, json=body) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "application/json"
    assert fake.violations == []


@pytest.mark.parametrize(("body", "code", "field"), BAD.values(), ids=BAD)
async def test_what_does_not_fit(
    fake: FakeDiscord,
    scene: Scene,
    http: aiohttp.ClientSession,
    body: dict[str, Any],
    code: int,
    field: str | None,
) -> None:
    url = f"{fake.rest}/channels/{scene.channel.id}/messages"
    async with http.post(url, json=body) as response:
        told = await response.json()
    assert response.status == 400
    assert told["code"] == code
    if field:
        assert list(told["errors"]) == [field]
    assert len(fake.violations) == 1
    assert scene.channel.messages == []


async def test_edits_keep_the_same_limits(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    message = await bot.channel(scene.channel).send("short")
    with pytest.raises(discord.HTTPException) as refusal:
        await message.edit(content="x" * 2001)
    assert refusal.value.code == 50035
    assert "fewer in length" in refusal.value.text
    with pytest.raises(discord.HTTPException) as refusal:
        await message.edit(content="")
    assert refusal.value.code == 50006
    assert scene.channel.by(fake.bot)[0].content == "short"
    assert len(fake.violations) == 2


async def test_edits_of_others_messages(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    said = await fake.say(scene.newcomer, scene.channel, "mine")
    with pytest.raises(discord.Forbidden) as refusal:
        await bot.channel(scene.channel).get_partial_message(said.id).edit(content="ours")
    assert refusal.value.code == 50005
    assert len(fake.violations) == 1


async def test_files_that_are_too_large(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    fake.limits.upload_bytes = 1000
    file = discord.File(io.BytesIO(bytes(1001)), "zeros.bin")
    with pytest.raises(discord.HTTPException) as refusal:
        await bot.channel(scene.channel).send(file=file)
    assert (refusal.value.status, refusal.value.code) == (413, 40005)


async def test_unknown_keys_and_routes(
    fake: FakeDiscord, scene: Scene, http: aiohttp.ClientSession
) -> None:
    url = f"{fake.rest}/channels/{scene.channel.id}/messages"
    async with http.post(url, json={"content": "x", "contents": "y"}) as response:
        assert response.status == 200
    assert fake.violations == ["a message has an unknown key: contents"]
    async with http.get(f"{fake.rest}/tea") as response:
        assert response.status == 404
    async with http.post(url, data="{", headers={"Content-Type": "application/json"}) as response:
        assert (await response.json())["code"] == 50109
    assert len(fake.violations) == 3


@pytest.mark.parametrize("mention", ["@everyone", "@here", "<@{user}>", "<@&{role}>"])
async def test_nothing_may_ping(fake: FakeDiscord, scene: Scene, bot: Bot, mention: str) -> None:
    fake.limits.window = 0.1
    text = "hey " + mention.format(user=scene.newcomer.id, role=scene.guild.admin.id)
    channel = bot.channel(scene.channel)
    message = await channel.send(text)
    await message.edit(content=text + "!")
    assert fake.violations == []
    [posted] = scene.channel.by(fake.bot)
    assert (posted.mentions, posted.role_mentions, posted.everyone) == ([], [], False)

    await channel.send(text, allowed_mentions=discord.AllowedMentions.all())
    async with running(fake, Bot(allowed_mentions=None)) as careless:
        await careless.channel(scene.channel).send(text)
        await careless.channel(scene.channel).send("nobody")
    assert len(fake.violations) == 2
    assert all("pings" in violation for violation in fake.violations)


async def test_a_nonce_is_used_once(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    fake.limits.window = 0.1
    channel = bot.channel(scene.channel)
    first = await channel.send("once", nonce="answer-1")
    again = await channel.send("once", nonce="answer-1")
    assert again.id == first.id
    assert len(scene.channel.messages) == 1
    await channel.send("two", nonce="answer-2")
    await first.delete()
    with pytest.raises(discord.NotFound):
        await channel.send("once", nonce="answer-1")
    fake.limits.nonce_seconds = 0
    await channel.send("once", nonce="answer-1")
    assert [message.content for message in scene.channel.by(fake.bot)] == ["two", "once"]


async def test_the_messages_bucket(
    fake: FakeDiscord, scene: Scene, http: aiohttp.ClientSession
) -> None:
    """Sending, editing and deleting count together; another channel counts by itself."""
    fake.limits.window = 0.5
    url = f"{fake.rest}/channels/{scene.channel.id}/messages"
    async with http.post(url, json={"content": "1"}) as response:
        assert response.headers["X-RateLimit-Limit"] == "5"
        assert response.headers["X-RateLimit-Remaining"] == "4"
        assert 0 < float(response.headers["X-RateLimit-Reset-After"]) <= 0.5
        one = f"{url}/{(await response.json())['id']}"
    async with http.patch(one, json={"content": "2"}) as response:
        assert response.headers["X-RateLimit-Bucket"] == "messages"
    async with http.delete(one) as response:
        assert response.status == 204
    for remaining in (1, 0):
        async with http.post(url, json={"content": "x"}) as response:
            assert response.headers["X-RateLimit-Remaining"] == str(remaining)
    async with http.post(url, json={"content": "too much"}) as response:
        told = await response.json()
        assert response.status == 429
        assert response.headers["Via"]
        assert response.headers["X-RateLimit-Scope"] == "user"
        assert told["global"] is False
        assert 0 < told["retry_after"] <= 0.5
    other = f"{fake.rest}/channels/{scene.guild.add_channel('other').id}/messages"
    async with http.post(other, json={"content": "here"}) as response:
        assert response.status == 200
    assert fake.rate_limited == 1
    assert len(scene.channel.messages) == 3


async def test_discord_py_waits_by_the_headers(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    fake.limits.window = 0.3
    channel = bot.channel(scene.channel)
    for number in range(12):
        await channel.send(str(number))
    assert len(scene.channel.messages) == 12
    assert fake.rate_limited == 0


async def test_discord_py_tries_a_429_again(
    fake: FakeDiscord, scene: Scene, bot: Bot, http: aiohttp.ClientSession
) -> None:
    """Here somebody else has used the bucket up."""
    fake.limits.window = 0.3
    url = f"{fake.rest}/channels/{scene.channel.id}/messages"
    for number in range(5):
        async with http.post(url, json={"content": str(number)}):
            pass
    await bot.channel(scene.channel).send("at last")
    assert fake.rate_limited == 1
    assert scene.channel.messages[-1].content == "at last"


async def test_the_global_limit(fake: FakeDiscord, scene: Scene, bot: Bot) -> None:
    fake.limits.global_requests = 3
    for _ in range(4):
        await bot.fetch_user(scene.newcomer.id)
    assert fake.rate_limited >= 1


def test_windows_are_fixed() -> None:
    now = 100.0
    limiter = RateLimiter(lambda: now)
    assert [limiter.take("b", 1, 2, 5.0).remaining for _ in range(2)] == [1, 0]
    now = 104.0
    refused = limiter.take("b", 1, 2, 5.0)
    assert (refused.refused, refused.reset_after) == (True, 1.0)
    assert not limiter.take("b", 2, 2, 5.0).refused
    now = 105.0
    assert not limiter.take("b", 1, 2, 5.0).refused


def test_utf16() -> None:
    assert [utf16_length(text) for text in ("", "abc", "ä", "😀", "👍🏽")] == [0, 3, 1, 2, 4]
