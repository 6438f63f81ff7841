"""`guildgpt serve` at its limit: all slots taken, hundreds waiting, readers who leave, swaps.

    python bench/saturation.py --minutes 10 --slots 8 --waiting 500 --swap 30

Two versions of the starter are released in turns, through a store of their own, while `--slots`
answers are written and `--waiting` questions wait; so many callers ask again and again, one in five
of whom leaves within an answer, and one in twenty of whom brings a long conversation. A stream is
lost that ends without its finish reason and `[DONE]` though its reader stayed. What is printed:
the answers, those lost, and the most memory that the server and its engines took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import psutil
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.registering import register
from guildgpt.model.starter import starter_gguf

CONTEXT = 512
ANSWER = 32  # tokens at most
LEAVES, LONG = 1 / 5, 1 / 20  # of all callers
LONG_TURNS = 40
SAMPLE_SECONDS = 0.5  # between looks at the memory


class Load:
    """The callers of a server, and what became of their streams."""

    def __init__(self, url: str, chance: Random):
        self.url = url
        self.chance = chance
        self.seen: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.over = False
        self.reading: set[asyncio.Task[Any] | None] = set()

    async def caller(self, session: ClientSession) -> None:
        """Ask again and again."""
        while not self.over:
            leaves = self.chance.randrange(ANSWER) if self.chance.random() < LEAVES else None
            try:
                self.seen[await self.ask(session, leaves)] += 1
            except (ClientError, OSError) as error:
                self.seen["lost"] += 1
                self.failures[type(error).__name__] += 1
            finally:
                self.reading.discard(asyncio.current_task())

    async def ask(self, session: ClientSession, leaves: int | None) -> str:
        """How one stream ended, whose reader leaves after so many events."""
        said = [{"role": "user", "content": f"Tell me a story about {self.chance.random()}."}]
        if self.chance.random() < LONG:
            said = [one for _ in range(LONG_TURNS) for one in (*said, ANSWERED)] + said
        body = {"messages": said, "max_tokens": ANSWER, "stream": True}
        async with session.post(f"{self.url}/chat/completions", json=body) as reply:
            if reply.status == 429:
                await asyncio.sleep(min(2.0, float(reply.headers["Retry-After"])))
                return "refused"
            if reply.status != 200:
                self.failures[f"{reply.status} {(await reply.text())[:200]}"] += 1
                return "lost"
            number, finished = 0, False
            async for line in reply.content:
                if not line.startswith(b"data: "):
                    continue
                if line.startswith(b"data: [DONE]"):
                    return "answered" if finished else "lost"
                event: dict[str, Any] = json.loads(line[6:])
                if "error" in event:
                    self.failures[event["error"]["message"]] += 1
                    return "lost"
                finished = finished or bool(event["choices"][0]["finish_reason"])
                number += 1
                self.reading.add(asyncio.current_task())
                if leaves is not None and number > leaves:
                    return "left"
        self.failures["cut"] += 1
        return "lost"


ANSWERED = {"role": "assistant", "content": "Once upon a time there was a small lighthouse. " * 4}


async def watch(process: subprocess.Popen[str], load: Load, most: dict[str, float]) -> None:
    """The most memory that the server and its engines took, in MiB."""
    server = psutil.Process(process.pid)
    while not load.over:
        try:
            most["server"] = max(most["server"], server.memory_info().rss / 2**20)
            engines = sum(one.memory_info().rss for one in server.children()) / 2**20
            most["engines"] = max(most["engines"], engines)
        except psutil.NoSuchProcess:  # an engine that was just closed
            pass
        await asyncio.sleep(SAMPLE_SECONDS)


async def swap(store: Store, versions: list[str], every: float, load: Load) -> None:
    """Release the versions in turns."""
    number = 0
    while not load.over:
        await asyncio.sleep(every)
        number += 1
        await store.releases.add({versions[number % 2]: 1.0}, "serve")
        load.seen["swaps"] += 1
        print(f"{number} swaps: {dict(load.seen)}", file=sys.stderr, flush=True)


def versions_in(folder: Path) -> list[Path]:
    """The starter twice, with another word among what it says of itself: two versions."""
    whole = starter_gguf().read_bytes()
    paths = [folder / f"{name}.gguf" for name in ("one", "two")]
    for path in paths:
        path.write_bytes(whole.replace(b"HuggingFaceTB", path.stem.ljust(13).encode(), 1))
    return paths


def serve(store: str, slots: int, waiting: int) -> tuple[subprocess.Popen[str], str]:
    """`guildgpt serve` in a process of its own, and its address."""
    command = [sys.executable, "-m", "guildgpt", "serve", "--port", "0", "--store", store]
    command += ["--context", str(CONTEXT), "--slots", str(slots), "--waiting", str(waiting)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout
    for line in process.stdout:
        if "API at http://" in line:
            return process, line.split()[-1]
    raise SystemExit("guildgpt serve did not start")


async def run(asked: argparse.Namespace, folder: Path) -> None:
    url = f"sqlite:///{folder / 'feedback.db'}"
    async with await Store.open(url, key=member_key(url)) as store:
        versions = [(await register(store, str(path))).version.id for path in versions_in(folder)]
        await store.releases.add({versions[0]: 1.0}, "serve")
        process, address = serve(url, asked.slots, asked.waiting)
        load, most = Load(address, Random(asked.seed)), {"server": 0.0, "engines": 0.0}
        try:
            connector = TCPConnector(limit=0)
            async with ClientSession(timeout=ClientTimeout(), connector=connector) as session:
                beside = [
                    asyncio.create_task(watch(process, load, most)),
                    asyncio.create_task(swap(store, versions, asked.swap, load)),
                ]
                began = time.monotonic()
                callers = [
                    asyncio.create_task(load.caller(session))
                    for _ in range(asked.slots + asked.waiting)
                ]
                await asyncio.sleep(60 * asked.minutes)
                load.over = True
                for one in callers:
                    if one not in load.reading:  # who still waits goes home
                        one.cancel()
                await asyncio.wait(callers)
                took = time.monotonic() - began
                for task in beside:
                    task.cancel()
                root = address.removesuffix("/v1")
                await asyncio.sleep(1)
                left = await _left_over(session, root)
        finally:
            process.terminate()
            process.wait()
    seen = load.seen
    print(
        f"{took / 60:.1f} minutes, {asked.slots} slots, {asked.waiting} waiting: "
        f"{seen['answered']} answered, {seen['left']} left by their readers, "
        f"{seen['refused']} told to come back, {seen['swaps']} swaps, {seen['lost']} LOST"
    )
    for what, count in load.failures.most_common(5):
        print(f"  {count} x {what}")
    print(f"most memory: server {most['server']:.0f} MiB, engines {most['engines']:.0f} MiB")
    print(f"left over: {left}")


async def _left_over(session: ClientSession, root: str) -> str:
    """What the server says is still on its way when nobody asks any more."""
    wanted = ("guildgpt_answering", "guildgpt_waiting", "guildgpt_held_bytes", "process_open_fds")
    async with session.get(f"{root}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    return ", ".join(line for line in lines if line.startswith(wanted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--waiting", type=int, default=500)
    parser.add_argument("--swap", type=float, default=30, help="seconds between two releases")
    parser.add_argument("--seed", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(asked, Path(folder)))


if __name__ == "__main__":
    main()
