"""Keys of the environment and of the store, while it is there and while it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from guildgpt.errors import LimitReached, StoreError
from guildgpt.feedback.people.keys import Keys
from guildgpt.feedback.store import Store
from guildgpt.serve import keyring
from guildgpt.serve.keyring import FRESH_SECONDS, NEWS_SECONDS, KeyRing

from .conftest import STORE_KEY

OURS = "key-of-anna-0123456789"


class Watch:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Flaky(Keys):
    """Keys of a store that can be gone, and that count how often they are asked."""

    gone, asked = False, 0

    async def all(self) -> list[Any]:
        Flaky.asked += 1
        self._there()
        return await super().all()

    async def take(self, key: Any) -> None:
        self._there()
        await super().take(key)

    async def used(self, *counts: Any) -> None:
        self._there()
        await super().used(*counts)

    def _there(self) -> None:
        if Flaky.gone:
            raise StoreError("the database is gone")


@pytest_asyncio.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    monkeypatch.setattr(Flaky, "gone", False)
    monkeypatch.setattr(Flaky, "asked", 0)
    async with await Store.open(f"sqlite:///{tmp_path / 'f.db'}", key=STORE_KEY) as opened:
        opened.keys = Flaky(opened.database, opened._clock)
        yield opened


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def ring(store: Store, watch: Watch) -> KeyRing:
    return KeyRing(store=lambda: store, expects_store=True, clock=watch)


async def test_keys_of_both_places(store: Store, watch: Watch) -> None:
    ring = KeyRing({"anna": OURS}, store=lambda: store, clock=watch)
    secret = await store.keys.add("lab")
    anna, lab = await ring.caller(OURS), await ring.caller(secret)
    assert anna
    assert lab
    assert (anna.name, anna.key, lab.name) == ("anna", None, "lab")
    assert lab.key == await store.keys.of(secret)
    assert OURS not in repr(ring) + anna.owner
    for other in ("", "gg-", f"{OURS} ", secret[:-1], "\ud800"):
        assert await ring.caller(other) is None


async def test_the_store_is_not_asked_at_every_request(
    store: Store, ring: KeyRing, watch: Watch
) -> None:
    secret = await store.keys.add("lab")
    for _ in range(50):
        assert await ring.caller(secret)
        assert await ring.is_needed()
    assert Flaky.asked == 1
    watch.now += FRESH_SECONDS + 0.1
    assert await ring.caller(secret)
    assert Flaky.asked == 2


async def test_a_new_key_is_known_and_an_ended_one_forgotten_within_seconds(
    store: Store, ring: KeyRing, watch: Watch
) -> None:
    counts: list[int] = []
    ring.changed = counts.append
    assert await ring.is_needed() is False
    first = await store.keys.add("first")
    watch.now += NEWS_SECONDS + 0.1
    assert await ring.caller(first)
    assert await ring.is_needed() is True
    second = await store.keys.add("second")
    watch.now += NEWS_SECONDS + 0.1
    assert await ring.caller(second)
    await store.keys.end("first")
    watch.now += FRESH_SECONDS + 0.1
    assert await ring.caller(first) is None
    assert await ring.caller(second)
    assert counts == [1, 2, 1]


async def test_while_the_store_is_gone_those_keys_count_that_it_had(
    store: Store, ring: KeyRing, watch: Watch
) -> None:
    secret = await store.keys.add("lab", requests_per_minute=1, tokens_per_day=10)
    lab = await ring.caller(secret)
    assert lab
    Flaky.gone = True
    for _ in range(3):
        watch.now += FRESH_SECONDS + 0.1
        assert await ring.caller(secret)
        assert await ring.caller("gg-somebody-else") is None
        await ring.take(lab)  # nobody can tell what others asked
        ring.used(lab, 7)
    Flaky.gone = False
    watch.now += FRESH_SECONDS + 0.1
    assert await ring.caller(secret)
    await ring.close()  # it has looked, meanwhile
    [used] = (await store.keys.used_today()).values()
    assert (used["requests"], used["tokens"]) == (3, 21)  # and what was used meanwhile counts
    with pytest.raises(LimitReached):
        await ring.take(lab)


async def test_a_store_that_says_nothing_keeps_one_request_waiting(
    store: Store, ring: KeyRing, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = await store.keys.add("lab")
    assert await ring.caller(secret)
    answered = asyncio.Event()

    async def silent(_keys: Keys) -> list[Any]:
        await answered.wait()
        return []

    monkeypatch.setattr(Flaky, "all", silent)
    watch.now += FRESH_SECONDS + 0.1
    monkeypatch.setattr(keyring, "PATIENCE_SECONDS", 0.01)
    assert await ring.caller(secret)  # by what is known
    monkeypatch.setattr(keyring, "PATIENCE_SECONDS", 3600)
    assert await ring.caller(secret)
    assert await ring.is_needed()
    answered.set()
    await ring.close()
    assert await ring.caller(secret) is None


async def test_limits(store: Store, ring: KeyRing) -> None:
    secrets = [
        await store.keys.add("lab", requests_per_minute=2),
        await store.keys.add("writer", tokens_per_day=5),
    ]
    lab, writer = [await ring.caller(one) for one in secrets]
    assert lab
    assert writer
    await ring.take(lab)
    await ring.take(lab)
    with pytest.raises(LimitReached, match="2 times a minute") as caught:
        await ring.take(lab)
    assert 0 < caught.value.seconds <= 60
    await ring.take(writer)
    ring.used(writer, 5)
    with pytest.raises(LimitReached, match="5 tokens a day"):
        await ring.take(writer)  # what it just used counts at once
    await ring.close()
    [key, _] = await store.keys.all()
    assert (await store.keys.used_today())[key.id]["requests"] == 2


async def test_who_needs_a_key_while_nobody_knows_the_keys(store: Store, watch: Watch) -> None:
    opened: list[Store] = []
    later = KeyRing(store=lambda: opened[0] if opened else None, expects_store=True, clock=watch)
    assert await later.is_needed() is None
    assert await KeyRing(clock=watch).is_needed() is False  # there never will be a store
    assert await KeyRing({"anna": OURS}, expects_store=True).is_needed() is True
    assert await KeyRing(public=True).is_needed() is True
    Flaky.gone = True
    opened.append(store)
    assert await later.is_needed() is None
    Flaky.gone = False
    watch.now += FRESH_SECONDS + 0.1
    assert await later.is_needed() is None  # nobody waits for a store that was in trouble
    await later.close()
    assert await later.is_needed() is False
