"""HTTP with a server that runs a model: short calls that block, and streams of events."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, TypeVar
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, StreamReader
from aiohttp.http import HttpProcessingError

from guildgpt.errors import EngineDied, EngineError

T = TypeVar("T")

TIMEOUT = 60.0  # seconds, for the short calls (`call`)
SIGN_SECONDS = 30.0  # between signs of life that are asked for while a stream is read
HOUR = 3600
OK, NO_ENTRY, TOO_MANY, FAILED, UNAVAILABLE = 200, (401, 403), 429, 500, 503  # statuses of HTTP
DONE = b"data: [DONE]"
LONGEST_LINE = 2**17  # bytes of an event


_CUT = (OSError, ValueError, RecursionError)  # what comes is cut off, or is no JSON


class KeyRefused(EngineError):
    """The server answers nobody without a key, or with another one."""


class ServerBusy(EngineError):
    """The server takes no more at the moment; `seconds` is when to ask again, as it says."""

    def __init__(self, what: str, seconds: float):
        self.seconds = seconds
        super().__init__(what, remedy=f"Ask again in {seconds:.0f} seconds.")


class ServerLink:
    """One server, and the key without which it may answer nobody.

    `address` is "http://HOST:PORT", with https and a path where it has them; `name` is what errors
    call it, `alive` a path that it answers at once, however busy the model is. `fate` tells in
    words how the server ended, if it did.
    """

    def __init__(
        self,
        address: str,
        key: str | None,
        fate: Callable[[], str | None] = lambda: None,
        *,
        name: str = "llama.cpp",
        alive: str = "/health",
    ):
        self.address = address.rstrip("/")
        self._headers = {"Content-Type": "application/json", "Connection": "close"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self.key = key
        self._name = name
        self._alive = alive
        self._fate = fate
        self._closed = False

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON answer to a POST of `body`, or to a GET without one; blocks.

        Safe to call from several threads. Raises `EngineError` when the server refuses, is not
        trusted or answers no JSON, and `EngineDied` when it is gone or does not answer.
        """
        self._check_open()
        url = urlsplit(self.address)
        connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
        try:
            with closing(connect(url.netloc, timeout=TIMEOUT)) as connection:
                method, content = ("POST", _content(body)) if body else ("GET", None)
                connection.request(method, url.path + path, content, self._headers)
                reply = connection.getresponse()
                said = reply.read()
            if reply.status != OK:
                raise self._refusal(reply.status, reply.headers.get, said)
            if "json" not in (kind := reply.headers.get("Content-Type", "json")):
                raise EngineError(f"{self._name} answered {kind}, which is no JSON")
            return json.loads(said)
        except ssl.SSLError as error:
            raise EngineError(
                f"{self._name} cannot be trusted: "
                + getattr(error, "verify_message", str(error.reason)),
                remedy="Is its name right, and TLS spoken there? Put a certificate of your own "
                "into a file, and its path into the environment variable SSL_CERT_FILE.",
            ) from error
        except (*_CUT, HTTPException) as error:
            raise self._gone() from error

    async def check(self) -> None:
        """Raise `EngineDied` where the server gives no sign of life."""
        await asyncio.to_thread(self.call, self._alive)

    async def events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The server-sent events of a streamed POST, as JSON objects, up to `[DONE]`.

        Closing the generator drops the connection, upon which the server stops working on it: who
        has seen the last event of an answer does so. Raises `EngineError` when the server refuses,
        or fails on the way, and `EngineDied` when it is gone, or gives no sign of life.
        """
        self._check_open()
        async with ClientSession(timeout=ClientTimeout(), headers=self._headers) as session:
            try:
                posting = session.post(
                    self.address + path, data=_content(body), allow_redirects=False
                )
                with closing(await self._unless_dead(posting)) as reply:
                    if reply.status != OK:
                        said = await reply.read()
                        raise self._refusal(reply.status, reply.headers.get, said)
                    async for line in self._lines(reply.content):
                        if line.startswith((b"data: {", b"error: {")):  # others are pings
                            event = json.loads(line.partition(b": ")[2])
                            if "error" in event or line.startswith(b"error"):
                                raise self._error(event.get("error", event))
                            yield event
                        elif line.startswith(DONE):
                            return
            except (*_CUT, ClientError, HttpProcessingError) as error:
                raise self._gone() from error
        raise self._gone()

    async def _lines(self, content: StreamReader) -> AsyncGenerator[bytes, None]:
        """The lines of a stream, all that have come at once. Silence alone may be a long prompt:
        see `_unless_dead`, which a token has no time for. Raises ValueError where one does not
        end."""
        begun = b""
        while True:
            try:
                async with asyncio.timeout(SIGN_SECONDS):
                    block = await content.readany()
            except TimeoutError:
                await self.check()
                continue
            *lines, begun = (begun + block).split(b"\n")
            if len(begun) > LONGEST_LINE:
                raise ValueError("a line without an end")
            for line in lines:
                yield line
            if not block:
                yield begun
                return

    async def _unless_dead(self, reading: Awaitable[T]) -> T:
        """What was to be read. Silence alone may be a long prompt: the server is asked for a sign
        of life now and then. Raises `EngineDied` where it gives none."""
        task = asyncio.ensure_future(reading)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=SIGN_SECONDS)
                if not task.done():
                    await self.check()
            return task.result()
        finally:
            task.cancel()

    def close(self) -> None:
        """Make no more requests; who still reads a stream is told so when the server ends."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise self._gone()

    def _gone(self) -> EngineDied:
        if self._closed:
            return EngineDied("the engine is closed")
        fate = self._fate()
        return EngineDied(f"{self._name} does not answer any more" + (f": {fate}" if fate else ""))

    def _refusal(
        self, status: int, header: Callable[[str], str | None], said: bytes
    ) -> EngineError:
        """What the body of an answer says that is no success, or else its status."""
        after, elsewhere = header("Retry-After"), header("Location")
        if status == TOO_MANY or (status == UNAVAILABLE and after):
            seconds = int(after) if after and after.isdecimal() else 1  # or a date
            return ServerBusy(f"{self._name} takes no more at the moment", min(seconds, HOUR))
        try:
            error = json.loads(said)["error"]
        except (ValueError, LookupError, TypeError, RecursionError):
            error = f"HTTP status {status}" + (f", see {elsewhere}" if elsewhere else "")
        return self._error(error, status)

    def _error(self, error: Any, status: int = FAILED) -> EngineError:
        """The request was wrong, or, with a status of 500 and above, the server is."""
        if isinstance(error, dict):
            code, error = error.get("code"), error.get("message", error)
            status = code if isinstance(code, int) else status
        if status in NO_ENTRY:
            return KeyRefused(f"{self._name} refused the key: {error}")
        if status < FAILED:
            return EngineError(f"{self._name} refused the request: {error}")
        return EngineDied(f"{self._name} failed: {error}")


def _content(body: dict[str, Any]) -> bytes:
    # Half a surrogate pair becomes "?".
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
