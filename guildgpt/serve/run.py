"""The server from its start to its end: keys, models, uvicorn."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from guildgpt.engines.engine import SamplingParams
from guildgpt.engines.served_at import ServedAt
from guildgpt.errors import GuildError
from guildgpt.feedback.store import Store
from guildgpt.serve.app import make_app
from guildgpt.serve.asking import Asking
from guildgpt.serve.housekeeping import Housekeeping
from guildgpt.serve.listening import is_loopback, listen
from guildgpt.serve.models import Models
from guildgpt.serve.opened_store import open_later, open_store
from guildgpt.talk.fleet import Fleet
from guildgpt.talk.following import Opening
from guildgpt.talk.waiting import FairQueue

KEYS_VARIABLE = "GUILDGPT_SERVE_KEYS"
LEAST_KEY = 16  # characters
LEAVE_SECONDS = 30  # for answers that are on their way when the server is stopped
END_SECONDS = 5  # for the errors that the others end with to be sent
# Where a proxy may stand whose word counts for who asked, and whether by https: no public address.
PROXIES = "127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"
# What stands for every address of this machine is none to go to: here is one that is.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True)
class ServeSettings:
    """What the command line asks for; `keys` are secrets by their names, and `public` the names
    that a proxy is called by."""

    models: Sequence[str]  # without any, whom the store's releases want, or the newest trained one
    host: str = "127.0.0.1"
    port: int = 8000
    context: int = 4096
    slots: int = 4
    threads: int | None = None
    waiting: int = 100
    usual: SamplingParams = field(default_factory=SamplingParams)
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    at: ServedAt | None = None
    store: str | None = None  # its URL; without one nothing is kept
    public: tuple[str, ...] = ()
    retention_days: int = 180  # that chats of the web page are kept


def serve(settings: ServeSettings, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `say` is told where. Raises `GuildError` for an address that
    needs a key and has none, a port that is taken, and a model that cannot be opened."""
    if _is_open(settings) and not settings.store:
        raise _nobody_let_in(_reached(settings))
    listening = listen(settings.host, settings.port)
    with listening:
        asyncio.run(_serve(settings, listening, say))


async def _serve(
    settings: ServeSettings, listening: socket.socket, say: Callable[[str], None]
) -> None:
    opening = Opening(settings.context, settings.slots, settings.threads, settings.at)
    async with opened_app(settings, opening, say) as app:
        host, port = listening.getsockname()[:2]
        here = _EVERYWHERE.get(host, host)
        address = f"http://{f'[{here}]' if ':' in here else here}:{port}"
        if settings.store:
            say(f"Web page at {address}/")
        say(f"OpenAI-compatible API at {address}/v1")
        if host in _EVERYWHERE:
            say(f"Others reach both by this machine's own address, at port {port}.")
        await web_server(app).serve(sockets=[listening])


@asynccontextmanager
async def opened_app(
    settings: ServeSettings, opening: Opening, say: Callable[[str], None]
) -> AsyncGenerator[FastAPI]:
    """The app while its models are open, its store, too, and releases are followed."""
    async with AsyncExitStack() as stack:
        fleet = Fleet()
        stack.push_async_callback(fleet.close)
        models = Models(fleet, opening, settings.models, say)
        store = await open_store(settings.store, say) if settings.store else None
        asking = Asking(fleet, fair_queue(settings))
        app = make_app(
            asking,
            usual=settings.usual,
            keys=settings.keys,
            store=store,
            models=models,
            public=_is_reached(settings),
            public_names=settings.public,
            expects_store=settings.store is not None,
        )
        stack.push_async_callback(_close_store, app)
        await _check_closed(settings, store)
        if store:
            await models.use(store)
        await models.open()
        await stack.enter_async_context(
            _beside(
                models.look_after(),
                _with_store(settings, app, models),
                app.state.ring.keep(),
                Housekeeping(
                    lambda: app.state.store,
                    lambda: asking.queue.running > 0,
                    settings.retention_days,
                ).keep(),
                app.state.tables.keep(app),
            )
        )
        yield app


async def _with_store(settings: ServeSettings, app: FastAPI, models: Models) -> None:
    """Follow releases and write what waits; where the store is not open yet, as soon as it is."""
    if settings.store and not app.state.store:
        app.state.store = await open_later(settings.store)
        await models.use(app.state.store)
    if app.state.store:
        await models.keep(app.state.store)


