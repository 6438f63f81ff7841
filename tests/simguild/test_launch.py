"""The bot in a process of its own, against the fake in this one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import discord
import psutil
import pytest
from discord.gateway import DiscordWebSocket
from ignoring import ignoring
from sim_client import Scene

from simguild.fake import FakeDiscord
from simguild.launch import main


@asynccontextmanager
async def launched(
    fake: FakeDiscord,
    folder: Path,
    *arguments: str,
    engine: str = "paced:200",
    ended_by: signal.Signals = signal.SIGTERM,
) -> AsyncIterator[psutil.Process]:
    """`python -m simguild.launch`, started with signals ignored and ended by one of them."""
    here = {**os.environ, **fake.environment(), "SIMGUILD_ENGINE": engine}
    here["GUILDGPT_STORE"] = f"sqlite:///{folder / 'feedback.db'}"
    process = await asyncio.create_subprocess_exec(
        *ignoring("-m", "simguild.launch", *arguments),
        env=here,
        cwd=Path(__file__).parents[2],
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        if process.returncode is None:
            process.send_signal(ended_by)
        _, told = await asyncio.wait_for(process.communicate(), 240)
    assert process.returncode == 0, told.decode()
    assert b"Traceback" not in told, told.decode()


async def test_the_bot_answers_from_a_process_of_its_own(
    fake: FakeDiscord, scene: Scene, tmp_path: Path
) -> None:
    async with launched(fake, tmp_path):
        await fake.until(lambda: fake.connected == 1, timeout=240)
        said = await fake.say(scene.newcomer, scene.channel, f"{fake.bot.mention} tea or coffee?")
        answer = await fake.until(lambda: scene.channel.by(fake.bot)[0], timeout=240)
        await fake.until(lambda: "word after word" in answer.content, timeout=240)
    assert "tea or coffee" in answer.content  # the paced engine repeats the question
    assert said.reacted_ms is not None
    assert fake.violations == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_and_the_model_with_it(
    fake: FakeDiscord, scene: Scene, tmp_path: Path, starter: Path, number: signal.Signals
) -> None:
    async with launched(fake, tmp_path, "starter", engine="", ended_by=number) as process:
        await fake.until(lambda: fake.connected == 1, timeout=240)
        (model,) = process.children()
        await fake.say(scene.newcomer, scene.channel, f"{fake.bot.mention} write a long story")
        await fake.until(lambda: scene.channel.by(fake.bot)[0])
    await fake.until(lambda: not fake.connected)
    await asyncio.to_thread(model.wait, 240)


def test_an_engine_that_is_none() -> None:
    environment = {"SIMGUILD_REST": "r", "SIMGUILD_GATEWAY": "g", "SIMGUILD_ENGINE": "steam"}
    before = discord.http.Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY
    try:
        with pytest.raises(SystemExit, match="paced:RATE"):
            main([], environment)
        assert discord.http.Route.BASE == "r"
    finally:
        discord.http.Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY = before


async def test_redirection_ends() -> None:
    before = discord.http.Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY
    async with FakeDiscord() as fake:
        with fake.redirected():
            assert fake.rest == discord.http.Route.BASE
            assert str(DiscordWebSocket.DEFAULT_GATEWAY) == fake.gateway
    assert before == (discord.http.Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY)
