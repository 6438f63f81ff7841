"""Who may ask: a key, an address and a page of our own, and a body of bounded length."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guildgpt.serve.metrics import Metrics
from guildgpt.serve.problems import Problem

LOCAL = ("localhost", "127.0.0.1", "::1")
OPEN = ("/healthz", "/readyz")  # a load balancer has no key
LARGEST_BODY = 4 * 2**20  # bytes
MOST_HELD = 64 * 2**20  # bytes of all requests that are on their way together
AGAIN_SECONDS = 10  # until who found no room for a long request may try again
_TOO_LONG = Problem(413, f"a request holds {LARGEST_BODY:,} bytes at most")


class Guard:
    """Refuses requests before anything reads them.

    `keys` are the keys by their names; without any, whoever reaches the address may ask: then
    `hosts` are the names that it may be called by, so that no page elsewhere can reach it by a
    name of its own. A page that is not ours is refused in any case.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Mapping[str, str],
        hosts: tuple[str, ...] = LOCAL,
        metrics: Metrics | None = None,
    ):
        self._app = app
        self._keys = dict(keys)
        self._hosts = hosts
        self._metrics = metrics or Metrics()
        self._held = Held(MOST_HELD)
        self._metrics.held.set_function(lambda: self._held.bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = self._counted(send)
        try:
            headers = Headers(scope=scope)
            caller = self._caller(scope["path"], headers)
            scope.setdefault("state", {})["caller"] = caller
            with self._held.by(caller) as hold:
                body = await _body(headers, receive, hold)
                if body is not None:
                    await self._app(scope, _again(body, receive), send)
        except Problem as problem:
            await problem.response()(scope, receive, send)

    def _counted(self, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(str(message["status"])).inc()
            await send(message)

        return counted

    def _caller(self, path: str, headers: Headers) -> str:
        origin = headers.get("origin")
        if origin and origin.partition("://")[2] != headers.get("host"):
            raise Problem(403, "a page from elsewhere may not ask here", code="origin")
        if path in OPEN:
            return ""
        if not self._keys:
            if _name(headers.get("host", "")) not in self._hosts:
                raise Problem(403, "this server is not called by that name", code="host")
            return "local"
        given = headers.get("authorization", "").removeprefix("Bearer ").strip()
        for name, key in self._keys.items():
            if hmac.compare_digest(given.encode(), key.encode()):
                return name
        raise Problem(
            401,
            "Incorrect API key provided." if given else "You didn't provide an API key.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _name(host: str) -> str | None:
    """The name in a `Host` header, None where it has none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # a bracket too many
        return None


@dataclass(eq=False)
class Held:
    """What requests on their way take of memory, which is bounded: 500 may wait, and each may be
    long. A caller may hold as much as they leave free for others, so that nobody is shut out by
    one alone."""

    most: int
    bytes: int = 0
    _by_caller: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def by(self, caller: str) -> Iterator[Callable[[int], None]]:
        """Counts the bytes of one request until the block ends. Raises `Problem` where there is no
        room for them."""
        mine = 0

        def hold(more: int) -> None:
            nonlocal mine
            if self._by_caller[caller] + more > self.most - self.bytes:
                raise Problem(
                    429,
                    "too many long requests are on their way: ask again later",
                    code="rate_limit",
                    headers={"Retry-After": str(AGAIN_SECONDS)},
                )
            mine += more
            self.bytes += more
            self._by_caller[caller] += more

        try:
            yield hold
        finally:
            self.bytes -= mine
            self._by_caller[caller] -= mine
            if not self._by_caller[caller]:
                del self._by_caller[caller]


async def _body(headers: Headers, receive: Receive, hold: Callable[[int], None]) -> bytes | None:
    """The whole body, None where the client leaves before its end; `hold` is told of each part.
    Raises `Problem` where it is too long: it may say so, and it may come without a length."""
    said, body = headers.get("content-length", "0"), bytearray()
    if not said.isdecimal() or int(said) > LARGEST_BODY:
        raise _TOO_LONG
    while (message := await receive())["type"] == "http.request":
        part = message.get("body", b"")
        hold(len(part))
        body += part
        if len(body) > LARGEST_BODY:
            raise _TOO_LONG
        if not message.get("more_body"):
            return bytes(body)
    return None


def _again(body: bytes, receive: Receive) -> Receive:
    """`receive` as if the body had not been read yet."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again
