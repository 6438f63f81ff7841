"""The API on a port of its own, over a real engine, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import pytest
from engines.conftest import engine, file_tokenizer  # noqa: F401 (fixtures)
from fastapi import FastAPI
from feedback.conftest import cluster  # noqa: F401 (a fixture)
from feedback.postgres import Cluster
from openai import OpenAI

from guildgpt.chat import CHATML
from guildgpt.engines.engine import Engine, SamplingParams
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.feedback.storage.location import KEY_VARIABLE, STORE_VARIABLE
from guildgpt.feedback.store import Store
from guildgpt.model.version import Version
from guildgpt.serve.app import make_app
from guildgpt.serve.asking import Asking
from guildgpt.serve.run import web_server
from guildgpt.talk.fleet import Fleet, OpenedModel
from guildgpt.talk.waiting import FairQueue

VERSION = Version("starter@b179c952", "starter", "", "b179c952")
GREEDY = SamplingParams(temperature=0)
STORE_KEY = b"the tests' own"
_NUMBERS = count()
T = TypeVar("T")


@dataclass
class Served:
    """A server that runs: where, what it asks, and the loop that it runs in."""

    url: str
    asking: Asking
    app: FastAPI
    loop: asyncio.AbstractEventLoop

    @property
    def store(self) -> Store:
        """Its store; what is asked of it runs in the server's loop, by `run`."""
        store: Store = self.app.state.store
        return store

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine comes to in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def client(self, key: str = "none") -> OpenAI:
        """The official client."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)


@contextmanager
def serving(
    model: Engine,
    *,
    keys: Mapping[str, str] | None = None,
    workers: int = 4,
    waiting: int = 100,
    store: str | None = None,
) -> Iterator[Served]:
    """Serve an open engine as the starter, until the block ends; `store` is a store's URL."""

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

    loop = asyncio.new_event_loop()

    async def run() -> None:
        if store:
            app.state.store = await Store.open(store, key=STORE_KEY)
        await fleet.open(lambda: OpenedModel(Kept(), CHATML, lambda: VERSION))
        await server.serve()
        await fleet.close()
        if store:
            await app.state.store.close()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(run())

    thread = Thread(target=work, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(f"http://127.0.0.1:{port}", asking, app, loop)
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


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:  # noqa: F811
    """The URL of an empty database in PostgreSQL."""
    name = f"serve_{next(_NUMBERS)}"
    asyncio.run(cluster.execute(f"CREATE DATABASE {name}"))
    yield cluster.url(name)
    asyncio.run(cluster.execute(f"DROP DATABASE {name} WITH (FORCE)"))
