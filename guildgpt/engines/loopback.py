"""The little HTTP that talks to a llama.cpp server on this machine.

Both ends are ours and a few bytes apart, so this is a request, a status line, and the body until
the connection closes. A general HTTP client takes nearly as long to import as the model to load.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

from guildgpt.errors import EngineDied, EngineError

TIMEOUT = 60.0  # seconds, for the short calls (`call`)
SIGN_SECONDS = 30.0  # between signs of life that are asked for while a stream is read
ALIVE = "/health"  # answered at once, however busy the model is


class Loopback:
    """One server on 127.0.0.1, and the key without which it answers nobody."""

    def __init__(self, address: str, key: str, fate: Callable[[], str | None] = lambda: None):
        """`address` as llama.cpp reports it: "http://127.0.0.1:PORT"; `fate` tells in words how
        the server ended, if it did."""
        self.host, port = address.removeprefix("http://").rsplit(":", 1)
        self.port = int(port)
        self._key = key
        self._fate = fate
        self._streams: set[asyncio.StreamWriter] = set()
        self._closed = False

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON answer to a POST of `body`, or to a GET without one; blocks.

        Safe to call from several threads. Raises `EngineError` when the server refuses, and
        `EngineDied` when it is gone or does not answer.
        """
        self._check_open()
        try:
            with socket.create_connection((self.host, self.port), TIMEOUT) as connection:
                connection.sendall(self._request(path, body))
                with connection.makefile("rb") as reply:
                    head, end, content = reply.read().partition(b"\r\n\r\n")
        except OSError as error:
            raise self._gone() from error
        if not end:
            raise self._gone()
        _check_status(head, content)
        try:
            return json.loads(content)
        except ValueError as error:  # it was cut off
            raise self._gone() from error

    async def check(self) -> None:
        """Raise `EngineDied` where the server gives no sign of life."""
        await asyncio.to_thread(self.call, ALIVE)

    async def events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The server-sent events of a streamed POST, as JSON objects.

        Closing the generator drops the connection, upon which llama.cpp stops working on it.
        Raises `EngineError` when the server refuses, or fails on the way, and `EngineDied` when it
        is gone, or gives no sign of life.
        """
        self._check_open()
        try:
            reader, writer = await asyncio.open_connection(self.host, self.port)
        except OSError as error:
            raise self._gone() from error
        self._streams.add(writer)
        watching = asyncio.create_task(self._drop_when_dead(writer))
        try:
            writer.write(self._request(path, body))
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                _check_status(head, await reader.read())
            pending = b""
            while piece := await _chunk(reader):
                *lines, pending = (pending + piece).split(b"\n")
                for line in lines:
                    if line.startswith((b"data: {", b"error: {")):  # others are keep-alive pings
                        event = json.loads(line.partition(b": ")[2])
                        if "error" in event or line.startswith(b"error"):
                            raise _refused(event.get("error", event))
                        yield event
        except (OSError, asyncio.IncompleteReadError) as error:
            raise self._gone() from error
        finally:
            watching.cancel()
            self._streams.discard(writer)
            writer.transport.abort()  # at once: nothing is left to say

    async def _drop_when_dead(self, writer: asyncio.StreamWriter) -> None:
        """Drop a stream whose server gives no sign of life; silence alone may be a long prompt."""
        with suppress(EngineError):
            while True:
                await asyncio.sleep(SIGN_SECONDS)
                await self.check()
        writer.transport.abort()

    async def hang_up(self) -> None:
        """Drop all streams for good; whoever reads one gets `EngineDied`."""
        self._closed = True
        for writer in list(self._streams):
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    def _check_open(self) -> None:
        if self._closed:
            raise self._gone()

    def _gone(self) -> EngineDied:
        if self._closed:
            return EngineDied("the engine is closed")
        fate = self._fate()
        return EngineDied("llama.cpp does not answer any more" + (f": {fate}" if fate else ""))

    def _request(self, path: str, body: dict[str, Any] | None) -> bytes:
        text = "" if body is None else json.dumps(body, ensure_ascii=False)
        content = text.encode("utf-8", "replace")  # half a surrogate pair becomes "?"
        head = (
            f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\n"
            f"Host: {self.host}:{self.port}\r\n"
            f"Authorization: Bearer {self._key}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode() + content


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    """One chunk of a chunked HTTP body; empty at its end."""
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise asyncio.IncompleteReadError(line, None)
    size = int(line, 16)
    piece = await reader.readexactly(size)
    await reader.readexactly(2)  # the line end after every chunk, the empty one included
    return piece


def _check_status(head: bytes, content: bytes) -> None:
    if b" 200 " in head.split(b"\r\n", 1)[0]:
        return
    try:
        raise _refused(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        status = head.split(b"\r\n", 1)[0].decode("latin-1") or "no answer"
        raise EngineError(f"llama.cpp answered: {status}") from None


def _refused(error: dict[str, Any]) -> EngineError:
    """The request was wrong, or, with a status of 500 and above, the server is."""
    what = error.get("message", error)
    if error.get("code", 500) < 500:
        return EngineError(f"llama.cpp refused the request: {what}")
    return EngineDied(f"llama.cpp failed: {what}")
