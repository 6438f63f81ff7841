"""The bot with its feedback in PostgreSQL: the same as with SQLite, seen from Discord."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from feedback.conftest import cluster  # noqa: F401 (a fixture)
from feedback.postgres import Cluster

from guildgpt.bot import sentences as say
from guildgpt.feedback.store import Store

from .house import KEY, SLOW, House


@pytest.fixture
async def url(cluster: Cluster) -> AsyncIterator[str]:  # noqa: F811
    """An empty database."""
    await cluster.execute("CREATE DATABASE bot")
    yield cluster.url("bot")
    await cluster.execute("DROP DATABASE bot WITH (FORCE)")


async def test_asked_rated_started_anew_and_forgotten(house: House, url: str) -> None:
    await house.open(store=url)
    answer = await house.ask("My name is Ferris.")
    assert await house.told(await house.press(answer, "up")) == say.RATED_UP
    compared = (await house.command("compare", question="What is TLS?")).responses[0]
    await house.restart()
    assert await house.told(await house.press(compared, "left")) == say.VOTED["left"]
    await house.ask("What is my name?", reply_to=answer)
    assert "Ferris" in house.model.prompts[-1]
    async with await Store.open(url, key=KEY) as store:
        before = await store.snapshot()
        assert [one.value for one in before.ratings] == [1]
        assert [one.verdict for one in before.votes] == ["ranked"]
        assert "Ferris" in str(before.messages)

        asked = (await house.command("forget-me")).responses[0]
        await house.press(asked, "forget")
        await house.fake.until(lambda: asked.content != say.FORGET_ASK)
        after = await store.snapshot()
    assert (after.ratings, after.votes, after.members) == ([], [], {})
    assert "Ferris" not in str(after)


async def test_a_crash_mid_answer(house: House, url: str) -> None:
    house.model.rate = SLOW * 2
    await house.open(store=url)
    asked = await house.say("What is TLS?")
    begun = await house.begun(asked)
    house.model.rate = 4000.0
    await house.restart()
    assert await house.answer(asked) is begun
    async with await Store.open(url, key=KEY) as store:
        for _ in range(200):
            if not await store.open_deliveries():
                break
            await asyncio.sleep(0.02)
        assert await store.open_deliveries() == []
    assert house.answers(asked) == [begun]
