"""A process that contends with another one for the same store; started by `test_deliveries.py`."""

from __future__ import annotations

import asyncio
import json
import sys

from guildgpt.feedback.store import Store


async def claim(url: str, key: bytes, count: int) -> list[int]:
    """Claim the events 0 to `count`; those that were ours."""
    async with await Store.open(url, key=key, patience=30) as store:
        _wait_for_the_other()
        claims = await asyncio.gather(
            *(store.deliveries.claim(event, "message") for event in range(count))
        )
        return [delivery.event_id for delivery in claims if delivery]


async def contend(url: str, key: bytes, count: int) -> list[int]:
    """Try for one lease after another, each to be held for ever; those that were ours."""
    async with await Store.open(url, key=key, patience=30) as store:
        _wait_for_the_other()
        holder = f"process {sys.argv[1]}"
        return [n for n in range(count) if await store.leases.acquire(f"lease {n}", holder, 1e6)]


async def write(url: str, key: bytes, count: int) -> list[int]:
    """Claim one event after another, and say so, until killed."""
    async with await Store.open(url, key=key) as store:
        _wait_for_the_other()
        for event in range(count):
            await store.deliveries.claim(event, "message")
            print(event, flush=True)
    return []


def _wait_for_the_other() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    _, name, what, url, key, count = sys.argv
    work = {"claim": claim, "lease": contend, "write": write}[what]
    print(json.dumps(asyncio.run(work(url, bytes.fromhex(key), int(count)))))
