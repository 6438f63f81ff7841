"""`guildgpt serve` beside llama.cpp's own server, on the same file with the same settings.

    python bench/serving.py --streams 1 8 32 --pairs 3

Both run at once, with as many threads, and are asked in turns, so that the machine's noise falls on
both: an idle server takes nothing. A request is 32 token ids and an answer of 64 tokens, streamed;
`--streams` of them are under way at a time. Of each pair the ratio is taken; what is printed is its
median.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from random import Random

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.model.starter import starter_gguf

CONTEXT = 512
PROMPT = 32  # tokens
ANSWER = 64  # tokens
ROUNDS = 2  # requests that each stream makes, one after another


@dataclass(frozen=True)
class Measured:
    """Tokens a second of all streams together, and milliseconds to the first token, the median."""

    rate: float
    first: float


async def measure(url: str, headers: dict[str, str], streams: int, chance: Random) -> Measured:
    """Ask a server by so many streams at once."""
    firsts: list[float] = []
    tokens = 0

    async def stream(session: ClientSession) -> None:
        nonlocal tokens
        for _ in range(ROUNDS):
            prompt = [chance.randrange(100, 40_000) for _ in range(PROMPT)]
            body = {"prompt": prompt, "max_tokens": ANSWER, "temperature": 0, "stream": True}
            asked, first = time.perf_counter(), None
            async with session.post(f"{url}/completions", json=body, headers=headers) as reply:
                assert reply.status == 200, await reply.text()
                async for line in reply.content:
                    if not line.startswith(b"data: {"):
                        continue
                    choice = json.loads(line[6:])["choices"][0]
                    if choice["text"] or not choice["finish_reason"]:
                        first = first or time.perf_counter() - asked
                        tokens += 1
            firsts.append(first or time.perf_counter() - asked)

    # llama.cpp's server now and then closes a connection that is used again.
    connector = TCPConnector(limit=0, force_close=True)
    async with ClientSession(timeout=ClientTimeout(), connector=connector) as session:
        started = time.perf_counter()
        await asyncio.gather(*(stream(session) for _ in range(streams)))
        took = time.perf_counter() - started
    return Measured(tokens / took, 1000 * statistics.median(firsts))


def serve(streams: int, threads: int) -> tuple[subprocess.Popen[str], str]:
    """`guildgpt serve` in a process of its own, and its address."""
    command = [sys.executable, "-m", "guildgpt", "serve", "starter", "--port", "0"]
    command += ["--context", str(CONTEXT), "--slots", str(streams), "--waiting", "1000"]
    command += ["--threads", str(threads)]
    store = tempfile.mkdtemp(prefix="bench-serving-")
    environment = {**os.environ, "GUILDGPT_STORE": f"sqlite:///{store}/store.db"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    for line in process.stdout:
        if "API at" in line:
            return process, line[line.index("http://") :].strip()
    raise SystemExit("guildgpt serve did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--verbose", action="store_true", help="each pair, too")
    asked = parser.parse_args()
    threads = asked.threads
    for streams in asked.streams:
        process, ours = serve(streams, threads)
        asyncio.run(measure(ours, {}, 1, Random(0)))
        raw = LlamaCppEngine(starter_gguf(), context=CONTEXT, slots=streams, threads=threads)
        key = {"Authorization": f"Bearer {raw._link.key}"}
        theirs = f"{raw._link.address}/v1"
        rows = []
        try:
            asyncio.run(measure(theirs, key, 1, Random(0)))  # warm, as the other is
            for number in range(asked.pairs):
                both = {}
                for name in ("raw", "serve") if number % 2 else ("serve", "raw"):
                    chance = Random(number)  # the same prompts
                    url, headers = (theirs, key) if name == "raw" else (ours, {})
                    both[name] = asyncio.run(measure(url, headers, streams, chance))
                rows.append((both["serve"], both["raw"]))
                if asked.verbose:
                    print(both, flush=True)
        finally:
            process.terminate()
            process.wait()
            raw.stop()
        mine, other = (statistics.median(row[i].rate for row in rows) for i in (0, 1))
        ratio = statistics.median(a.rate / b.rate for a, b in rows)
        later = statistics.median(a.first - b.first for a, b in rows)
        first = statistics.median(a.first for a, _ in rows)
        print(
            f"{streams:3d} streams, {threads} threads each: {mine:6.0f} tokens/s, "
            f"llama.cpp {other:6.0f}: {ratio:.3f} of it; "
            f"first token after {first:.0f} ms, {later:+.0f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
