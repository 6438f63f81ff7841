"""Who may ask: a key, an address and a page of our own, and a body of bounded length."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guildgpt.serve.problems import Problem

LOCAL = ("localhost", "127.0.0.1", "::1")
# What a proxy tells of whoever asked it: any of these, and the request is not this machine's own.
PASSED_ON = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
OPEN = ("/healthz", "/readyz")  # a load balancer has no key
LARGEST_BODY = 4 * 2**20  # bytes
_TOO_LONG = Problem(413, f"a request holds {LARGEST_BODY:,} bytes at most")


class Guard:
    """Refuses requests before anything reads them.

    `keys` are the keys by their names; without any, whoever reaches the address may ask: then
    `hosts` are the names that it may be called by, so that no page elsewhere can reach it by a
    name of its own. What a proxy passes on comes from elsewhere, whatever its name. A page that is
    not ours is refused in any case: ours is called as the request is, or by one of the `public`
    names, which a proxy may replace by another.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Mapping[str, str],
        hosts: tuple[str, ...] = LOCAL,
        public: tuple[str, ...] = (),
    ):
        self._app = app
        self._keys = dict(keys)
        self._hosts = hosts
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            scope.setdefault("state", {})["caller"] = self._caller(scope["path"], headers)
            body = await _body(headers, receive)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _again(body, receive), send)

    def _caller(self, path: str, headers: Headers) -> str:
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin and origin.partition("://")[2] not in (host, *self._public):
            raise Problem(403, "a page from elsewhere may not ask here", code="origin")
        if path in OPEN:
            return ""
        if not self._keys:
            if _name(host) not in self._hosts:
                raise Problem(403, "this server is not called by that name", code="host")
            if any(name in headers for name in PASSED_ON):
                raise Problem(403, "a proxy passed this on, and there are no keys", code="proxy")
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


async def _body(headers: Headers, receive: Receive) -> bytes | None:
    """The whole body, None where the client leaves before its end. Raises `Problem` where it is too
    long: it may say so, and it may come without a length."""
    said, body = headers.get("content-length", "0"), bytearray()
    if not said.isdecimal() or int(said) > LARGEST_BODY:
        raise _TOO_LONG
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
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
