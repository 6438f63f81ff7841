"""The health endpoint and the metrics of a bot that runs."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest
from ports import free_port

from guildgpt.errors import GuildError
from simguild.fake.server import PATIENCE

from .house import House


async def get(house: House, path: str) -> tuple[int, str]:
    """Status and body."""
    url = f"http://127.0.0.1:{house.settings['health_port']}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def healthy(house: House) -> int:
    """The status of /healthz."""
    return (await get(house, "/healthz"))[0]


async def until_status(house: House, status: int) -> None:
    """Wait until /healthz says so."""
    async with asyncio.timeout(PATIENCE):
        while await healthy(house) != status:
            await asyncio.sleep(0.02)


@pytest.fixture
async def watched(house: House) -> House:
    """The bot with its endpoint."""
    await house.open(health_port=free_port())
    await until_status(house, 200)
    return house


async def test_health(watched: House) -> None:
    status, body = await get(watched, "/healthz")
    assert status == 200
    assert body == '{"discord": true, "engine": true, "lease": true, "store": true}'
    await watched.close()
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(watched, "/healthz")


async def test_a_lost_connection_is_no_health(watched: House) -> None:
    watched.fake.limits.session_seconds = 0
    gateway = watched.fake.gateway_server
    url, gateway.url = gateway.url, "ws://127.0.0.1:1/"
    watched.fake.drop(code=4000)
    await until_status(watched, 503)
    assert '"discord": false' in (await get(watched, "/healthz"))[1]
    gateway.url = url


async def test_metrics(watched: House) -> None:
    answer = await watched.ask("What is TLS?")
    await watched.command("ask", question="What is SSH?")
    await watched.press(answer, "up")
    await watched.say("")
    await watched.settled(3)
    status, body = await get(watched, "/metrics")
    assert status == 200
    for line in (
        'guildgpt_answer_seconds_count{kind="message",state="done"} 1.0',
        'guildgpt_answer_seconds_count{kind="slash",state="done"} 1.0',
        'guildgpt_answer_seconds_count{kind="message",state="skipped"} 1.0',
        'guildgpt_feedback_total{kind="up"} 1.0',
        "guildgpt_acknowledge_seconds_count 3.0",
        "guildgpt_connected 1.0",
        "guildgpt_guilds 1.0",
        "guildgpt_answering 0.0",
    ):
        assert f"{line}\n" in body
    assert "newcomer" not in body
    assert str(watched.newcomer.id) not in body


async def test_a_port_that_is_taken(house: House) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(GuildError, match="cannot listen"),
    ):
        await house.open(health_port=server.getsockname()[1])
