"""Keys for the API: who has one, and how much it may ask."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from sqlalchemy import select

from feedback.conftest import KEY, Clock
from guildgpt.errors import GuildError, LimitReached
from guildgpt.feedback.people.keys import LONGEST_NAME
from guildgpt.feedback.storage.schema import api_keys, api_usage
from guildgpt.feedback.store import Store


async def test_a_key_is_known_by_its_secret_alone(store: Store, clock: Clock) -> None:
    secret = await store.keys.add("the lab", requests_per_minute=60)
    assert secret.startswith("gg-")
    assert len(secret) > 40
    key = await store.keys.of(secret)
    assert key is not None
    assert (key.name, key.requests_per_minute, key.tokens_per_day) == ("the lab", 60, None)
    assert (key.created_at, key.seen_at) == (clock.now, None)
    assert await store.keys.all() == [key]
    assert secret not in repr(await store.database.rows(select(api_keys)))
    for other in (secret[:-1], "gg-", "", "\0", "\ud800"):
        assert await store.keys.of(other) is None


async def test_a_key_that_is_taken_away(store: Store, clock: Clock) -> None:
    first = await store.keys.add("lab")
    with pytest.raises(GuildError, match="a key called lab already") as caught:
        await store.keys.add(" lab ")
    assert "guildgpt serve keys remove 'lab'" in str(caught.value.remedy)
    await store.keys.end("lab")
    assert await store.keys.of(first) is None
    assert await store.keys.all() == []
    with pytest.raises(GuildError, match="no key is called lab"):
        await store.keys.end("lab")
    clock.pass_(days=1)
    second = await store.keys.add("lab", tokens_per_day=5)
    assert await store.keys.of(first) is None
    [key] = await store.keys.all()
    assert key == await store.keys.of(second)
    assert (key.tokens_per_day, key.created_at) == (5, clock.now)


@pytest.mark.parametrize("name", ["", " ", "a" * (LONGEST_NAME + 1), "\x1b[2J"])
async def test_a_name_that_is_none(store: Store, name: str) -> None:
    with pytest.raises(GuildError, match="no name for a key"):
        await store.keys.add(name)


async def test_requests_a_minute_hold_across_processes(
    store: Store, url: str, clock: Clock
) -> None:
    key = await store.keys.of(await store.keys.add("lab", requests_per_minute=5))
    assert key
    clock.pass_(seconds=20)
    async with await Store.open(url, key=KEY, clock=clock, patience=60.0) as other:
        took = await asyncio.gather(
            *(one.keys.take(key) for one in (store, other) for _ in range(6)),
            return_exceptions=True,
        )
    refused = [one for one in took if isinstance(one, LimitReached)]
    assert (took.count(None), len(refused)) == (5, 7)
    assert refused[0].seconds == 40
    assert "5 times a minute" in refused[0].what
    [counted] = await store.database.rows(select(api_usage.c.requests))
    assert counted.requests == 5  # what was refused does not count
    clock.pass_(seconds=40)
    await store.keys.take(key)


async def test_tokens_a_day(store: Store, clock: Clock) -> None:
    key = await store.keys.of(await store.keys.add("lab", tokens_per_day=100))
    assert key
    await store.keys.take(key)
    await store.keys.used({key.id: 99}, {key.id: 1})
    await store.keys.take(key)
    await store.keys.used({key.id: 30}, {key.id: 1})
    assert await store.keys.used_today() == {key.id: Counter(requests=2, tokens=129)}
    with pytest.raises(LimitReached, match="100 tokens a day") as caught:
        await store.keys.take(key)
    assert caught.value.seconds == 12 * 60 * 60  # the tests' clock begins at noon
    [seen] = await store.keys.all()
    assert seen.seen_at == clock.now
    clock.pass_(hours=12)
    await store.keys.take(key)
    assert await store.keys.used_today() == {}


async def test_a_key_without_limits_writes_nothing_when_it_asks(store: Store) -> None:
    key = await store.keys.of(await store.keys.add("lab"))
    assert key
    await store.keys.take(key)
    await store.keys.used({}, {})
    assert await store.database.rows(select(api_usage)) == []
