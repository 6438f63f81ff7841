"""HTTP with a llama.cpp server on this machine: short calls that block, and streams of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any, TypeVar

from aiohttp import ClientError, ClientSession, ClientTimeout

from guildgpt.errors import EngineDied, EngineError

T = TypeVar("T")

TIMEOUT = 60.0  # seconds, for the short calls (`call`)
SIGN_SECONDS = 30.0  # between signs of life that are asked for while a stream is read
ALIVE = "/health"  # answered at once, however busy the model is
OK = 200


class Loopback:
    """One server on 127.0.0.1, and the key without which it answers nobody."""

    def __init__(self, address: str, key: str, fate: Callable[[], str | None] = lambda: None):
        """`address` as llama.cpp reports it: "http://127.0.0.1:PORT"; `fate` tells in words how
        the server ended, if it did."""
        self.address = address
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "Connection": "close",
        }
        self._fate = fate
        self._closed = False

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON answer to a POST of `body`, or to a GET without one; blocks.

        Safe to call from several threads. Raises `EngineError` when the server refuses, and
        `EngineDied` when it is gone or does not answer.
        """
        self._check_open()
        host = self.address.removeprefix("http://")
        try:
            with closing(HTTPConnection(host, timeout=TIMEOUT)) as connection:
                method, content = ("POST", _content(body)) if body else ("GET", None)
                connection.request(method, path, content, self._headers)
                reply = connection.getresponse()
                said = reply.read()
                if reply.status != OK:
                    raise _refusal(f"{reply.status} {reply.reason}", said)
                return json.loads(said)
        except (OSError, HTTPException, ValueError) as error:  # or the answer was cut off
            raise self._gone() from error

    async def check(self) -> None:
        """Raise `EngineDied` where the server gives no sign of life."""
        await asyncio.to_thread(self.call, ALIVE)

    async def events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The server-sent events of a streamed POST, as JSON objects; the last says `stop`.

        Closing the generator drops the connection, upon which llama.cpp stops working on it.
        Raises `EngineError` when the server refuses, or fails on the way, and `EngineDied` when it
        is gone, or gives no sign of life.
        """
        self._check_open()
        async with ClientSession(timeout=ClientTimeout(), headers=self._headers) as session:
            try:
                posting = session.post(self.address + path, data=_content(body))
                with closing(await self._unless_dead(posting)) as reply:
                    if reply.status != OK:
                        raise _refusal(f"{reply.status} {reply.reason}", await reply.read())
                    while line := await self._unless_dead(reply.content.readline()):
                        if line.startswith((b"data: {", b"error: {")):  # others are pings
                            event = json.loads(line.partition(b": ")[2])
                            if "error" in event or line.startswith(b"error"):
                                raise _error(event.get("error", event))
                            yield event
                            if event.get("stop"):
                                return
            except (OSError, ClientError) as error:
                raise self._gone() from error
        raise self._gone()

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
        return EngineDied("llama.cpp does not answer any more" + (f": {fate}" if fate else ""))


def _content(body: dict[str, Any]) -> bytes:
    # Half a surrogate pair becomes "?".
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _refusal(status: str, content: bytes) -> EngineError:
    """What the body of an answer says that is no success, or else its status."""
    try:
        return _error(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return EngineError(f"llama.cpp answered: HTTP/1.1 {status}")


def _error(error: dict[str, Any]) -> EngineError:
    """The request was wrong, or, with a status of 500 and above, the server is."""
    what = error.get("message", error)
    if error.get("code", 500) < 500:
        return EngineError(f"llama.cpp refused the request: {what}")
    return EngineDied(f"llama.cpp failed: {what}")
