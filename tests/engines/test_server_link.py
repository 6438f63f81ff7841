"""A server that dies, fails or refuses in the middle of whatever it was asked."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest

from guildgpt.engines import server_link
from guildgpt.engines.server_link import ServerLink
from guildgpt.errors import EngineDied, EngineError

OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"content": "a"}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@contextmanager
def serving(reply: bytes, *, hang: bool = False) -> Iterator[ServerLink]:
    """A server that answers every request with these bytes, then closes, or says no more."""
    open_ones: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.recv(65536)
            connection.sendall(reply)
            if hang:
                open_ones.append(connection)
            else:
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve, daemon=True)
        thread.start()
        fate = "its process ended by SIGKILL"
        yield ServerLink(f"http://127.0.0.1:{listener.getsockname()[1]}", "key", lambda: fate)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in open_ones:
            one.close()


async def read(link: ServerLink) -> list[dict[str, Any]]:
    async with asyncio.timeout(60):
        return [event async for event in link.events("/completion", {})]


BROKEN = {
    "no word": b"",
    "half a head": b"HTTP/1.1 200",
    "half a body": b'HTTP/1.1 200 OK\r\n\r\n{"tokens": [1, 2',
    "no body": b"HTTP/1.1 200 OK\r\n\r\n",
    "its own failure": b'HTTP/1.1 500 Error\r\n\r\n{"error": {"code": 500, "message": "decode"}}',
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN)
def test_a_call_to_a_server_that_breaks_down(reply: bytes) -> None:
    with serving(reply) as link, pytest.raises(EngineDied):
        link.call("/tokenize", {"content": "a"})


STREAMS = {
    **BROKEN,
    "between two events": OK + chunk(EVENT),
    "within an event": OK + chunk(EVENT)[:-9],
    "within a size": OK + chunk(EVENT) + b"1",
    "a failure on the way": OK + chunk(b'error: {"code": 500, "message": "decode"}\n\n'),
}


@pytest.mark.parametrize("reply", STREAMS.values(), ids=STREAMS)
def test_a_stream_from_a_server_that_breaks_down(reply: bytes) -> None:
    with serving(reply) as link, pytest.raises(EngineDied):
        asyncio.run(read(link))


LAST = b"data: [DONE]\n\n"


def test_a_stream_that_was_read_leaves_nothing_open() -> None:
    """Not even where the server's own end comes after the last event."""
    complaints: list[dict[str, Any]] = []

    async def whole(link: ServerLink) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
        assert len(await read(link)) == 1
        gc.collect()

    with serving(OK + chunk(EVENT) + chunk(LAST), hang=True) as link:
        asyncio.run(whole(link))
    assert complaints == []


@pytest.mark.parametrize("kind", ["call", "stream"])
def test_a_refusal_is_no_death(kind: str) -> None:
    reply = b'HTTP/1.1 400 Bad\r\n\r\n{"error": {"code": 400, "message": "no such token"}}'

    def ask(link: ServerLink) -> object:
        return link.call("/tokenize", {}) if kind == "call" else asyncio.run(read(link))

    with serving(reply) as link, pytest.raises(EngineError, match="no such token") as raised:
        ask(link)
    assert not isinstance(raised.value, EngineDied)


def test_how_the_server_ended_is_said() -> None:
    with serving(b"") as link, pytest.raises(EngineDied, match="SIGKILL"):
        link.call("/props")


@pytest.mark.parametrize("reply", [b"", OK + chunk(EVENT)], ids=["before", "between events"])
def test_a_stream_ends_where_the_server_gives_no_sign(
    reply: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_link, "SIGN_SECONDS", 0.01)
    monkeypatch.setattr(server_link, "TIMEOUT", 0.1)
    with serving(reply, hang=True) as link, pytest.raises(EngineDied):
        asyncio.run(read(link))


def test_silence_alone_is_no_death(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long prompt keeps llama.cpp silent for minutes, and it answers that it lives."""
    monkeypatch.setattr(server_link, "SIGN_SECONDS", 0.01)
    asked: list[str] = []

    def healthy(self: ServerLink, path: str, body: dict[str, Any] | None = None) -> Any:
        asked.append(path)

    monkeypatch.setattr(ServerLink, "call", healthy)

    async def scenario(link: ServerLink) -> None:
        reading = asyncio.create_task(read(link))
        while len(asked) < 3:
            await asyncio.sleep(0.01)
        assert not reading.done()
        reading.cancel()
        await asyncio.wait({reading})

    with serving(OK, hang=True) as link:
        asyncio.run(scenario(link))
    assert set(asked) == {"/health"}
