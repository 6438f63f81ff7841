"""The bot with its feedback in PostgreSQL, also behind a pooler: the same as with SQLite, seen from
Discord."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import pytest
from feedback.conftest import cluster, pooler  # noqa: F401 (fixtures)
from feedback.postgres import Cluster, PgBouncer

from guildgpt.bot.text import sentences as say
from guildgpt.feedback.records import RoundState
from guildgpt.feedback.store import Store
from simguild.fake.server import PATIENCE

from .holding import DAY, later, never_twice, rounds, shown, vote
from .house import KEY, SLOW, House

_NUMBERS = count()


@pytest.fixture(params=["cluster", "pooler"])
async def url(request: pytest.FixtureRequest, cluster: Cluster) -> AsyncIterator[str]:  # noqa: F811
    """An empty database; tests name it first, so that the bot is gone before it is dropped."""
    server: Cluster | PgBouncer = request.getfixturevalue(request.param)
    name = f"bot_{next(_NUMBERS)}"  # a pooler is slow to believe that one is there again
    await cluster.execute(f"CREATE DATABASE {name}")
    if isinstance(server, PgBouncer):
        await server.open_sessions(name)
    yield server.url(name)
    await cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_asked_rated_started_anew_and_forgotten(url: str, house: House) -> None:
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


async def test_a_crash_mid_answer(url: str, house: House) -> None:
    house.model.rate = SLOW * 2
    await house.open(store=url)
    asked = await house.say("What is TLS?")
    begun = await house.begun(asked)
    house.model.rate = 4000.0
    await house.restart()
    assert await house.answer(asked) is begun
    async with await Store.open(url, key=KEY) as store:
        async with asyncio.timeout(PATIENCE):
            while await store.deliveries.unfinished():
                await asyncio.sleep(0.02)
    assert house.answers(asked) == [begun]


async def in_state(url: str, state: RoundState) -> None:
    """Wait until the store has a round in this state."""
    async with await Store.open(url, key=KEY) as store, asyncio.timeout(PATIENCE):
        while not await store.rounds.in_state(state):
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("quick_rounds")
async def test_a_round(url: str, house: House) -> None:
    never_twice(house)
    await house.open(store=url)
    assert "is being written" in await rounds(house, "now")
    [message] = await house.fake.until(lambda: shown(house))
    await in_state(url, "open")  # the store learns last that its message is there
    await house.restart()
    assert await vote(house, message, "a") == say.VOTED["a"]
    assert "1 vote so far" in await rounds(house)
    await later(house, DAY)
    await house.fake.until(lambda: "1 voted: 1 for A, 0 for B." in message.content)
    assert not message.buttons
    await in_state(url, "closed")
