"""Every event is answered at most once and none is lost, whoever else wants it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Interval, literal, update

from feedback.conftest import KEY, Clock
from guildgpt.feedback.records import Delivery
from guildgpt.feedback.storage.schema import leases
from guildgpt.feedback.store import Store

CONTENDER = Path(__file__).parents[1] / "contender.py"


async def test_an_event_is_claimed_once(store: Store) -> None:
    first = await store.deliveries.claim(
        1, "message", guild_id=2, channel_id=3, extra={"text": "hi 🦀"}
    )
    assert first == Delivery(
        first.id if first else "", 1, "message", 2, 3, None, None, "pending", (), {"text": "hi 🦀"}
    )
    assert await store.deliveries.claim(1, "message", guild_id=2, channel_id=3) is None
    assert await store.deliveries.claim(2, "slash")


async def test_what_is_open_comes_oldest_first(store: Store, clock: Clock) -> None:
    ids = []
    for event in (9, 4, 7, 5):
        delivery = await store.deliveries.claim(event, "message")
        assert delivery
        ids.append(delivery.id)
        clock.pass_(seconds=1)
    await store.deliveries.update(ids[0], state="answering", answer_id="not yet written")
    await store.deliveries.update(ids[0], parts=[30, 10, 20], extra={"text": ""})
    await store.deliveries.update(ids[0], parts=[30, 40])
    await store.deliveries.update(ids[1], state="done", parts=[])
    await store.deliveries.update(ids[3], state="failed")
    first, second = await store.deliveries.unfinished()
    assert (first.event_id, first.state, first.parts) == (9, "answering", (30, 40))
    assert (first.answer_id, first.extra) == ("not yet written", {"text": ""})
    assert (second.event_id, second.parts) == (7, ())


async def test_changes_that_make_no_sense(store: Store) -> None:
    delivery = await store.deliveries.claim(1, "message")
    assert delivery
    with pytest.raises(TypeError, match="event_id"):
        await store.deliveries.update(delivery.id, event_id=2)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="asleep"):
        await store.deliveries.update(delivery.id, state="asleep")
    await store.deliveries.update("erased meanwhile", state="done", parts=[1])
    assert await store.deliveries.unfinished() == [delivery]


async def test_marks_only_move_forward(store: Store) -> None:
    for message in (5, 9, 7):
        await store.places.see(1, message, 100)
    await store.places.see(2, 3, None)
    assert await store.places.marks() == {1: (100, 9), 2: (None, 3)}


@pytest.fixture
def seconds_pass(store: Store, clock: Clock) -> Callable[[float], Awaitable[None]]:
    """Lets time pass for leases: on PostgreSQL, whose clock they go by, they were made earlier."""

    async def pass_(seconds: float) -> None:
        database = store.database
        if database.is_sqlite:
            clock.pass_(seconds=seconds)
            return
        passed = literal(timedelta(seconds=seconds), Interval)
        earlier = update(leases).values(expires_at=leases.c.expires_at - passed)
        await database.execute(earlier)

    return pass_


async def test_a_lease_is_held_renewed_lost_and_given_back(
    store: Store, seconds_pass: Callable[[float], Awaitable[None]]
) -> None:
    assert await store.leases.acquire("bot", "one", 30)
    assert not await store.leases.acquire("bot", "two", 30)
    assert await store.leases.acquire("web", "two", 30)
    await seconds_pass(20)
    assert await store.leases.acquire("bot", "one", 30)  # renewed
    await seconds_pass(20)
    assert not await store.leases.acquire("bot", "two", 30)
    assert await store.leases.holder("bot") == "one"
    await seconds_pass(10)
    assert await store.leases.holder("bot") is None
    assert await store.leases.acquire("bot", "two", 30)
    await store.leases.release("bot", "one")  # not theirs any more
    assert await store.leases.holder("bot") == "two"
    assert not await store.leases.acquire("bot", "one", 30)
    await store.leases.release("bot", "two")
    assert await store.leases.acquire("bot", "one", 30)


@pytest.mark.parametrize("kind", ["postgres", "pooled"])
async def test_hosts_whose_clocks_differ_do_not_both_hold_it(url: str) -> None:
    """Who is ahead would find the other's time over. A SQLite file lies on one host."""
    fast, slow = Clock(), Clock()
    fast.pass_(hours=1)
    async with (
        await Store.open(url, key=KEY, clock=fast) as one,
        await Store.open(url, key=KEY, clock=slow) as two,
    ):
        assert await two.leases.acquire("bot", "two", 30)
        assert not await one.leases.acquire("bot", "one", 30)
        assert await one.leases.holder("bot") == await two.leases.holder("bot") == "two"
        await two.leases.release("bot", "two")
        assert await one.leases.acquire("bot", "one", 30)
        assert not await two.leases.acquire("bot", "two", 30)


def contender(name: str, what: str, url: str, count: int) -> subprocess.Popen[str]:
    """A process that has opened the store, and waits for a line to begin."""
    process = subprocess.Popen(
        [sys.executable, CONTENDER, name, what, url, KEY.hex(), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("what", ["claim", "lease"])
def test_two_processes_want_the_same(what: str, url: str) -> None:
    processes = [contender(name, what, url, 200) for name in ("one", "two")]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    results = [json.loads(process.communicate(timeout=240)[0]) for process in processes]
    assert sorted(results[0] + results[1]) == list(range(200))


async def test_what_was_acknowledged_outlasts_kill_9(url: str) -> None:
    process = contender("one", "write", url, 10_000)
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    while process.stdout.readline() != "40\n":
        pass
    process.kill()
    told = max([40, *map(int, process.communicate()[0].split())])
    async with await Store.open(url, key=KEY) as store:
        events = [delivery.event_id for delivery in await store.deliveries.unfinished()]
        assert events[: told + 1] == list(range(told + 1))
        assert await store.deliveries.claim(told, "message") is None
