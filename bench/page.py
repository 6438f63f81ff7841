"""The web page in a real browser: what the first paint takes, and whether a long answer blocks it.

A server in this process streams an answer of 2,000 tokens with code at a steady pace; headless
Chromium shows it. Printed: the bytes of a first visit, the time from the server's answer to the
first paint, and every task of the page's main thread that took longer than 50 ms meanwhile.

    pip install 'guildgpt[dev]'; python bench/page.py [TOKENS_PER_SECOND]
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from guildgpt.chat import CHATML
from guildgpt.engines.engine import Chunk, SamplingParams
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.feedback.store import Store
from guildgpt.model.starter import starter_gguf
from guildgpt.model.version import Version
from guildgpt.serve.app import make_app
from guildgpt.serve.asking import Asking
from guildgpt.serve.run import web_server
from guildgpt.talk.fleet import Fleet, OpenedModel
from guildgpt.talk.waiting import FairQueue

VISITS = 7
_PROSE = "Some **words** of an answer that goes on, with `names` in it and more to read. " * 5
_CODE = "".join(
    f"def area_{n}(width, height):\n    '''The area, number {n}.'''\n"
    f"    return width * height + {n}  # squares\n\n"
    for n in range(42)
)
_TABLE = "| what | costs |\n|---|---:|\n" + "| `one` | **1** |\n" * 20
ANSWER = (
    f"{_PROSE}\n\n```python\n{_CODE}```\n\n{_TABLE}\n" + "- item of **many**\n" * 40 + "\nEnd.\n"
)
PAINT = "performance.getEntriesByType('paint').find((e) => e.name.includes('contentful')).startTime"
ANSWERED = "performance.getEntriesByType('navigation')[0].responseStart"
BYTES = "performance.getEntries().reduce((sum, one) => sum + (one.transferSize || 0), 0)"
WATCH = (
    "window.blocked = []; new PerformanceObserver((list) => list.getEntries().forEach("
    "(one) => blocked.push(Math.round(one.duration)))).observe({type: 'longtask'})"
)


class Steady:
    """An engine that says `ANSWER`, so many tokens a second."""

    context = 4096

    def __init__(self, behind: LlamaCppEngine, pace: float):
        self.tokenizer = behind.tokenizer
        self.ids = self.tokenizer.encode(ANSWER)
        self._pace = pace

    async def generate(
        self, ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        """Whatever it is asked."""
        began = time.monotonic()
        for number, id in enumerate(self.ids):
            yield Chunk((id,), self.tokenizer.decode([id]))
            await asyncio.sleep(max(0.0, began + number / self._pace - time.monotonic()))
        yield Chunk((), "", "eos")

    async def check(self) -> None:
        """It lives."""

    async def close(self) -> None:
        """Nothing is open."""


def serve(engine: Steady, folder: Path) -> tuple[Any, Thread]:
    """The server, once it listens, and its thread."""
    fleet = Fleet()
    queue = FairQueue(4, per_user=9, bound=9, rate=10_000, clock=time.monotonic)
    app = make_app(Asking(fleet, queue), usual=SamplingParams(), keys={})
    server = web_server(app, port=0)

    async def run() -> None:
        async with await Store.open(f"sqlite:///{folder / 'page.db'}", key=b"bench") as store:
            app.state.store = store
            version = Version("bench@00000000", "bench", "", "00000000")
            await fleet.open(lambda: OpenedModel(engine, CHATML, lambda: version))
            await server.serve()
            await app.state.answering.finish()
            await fleet.close()

    thread = Thread(target=lambda: asyncio.run(run()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    return server, thread


def visit(browser: Browser, url: str) -> tuple[float, int]:
    """Milliseconds from the server's answer to the first paint, and bytes, of a first visit."""
    page = browser.new_context().new_page()
    page.goto(url, wait_until="networkidle")
    found = page.evaluate(f"{PAINT} - {ANSWERED}"), page.evaluate(BYTES)
    page.context.close()
    return found


def stream(browser: Browser, url: str) -> tuple[float, list[int]]:
    """Seconds that the answer took, and milliseconds of each task that blocked the page."""
    page = browser.new_page()
    page.goto(url, wait_until="networkidle")
    page.evaluate(WATCH)
    began = time.monotonic()
    page.get_by_label("Your question").fill("Go on.")
    page.get_by_label("Your question").press("Enter")
    page.locator(".said.assistant .deeds").wait_for(timeout=600_000)
    return time.monotonic() - began, page.evaluate("blocked")


def main() -> None:
    pace = float(sys.argv[1]) if len(sys.argv) > 1 else 100.0
    behind = LlamaCppEngine(starter_gguf(on_progress=print), context=512, slots=1, threads=1)
    engine = Steady(behind, pace)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server, thread = serve(engine, Path(folder))
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        visits = [visit(browser, url) for _ in range(VISITS)]
        paints = sorted(paint for paint, _ in visits)
        median = statistics.median(paints)
        print(f"first paint {median:.0f} ms ({paints[0]:.0f} to {paints[-1]:.0f}, {VISITS} visits)")
        print(f"first visit {visits[0][1]:,} bytes")
        seconds, blocked = stream(browser, url)
        print(f"{len(engine.ids):,} tokens in {seconds:.1f} s")
        print(f"tasks over 50 ms: {len(blocked)}, the longest {max(blocked, default=0)} ms")
        browser.close()
        server.should_exit = True
        thread.join()
    asyncio.run(behind.close())


if __name__ == "__main__":
    main()
