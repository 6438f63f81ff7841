"""Who may ask: a key or the page of our own, an address, and a body of bounded length."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guildgpt.serve.problems import Problem
from guildgpt.serve.web.registry import is_web

LOCAL = ("localhost", "127.0.0.1", "::1")
OPEN = ("/healthz", "/readyz")  # a load balancer has no key
LARGEST_BODY = 4 * 2**20  # bytes
FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_ELSEWHERE = Problem(403, "a page from elsewhere may not ask here", code="origin")
_TOO_LONG = Problem(413, f"a request holds {LARGEST_BODY:,} bytes at most")


class Guard:
    """Refuses requests before anything reads them.

    `keys` are the keys by their names; without any, whoever reaches the address may ask: then
    `hosts` are the names that it may be called by, so that no page elsewhere can reach it by a
    name of its own. A page that is not ours is refused in any case.

    The web page has accounts in place of keys: what is its own passes here by being asked for by
    itself, and its routes look at the session. `state.local` tells them whether who asks sits at
    this machine: without keys, by a name of loopback, and by no proxy's hand.
    """

    def __init__(self, app: ASGIApp, *, keys: Mapping[str, str], hosts: tuple[str, ...] = LOCAL):
        self._app = app
        self._keys = dict(keys)
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            state = scope.setdefault("state", {})
            state["caller"] = self._caller(scope, headers)
            state["local"] = not self._keys and _at_this_machine(scope, headers)
            body = await _body(headers, receive)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _again(body, receive), send)

    def _caller(self, scope: Scope, headers: Headers) -> str:
        path, origin = scope["path"], headers.get("origin")
        if origin and origin.partition("://")[2] != headers.get("host"):
            raise _ELSEWHERE
        if path in OPEN:
            return ""
        if not self._keys:
            if _name(headers.get("host", "")) not in self._hosts:
                raise Problem(403, "this server is not called by that name", code="host")
            if not is_web(path):
                return "local"
        if is_web(path):
            _check_page(scope["method"], path, headers)
            return ""
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


def _check_page(method: str, path: str, headers: Headers) -> None:
    """Raise `Problem` for what our page would not send: whoever is signed in has a browser that
    other pages may try to use. That a page comes from here, browsers say in two ways, of which old
    ones know one; JSON is a kind that no form can send."""
    if not path.startswith("/api/"):
        return
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise _ELSEWHERE
    if method in ("GET", "HEAD"):
        return
    if "origin" not in headers:
        raise Problem(403, "what changes something is asked for by the page alone", code="origin")
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Problem(415, "the page sends JSON", code="json")


def _at_this_machine(scope: Scope, headers: Headers) -> bool:
    """Whether the other end is this machine, and is nobody who hands on what others ask."""
    client = scope.get("client")
    try:
        near = client is not None and ip_address(client[0]).is_loopback
    except ValueError:
        return False
    return near and not any(name in headers for name in FORWARDED)


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
