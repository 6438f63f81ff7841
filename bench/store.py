"""What the feedback store costs: a unit of work, a deletion, and a file without traces of it.

Fills a store with questions and answers, then times each of these. While the file is written anew
others go on reading and writing; how long they wait is measured, too.
Run on an otherwise idle machine: python bench/store.py [MB] [URL]; without a URL in SQLite, in a
folder that is deleted afterwards. A database behind a URL has to be empty.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable

from guildgpt.feedback.store import Store

TEXT_BYTES = 16_000  # of a message: a question with a text file
RUNS = 200
WORDS = [f"word{number}" for number in range(5_000)]


async def fill(store: Store, megabytes: int, chance: random.Random) -> list[tuple[str, str, int]]:
    """A conversation for each question and its answer: its id, the answer's, Discord's."""
    asked = []
    for number in range(max(RUNS * 3, megabytes * 1_000_000 // (2 * TEXT_BYTES))):
        conversation = await store.conversations.start("chain", guild_id=1, channel_id=number)
        text = " ".join(chance.choices(WORDS, k=TEXT_BYTES // 8))
        question = await store.conversations.add_message(
            conversation_id=conversation, parent_id=None, role="user", text=text, discord_id=number
        )
        answer = await store.conversations.add_message(
            conversation_id=conversation, parent_id=question.id, role="assistant", text=text[::-1]
        )
        asked.append((conversation, answer.id, number))
    return asked


async def times(work: Callable[[int], Awaitable[object]]) -> list[float]:
    """Milliseconds of `RUNS` units, one after the other."""
    found = []
    for run in range(RUNS):
        start = time.perf_counter()
        await work(run)
        found.append((time.perf_counter() - start) * 1000)
    return found


async def waits(work: Callable[[int], Awaitable[object]], until: asyncio.Future[None]) -> float:
    """The longest of the units, in milliseconds, that are done again and again `until` then."""
    longest, run = 0.0, 0
    while not until.done():
        start = time.perf_counter()
        await work(run % RUNS)
        longest, run = max(longest, (time.perf_counter() - start) * 1000), run + 1
        await asyncio.sleep(0.005)
    return longest


def show(what: str, found: list[float]) -> None:
    low, high = min(found), max(found)
    print(f"{what:<34}{statistics.median(found):9.1f} ms   ({low:.1f} to {high:.1f})")


async def measure(store: Store, megabytes: int) -> None:
    """Print every figure."""
    asked = await fill(store, megabytes, random.Random(1))

    async def write(run: int) -> None:
        conversation, above, _ = asked[run]
        await store.conversations.add_message(
            conversation_id=conversation, parent_id=above, role="user", text="And then?"
        )

    async def read(run: int) -> None:
        await store.conversations.path_to(asked[run][1])

    async def delete(run: int) -> None:
        await store.revisions.mark_deleted(asked[RUNS + run][2])

    show("a message is written", await times(write))
    show("a conversation is read", await times(read))
    show("a message is deleted", await times(delete))

    start = time.perf_counter()
    await store.traces.empty_log()
    print(f"{'the log is emptied':<34}{(time.perf_counter() - start) * 1000:9.1f} ms")

    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    others = [asyncio.create_task(waits(work, over)) for work in (write, read)]
    start = time.perf_counter()
    await store.traces.scrub()
    print(f"{'the file is written anew':<34}{(time.perf_counter() - start) * 1000:9.1f} ms")
    over.set_result(None)
    longest_write, longest_read = await asyncio.gather(*others)
    print(f"{'  the longest write meanwhile':<34}{longest_write:9.1f} ms")
    print(f"{'  the longest read meanwhile':<34}{longest_read:9.1f} ms")


async def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[2] if len(sys.argv) > 2 else f"{folder}/feedback.db"
        async with await Store.open(url, key=b"k" * 32) as store:
            await measure(store, megabytes)


if __name__ == "__main__":
    asyncio.run(main())
