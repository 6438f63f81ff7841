"""The API on a port of its own, over a real engine, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest
from engines.conftest import engine, file_tokenizer  # noqa: F401 (fixtures)
from openai import OpenAI

from guildgpt.chat import CHATML
from guildgpt.engines.engine import Engine, SamplingParams
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.feedback.location import KEY_VARIABLE, STORE_VARIABLE
from guildgpt.model.version import Version
from guildgpt.serve.app import make_app
from guildgpt.serve.asking import Asking
from guildgpt.serve.run import web_server
from guildgpt.talk.fleet import Fleet, OpenedModel
from guildgpt.talk.waiting import FairQueue

VERSION = Version("starter@b179c952", "starter", "", "b179c952")
GREEDY = SamplingParams(temperature=0)


@dataclass
class Served:
    """A server that runs: where, and what it asks."""

    url: str
    asking: Asking

    def client(self, key: str = "none") -> OpenAI:
        """The official client."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)


@contextmanager
def serving(
    model: Engine, *, keys: Mapping[str, str] | None = None, workers: int = 4, waiting: int = 100
) -> Iterator[Served]:
    """Serve an open engine as the starter, until the block ends."""

    class Kept:
        """The engine outlives the server."""

        tokenizer, context, generate, check = (
            model.tokenizer,
            model.context,
            model.generate,
            model.check,
        )

        async def close(self) -> None:
            pass

    fleet = Fleet()
    queue = FairQueue(workers, per_user=waiting, bound=waiting, rate=10_000, clock=time.monotonic)
    asking = Asking(fleet, queue)
    app = make_app(asking, usual=GREEDY, keys=keys or {})
    server = web_server(app, port=0, log_level="error")

    async def run() -> None:
        await fleet.open(lambda: OpenedModel(Kept(), CHATML, lambda: VERSION))
        await server.serve()
        await fleet.close()

    thread = Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(f"http://127.0.0.1:{port}", asking)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def served(engine: LlamaCppEngine) -> Iterator[Served]:  # noqa: F811
    with serving(engine) as there:
        yield there


@pytest.fixture(scope="session")
def client(served: Served) -> OpenAI:
    return served.client()


@pytest.fixture
def gguf(starter: Path) -> Path:
    return starter


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server that is started here makes no store among those of whoever runs the tests, nor a
    key."""
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "feedback.db"))
    monkeypatch.setenv(KEY_VARIABLE, "07" * 32)
