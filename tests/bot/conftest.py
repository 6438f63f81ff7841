"""The fake Discord with a guild, and the bot: see `house.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from guildgpt.bot.adapter import client, interactions
from guildgpt.bot.adapter.client import GuildClient
from guildgpt.bot.adapter.marks import Marks
from guildgpt.bot.answers import answering, round_keeper
from guildgpt.bot.operating import run
from guildgpt.feedback.store import Store
from simguild.fake import FakeDiscord
from simguild.fake.server import PATIENCE

from .holding import fill, never_twice
from .house import KEY, House, copied, pace


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store's file, with all tables."""
    path = tmp_path_factory.mktemp("store") / "empty.db"

    async def make() -> None:
        await (await Store.open(str(path), key=KEY)).close()

    asyncio.run(make())
    return path


async def at_once(self: object, shard_id: int | None, *, initial: bool = False) -> None:
    """Nobody waits five seconds for a new session in a test."""


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A click may take as long as Discord allows before it is acknowledged without its form: this
    machine may have other things to do."""
    monkeypatch.setattr(interactions, "ACKNOWLEDGE_SECONDS", 2.5)


@pytest.fixture
def quick_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits seconds until it is looked what is due."""
    monkeypatch.setattr(round_keeper, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(round_keeper, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(round_keeper, "LONGEST_PAUSE", 0.2)


@pytest.fixture
async def house(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    """A guild, and the bot that is not yet started: `await house.open()` does that.

    At the end the bot must have kept all of Discord's limits and rules.
    """
    monkeypatch.setenv("GUILDGPT_MEMBER_KEY", KEY.hex())
    monkeypatch.setattr(GuildClient, "before_identify_hook", at_once)
    monkeypatch.setattr(answering, "FIRST_WORDS_SECONDS", 0.1)
    # discord.py waits for the next window after the last write that one allows.
    monkeypatch.setattr(client, "CLOSE_SECONDS", 0.5)
    monkeypatch.setattr(run, "REWRITE_SECONDS", 0.0)
    copied(empty_store, tmp_path)
    async with FakeDiscord() as fake:
        pace(monkeypatch, fake, 0.2)
        fake.interaction_seconds = PATIENCE  # the machine may be busy with other things
        with fake.redirected():
            guild = fake.add_guild("rustaceans")
            channel = guild.add_channel("general")
            newcomer, teacher = fake.add_user("newcomer"), fake.add_user("teacher")
            guild.join(newcomer)
            guild.join(teacher, admin=True)
            made = House(fake, tmp_path, guild, channel, newcomer, teacher)
            caught_up = Marks.caught_up

            def noted(marks: Marks, shard_id: int) -> None:
                caught_up(marks, shard_id)
                made.marks = marks

            monkeypatch.setattr(Marks, "caught_up", noted)
            yield made
            await made.close()
            assert fake.violations == []


@pytest.fixture
async def bot(house: House) -> House:
    """The same with the bot started."""
    await house.open()
    return house


@pytest.fixture
async def held(house: House) -> House:
    """The bot with prompts for rounds in its pool, and a model that never says the same twice."""
    never_twice(house)
    await fill(house)
    await house.open()
    return house
