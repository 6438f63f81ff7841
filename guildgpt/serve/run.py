"""The server from its start to its end: keys, models, uvicorn."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Any

import uvicorn
from fastapi import FastAPI

from guildgpt.engines.engine import SamplingParams
from guildgpt.engines.served_at import ServedAt
from guildgpt.errors import GuildError
from guildgpt.model.locate import locate
from guildgpt.serve.app import make_app
from guildgpt.serve.asking import Asking
from guildgpt.serve.opened_store import open_later, open_store
from guildgpt.talk.fleet import Fleet, open_model
from guildgpt.talk.waiting import FairQueue

log = logging.getLogger(__name__)
KEYS_VARIABLE = "GUILDGPT_SERVE_KEYS"
LEAST_KEY = 16  # characters
LOOK_SECONDS = 5.0  # between looks whether the engines live
LEAVE_SECONDS = 30  # for answers that are on their way when the server is stopped


@dataclass(frozen=True)
class ServeSettings:
    """What the command line asks for; `keys` are secrets by their names."""

    models: Sequence[str | None]
    host: str = "127.0.0.1"
    port: int = 8000
    context: int = 4096
    slots: int = 4
    waiting: int = 100
    usual: SamplingParams = field(default_factory=SamplingParams)
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    at: ServedAt | None = None
    store: str | None = None  # its URL; without one nothing is kept


def serve(settings: ServeSettings, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `say` is told where. Raises `GuildError` for an address that
    needs a key and has none, a port that is taken, and a model that cannot be opened."""
    if not settings.keys and not _is_loopback(settings.host):
        raise GuildError(
            f"{settings.host} can be reached by others, and without a key anybody there could use "
            "this model",
            remedy=f"Set {KEYS_VARIABLE} to name=key, several with commas between, or leave --host "
            "out.",
        )
    listening = _listen(settings.host, settings.port)
    with listening:
        asyncio.run(_serve(settings, listening, say))


async def _serve(
    settings: ServeSettings, listening: socket.socket, say: Callable[[str], None]
) -> None:
    async with AsyncExitStack() as stack:
        fleet = Fleet()
        stack.push_async_callback(fleet.close)
        store = await open_store(settings.store, say) if settings.store else None
        asking = Asking(fleet, fair_queue(settings))
        app = make_app(asking, usual=settings.usual, keys=settings.keys, store=store)
        stack.push_async_callback(_close_store, app)
        for model in settings.models:
            found = locate(model, on_progress=say)
            opening = partial(
                open_model, found, context=settings.context, slots=settings.slots, at=settings.at
            )
            version = await fleet.open(opening)
            say(f"{version.name} is open as {version.id}.")
        host, port = listening.getsockname()[:2]
        say(f"OpenAI-compatible API at http://{f'[{host}]' if ':' in host else host}:{port}/v1")
        beside = [_look_after(fleet)]
        if settings.store and not store:
            beside.append(_open_store_later(settings.store, app))
        working = [asyncio.create_task(work) for work in beside]
        try:
            await web_server(app).serve(sockets=[listening])
        finally:
            for task in working:
                task.cancel()
            await asyncio.wait(working)


async def _open_store_later(url: str, app: FastAPI) -> None:
    app.state.store = await open_later(url)


async def _close_store(app: FastAPI) -> None:
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
    """The server of an app, `more` of whose settings are uvicorn's own."""
    usual = {"log_level": "warning", "timeout_graceful_shutdown": LEAVE_SECONDS}
    # h11 bounds what a client may send before its headers end; httptools does not.
    settings: dict[str, Any] = {
        "http": "h11",
        "ws": "none",
        "lifespan": "off",
        "server_header": False,
    }
    return uvicorn.Server(uvicorn.Config(app, **(settings | usual | more)))


async def _look_after(fleet: Fleet) -> None:
    """Open engines anew that have died; for ever. Why one does not open is logged once."""
    logged = ""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await fleet.look()
            logged = ""
        except Exception as error:  # whatever it is, it may be mended
            if str(error) != logged:
                log.error("an engine does not open: %s", error)
            logged = str(error)


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


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise GuildError(
            f"port {port} of {host} is not to be had: {error.strerror}",
            remedy="Another one: --port, 0 for any that is free.",
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
