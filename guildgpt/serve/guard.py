"""Who may ask: a key or the page of our own, an address, and a body of bounded length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guildgpt.errors import LimitReached
from guildgpt.serve.keyring import AT_THIS_MACHINE, NOBODY, Caller, KeyRing
from guildgpt.serve.metrics import Metrics
from guildgpt.serve.problems import Problem, problem_of
from guildgpt.serve.web.registry import is_web

LOCAL = ("localhost", "127.0.0.1", "::1")
OPEN = ("/healthz", "/readyz")  # a load balancer has no key
KEYLESS = ("invalid_api_key", "proxy")  # codes of what who has a key is not told
LARGEST_BODY = 4 * 2**20  # bytes
LARGEST_OF_PAGE = 512 * 2**10  # bytes: the longest question, of characters that take four each
MOST_HELD = 64 * 2**20  # bytes of all requests that are on their way together
AGAIN_SECONDS = 10  # until who found no room for a long request may try again
# What a proxy tells of whoever asked it: any of these, and the request is not this machine's own.
FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class Guard:
    """Refuses requests before anything reads them.

    `ring` holds the keys; without any, whoever sits at this machine may ask: then `hosts` are the
    names that it may be called by, so that no page elsewhere can reach it by a name of its own. A
    page that is not ours is refused in any case, and so is a key that has reached its limits. Ours
    is called as the request is, or by one of the public `names`, which a proxy may replace.

    The web page has accounts in place of keys: what is its own passes here by being asked for by
    itself, and its routes look at the session. `state.local` tells them whether who asks sits at
    this machine: without keys, by a name of loopback, and by no proxy's hand.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        ring: KeyRing,
        hosts: tuple[str, ...] = LOCAL,
        names: tuple[str, ...] = (),
        metrics: Metrics | None = None,
    ):
        self._app = app
        self._ring = ring
        self._hosts = hosts
        self._names = names
        self._metrics = metrics or Metrics()
        self._held = Held(MOST_HELD)
        self._metrics.held.set_function(lambda: self._held.bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = self._counted(send)
        if scope["path"].startswith("/api/"):
            send = _private(send)
        state = scope.setdefault("state", {})
        state["local"] = False  # until that is known
        try:
            headers = Headers(scope=scope)
            needed = scope["path"] in OPEN or await self._is_needed(scope, headers)
            caller = await self._caller(scope, headers, needed)
            if scope["method"] == "POST" and scope["path"].startswith("/v1/"):
                await self._ring.take(caller)
            state["caller"], state["holder"] = caller.name, caller
            state["local"] = not needed and _at_this_machine(scope, headers)
            largest = LARGEST_OF_PAGE if is_web(scope["path"]) else LARGEST_BODY
            with self._held.by(caller.name or _from_where(scope)) as hold:
                body = await _body(headers, receive, hold, largest)
                if body is not None:
                    await self._app(scope, _again(body, receive), send)
        except LimitReached as limit:
            await problem_of(limit).response()(scope, receive, send)
        except Problem as problem:
            response: Response | None = None
            if problem.body["error"]["code"] in KEYLESS:
                # A person who mistyped an address has no use for a key.
                response = await scope["app"].state.pages.lost(Request(scope))
            await (response or problem.response())(scope, receive, send)

    def _counted(self, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(str(message["status"])).inc()
            await send(message)

        return counted

    async def _is_needed(self, scope: Scope, headers: Headers) -> bool:
        """Whether who asks needs a key. Raises `Problem` where nobody can say."""
        needed = await self._ring.is_needed()
        if needed is None and not _at_this_machine(scope, headers):
            raise _not_yet()
        return bool(needed)

    async def _caller(self, scope: Scope, headers: Headers, needed: bool) -> Caller:
        path, origin = scope["path"], headers.get("origin")
        if origin and origin.partition("://")[2] not in (headers.get("host"), *self._names):
            raise _elsewhere()
        if path in OPEN:
            return NOBODY
        if not needed:
            if name_of(headers.get("host", "")) not in self._hosts:
                raise Problem(403, "this server is not called by that name", code="host")
            if not is_web(path):
                if not _at_this_machine(scope, headers):
                    raise _passed_on()
                return AT_THIS_MACHINE
        if is_web(path):
            _check_page(scope["method"], path, headers)
            return NOBODY
        given = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if caller := await self._ring.caller(given):
            return caller
        raise Problem(
            401,
            "Incorrect API key provided." if given else "You didn't provide an API key.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


# Each is made anew: one that is raised again keeps what it was raised in, bodies among it.


def _elsewhere() -> Problem:
    return Problem(403, "a page from elsewhere may not ask here", code="origin")


def _passed_on() -> Problem:
    return Problem(403, "a proxy passed this on, and there are no keys", code="proxy")


def _not_yet() -> Problem:
    return Problem(
        503,
        "the store that holds the keys is not open yet: ask again",
        headers={"Retry-After": str(AGAIN_SECONDS)},
    )


def _too_long(largest: int) -> Problem:
    return Problem(413, f"a request holds {largest:,} bytes at most")


def _check_page(method: str, path: str, headers: Headers) -> None:
    """Raise `Problem` for what our page would not send: whoever is signed in has a browser that
    other pages may try to use. That a page comes from here, browsers say in two ways, of which old
    ones know one; JSON is a kind that no form can send."""
    if not path.startswith("/api/"):
        return
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise _elsewhere()
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


def _from_where(scope: Scope) -> tuple[str, ...]:
    """Who asks without a key, as far as their address tells: of IPv6, where one has as many as one
    likes, by its network's half."""
    given = (scope.get("client") or ("",))[0]
    try:
        address = ip_address(given)
    except ValueError:
        return ("", given)
    if address.version == 6:
        return ("", str(address.ipv4_mapped or ip_network((address, 64), strict=False)))
    return ("", given)


def name_of(host: str) -> str | None:
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
    _by_caller: Counter[Hashable] = field(default_factory=Counter)

    @contextmanager
    def by(self, caller: Hashable) -> Iterator[Callable[[int], None]]:
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


def _private(send: Send) -> Send:
    """Answers that are one person's: no cache keeps them, and no other page embeds them."""

    async def private(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("Cache-Control", "no-store")
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        await send(message)

    return private


async def _body(
    headers: Headers, receive: Receive, hold: Callable[[int], None], largest: int
) -> bytes | None:
    """The whole body, None where the client leaves before its end; `hold` is told of each part.
    Raises `Problem` where it is too long: it may say so, and it may come without a length."""
    said, body = headers.get("content-length", "0"), bytearray()
    if not said.isdecimal() or int(said) > largest:
        raise _too_long(largest)
    while (message := await receive())["type"] == "http.request":
        part = message.get("body", b"")
        hold(len(part))
        body += part
        if len(body) > largest:
            raise _too_long(largest)
        if not message.get("more_body"):
            return bytes(body)
    return None


def _again(body: bytes, receive: Receive) -> Receive:
    """`receive` as if the body had not been read yet."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again
