"""The server from its start to its end: keys, models, uvicorn."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from guildgpt.engines.engine import SamplingParams
from guildgpt.engines.served_at import ServedAt
from guildgpt.errors import GuildError
from guildgpt.model.locate import locate
from guildgpt.serve.app import make_app
from guildgpt.serve.asking import Asking
from guildgpt.talk.fleet import Fleet, open_model
from guildgpt.talk.waiting import FairQueue

log = logging.getLogger(__name__)
KEYS_VARIABLE = "GUILDGPT_SERVE_KEYS"
LEAST_KEY = 16  # characters
LOOK_SECONDS = 5.0  # between looks whether the engines live
LEAVE_SECONDS = 30  # for answers that are on their way when the server is stopped
# Where a proxy may stand whose word counts for who asked, and whether by https: no public address.
PROXIES = "127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"


@dataclass(frozen=True)
class ServeSettings:
    """What the command line asks for; `keys` are secrets by their names, and `public` the names
    that a proxy is called by."""

    models: Sequence[str | None]
    host: str = "127.0.0.1"
    port: int = 8000
    context: int = 4096
    slots: int = 4
    waiting: int = 100
    usual: SamplingParams = field(default_factory=SamplingParams)
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    at: ServedAt | None = None
    public: tuple[str, ...] = ()


def serve(settings: ServeSettings, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `say` is told where. Raises `GuildError` for an address that
    needs a key and has none, a port that is taken, and a model that cannot be opened."""
    reached = [*settings.public, *([] if _is_loopback(settings.host) else [settings.host])]
    if not settings.keys and reached:
        raise GuildError(
            f"{reached[0]} can be reached by others, and without a key anybody there could use "
            "this model",
            remedy=f"Set {KEYS_VARIABLE} to name=key, several with commas between, or leave "
            "--host and --public-name out.",
        )
    listening = _listen(settings.host, settings.port)
    with listening:
        asyncio.run(_serve(settings, listening, say))


async def _serve(
    settings: ServeSettings, listening: socket.socket, say: Callable[[str], None]
) -> None:
    fleet = Fleet()
    try:
        for model in settings.models:
            found = locate(model, on_progress=say)
            opening = partial(
                open_model, found, context=settings.context, slots=settings.slots, at=settings.at
            )
            version = await fleet.open(opening)
            say(f"{version.name} is open as {version.id}.")
        app = make_app(
            Asking(fleet, fair_queue(settings)),
            usual=settings.usual,
            keys=settings.keys,
            public=settings.public,
        )
        host, port = listening.getsockname()[:2]
        say(f"OpenAI-compatible API at http://{f'[{host}]' if ':' in host else host}:{port}/v1")
        looking = asyncio.create_task(_look_after(fleet))
        try:
            await web_server(app).serve(sockets=[listening])
        finally:
            looking.cancel()
    finally:
        await fleet.close()


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
        "forwarded_allow_ips": PROXIES,
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