@asynccontextmanager
async def _beside(*work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Work that goes on until the block ends."""
    working = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in working:
            task.cancel()
        await asyncio.wait(working)


async def _check_closed(settings: ServeSettings, store: Store | None) -> None:
    """Raise `GuildError` for an address that others can reach, where nobody was let in yet."""
    if not _is_open(settings):
        return
    if store is None:
        raise GuildError(
            f"{_reached(settings)} can be reached by others, and the store does not tell who may "
            "come",
            remedy=f"Mend it, or set {KEYS_VARIABLE} to name=key, several with commas between.",
        )
    accounts = store.accounts
    if not (
        await store.keys.all() or await accounts.somebody_came() or await accounts.invitations()
    ):
        raise _nobody_let_in(_reached(settings))


def _is_open(settings: ServeSettings) -> bool:
    """Whether others can reach the server, and nothing but the store may know who comes."""
    return not settings.keys and _is_reached(settings)


def _is_reached(settings: ServeSettings) -> bool:
    return bool(settings.public) or not is_loopback(settings.host)


def _reached(settings: ServeSettings) -> str:
    """The name by which others reach the server."""
    return settings.public[0] if settings.public else settings.host


def _nobody_let_in(host: str) -> GuildError:
    return GuildError(
        f"{host} can be reached by others, and without a key anybody there could use this model",
        remedy="`guildgpt serve keys add NAME` makes a key for a program, `guildgpt serve invite` "
        "a link for a person. Or leave --host and --public-name out.",
    )


async def _close_store(app: FastAPI) -> None:
    """Close the store, once what was said until now is written down."""
    app.state.asking.end()
    await app.state.answering.finish()
    await app.state.ring.close()
    if app.state.store:
        await app.state.store.close()


def fair_queue(settings: ServeSettings) -> FairQueue:
    """The turns of all callers. Each has a share of the places to wait in, which no other takes."""
    return FairQueue(
        settings.slots,
        per_user=max(1, settings.waiting // max(1, len(settings.keys))),
        bound=max(settings.waiting, len(settings.keys)),
        rate=10_000,
        clock=time.monotonic,
    )


def web_server(app: FastAPI, **more: Any) -> uvicorn.Server:
    """The server of an app that `make_app` made, `more` of whose settings are uvicorn's own."""
    usual = {
        "log_level": "warning",
        "timeout_graceful_shutdown": LEAVE_SECONDS + END_SECONDS,
    }
    # h11 bounds what a client may send before its headers end; httptools does not.
    settings: dict[str, Any] = {
        "http": "h11",
        "ws": "none",
        "lifespan": "off",
        "server_header": False,
        "forwarded_allow_ips": PROXIES,
    }
    return _Server(uvicorn.Config(app, **(settings | usual | more)), app.state.asking)


class _Server(uvicorn.Server):
    """Ends answers by an error that are not over in time when it is stopped."""

    def __init__(self, config: uvicorn.Config, asking: Asking):
        super().__init__(config)
        self._asking = asking

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        ending = asyncio.get_running_loop().call_later(LEAVE_SECONDS, self._asking.end)
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()


def read_keys(text: str) -> dict[str, str]:
    """The keys in "name=key,name=key" by their names; a key alone is called "key". Raises
    `GuildError` for a name that comes twice or a key that is too short to be one."""
    keys: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _, key = part.rpartition("=")
        name = name.strip() or "key"
        if name in keys:
            raise GuildError(f"two keys are called {name}", where=KEYS_VARIABLE)
        if len(key) < LEAST_KEY:
            raise GuildError(
                f"the key called {name} is too short to be a secret",
                where=KEYS_VARIABLE,
                remedy=f"{LEAST_KEY} characters at least: "
                "python -c 'import secrets; print(secrets.token_urlsafe())'",
            )
        keys[name] = key
    return keys


def read_public(names: Sequence[str]) -> tuple[str, ...]:
    """Names as browsers send them in `Host` and `Origin`. Raises `GuildError` for what is none."""
    found = []
    for name in names:
        try:
            parts = urlsplit(f"//{name.strip().lower()}")
            known = parts.hostname and parts.netloc == name.strip().lower() and "@" not in name
            known = known and parts.port != 0
        except ValueError:  # its port is none
            known = None
        if not known:
            raise GuildError(
                f"{name or 'nothing'} is no name of a server",
                where="--public-name",
                remedy="As in the address bar, without https:// and without a path: "
                "chat.example.org, or chat.example.org:8443.",
            )
        found.append(parts.netloc)
    return tuple(found)
