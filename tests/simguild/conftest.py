"""A fake Discord, a guild in it, and discord.py's own client against them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sim_client import Bot, Scene, running

from simguild.fake import FakeDiscord


@pytest.fixture
async def fake() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as server:
        with server.redirected():
            yield server


@pytest.fixture
def scene(fake: FakeDiscord) -> Scene:
    guild = fake.add_guild("rustaceans")
    channel = guild.add_channel("general")
    newcomer, teacher = fake.add_user("newcomer"), fake.add_user("teacher")
    guild.join(newcomer)
    guild.join(teacher, admin=True)
    return Scene(guild, channel, newcomer, teacher)


@pytest.fixture
async def bot(fake: FakeDiscord, scene: Scene) -> AsyncIterator[Bot]:
    async with running(fake, Bot()) as client:
        yield client
