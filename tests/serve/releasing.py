"""A server that follows the releases in a store, with engines that stand in for its versions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TypeVar

import uvicorn

from guildgpt.chat import CHATML
from guildgpt.chat.tokenizer import Tokenizer
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.versions import KnownVersion
from guildgpt.model.version import Version
from guildgpt.serve.models import Models
from guildgpt.serve.run import ServeSettings, opened_app, web_server
from guildgpt.talk.fleet import Open, OpenedModel
from guildgpt.talk.following import Opening

from .conftest import Served
from .slow import Slow

T = TypeVar("T")
OWN = Version("own@00000000", "own", "", "0")


class StandIns(Opening):
    """Opens engines that write the name of their version, some words of it."""

    def __init__(self, tokenizer: Tokenizer, words: int = 3):
        super().__init__(512, 4)
        self.tokenizer = tokenizer
        self.words = words
        self.broken: dict[str, Exception] = {}  # of those that do not open, why not
        self.engines: list[Slow] = []

    def of(self, model: str | None, on_progress: Callable[[str], None]) -> Open:
        own = Version(f"{model}@00000000", model, "", "0") if model else OWN
        return lambda: self._stand_in(own)

    def version(self, version: KnownVersion) -> OpenedModel:
        if error := self.broken.get(version.name):
            raise error
        return self._stand_in(Version(version.id, version.name, version.path, version.sha256))

    def _stand_in(self, version: Version) -> OpenedModel:
        engine = Slow(self.tokenizer, self.words)
        engine.word = f"{version.name} "
        self.engines.append(engine)
        return OpenedModel(engine, CHATML, lambda: version)

    def wrote(self, name: str) -> list[Slow]:
        """The engines that were opened for a version."""
        return [one for one in self.engines if one.word == f"{name} "]


@dataclass
class Releasing(Served):
    """A server that follows releases; its store can be written to from outside."""

    models: Models
    said: list[str]
    store_url: str
    server: uvicorn.Server
    ids: dict[str, str] = field(default_factory=dict)

    def stop(self) -> None:
        """As a signal does."""
        self.server.should_exit = True

    def register(self, *names: str) -> None:
        """Have the store know versions by their names."""
        for name in names:
            self.ids[name] = f"{name}@{name:0<8.8}"

        async def do(store: Store) -> None:
            for name in names:
                version = Version(self.ids[name], name, f"/nowhere/{name}.gguf", name)
                await store.versions.register(version)

        within(self.store_url, do)

    def release(self, **shares: float) -> None:
        """Release versions by their names; they are registered where they are not known."""
        self.register(*(name for name in shares if name not in self.ids))
        kind = "serve" if len(shares) == 1 else "canary"
        released = {self.ids[name]: share for name, share in shares.items()}
        within(self.store_url, lambda store: store.releases.add(released, kind))


def within(url: str, work: Callable[[Store], Awaitable[T]]) -> T:
    """What some work makes of a store, as another process would do it."""

    async def run() -> T:
        async with await Store.open(url, key=member_key(url)) as store:
            return await work(store)

    return asyncio.run(run())


@contextmanager
def releasing(
    opening: StandIns, store: Path | str, *named: str, slots: int = 4, waiting: int = 100
) -> Iterator[Releasing]:
    """The server until the block ends, whose store is a file, or a URL."""
    url = str(store) if "://" in str(store) else f"sqlite:///{store}"
    settings = ServeSettings(models=named, slots=slots, waiting=waiting, store=url)
    said: list[str] = []
    started: list[Releasing] = []

    async def run() -> None:
        async with opened_app(settings, opening, said.append) as app:
            server = web_server(app, port=0, log_level="critical")
            serving = asyncio.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            address = f"http://127.0.0.1:{port}"
            started.append(
                Releasing(
                    address,
                    app.state.asking,
                    app,
                    asyncio.get_running_loop(),
                    models=app.state.models,
                    said=said,
                    store_url=url,
                    server=server,
                )
            )
            await serving

    thread = Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    while not started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield started[0]
    finally:
        started[0].stop()
        thread.join()
