"""What hostile or clumsy clients do to the server as a whole."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import httpx
import pytest

from guildgpt.chat import CHATML
from guildgpt.engines.engine import Chunk, SamplingParams, TokenLogprob
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.engines.server_link import ServerBusy
from guildgpt.errors import EngineError
from guildgpt.model.version import Version
from guildgpt.serve import replies
from guildgpt.serve.asking import Asking, Begun
from guildgpt.serve.problems import Problem
from guildgpt.talk.fleet import Fleet, OpenedModel
from guildgpt.talk.waiting import FairQueue

from .conftest import Served, serving
from .slow import Slow, until

ASKED = [{"role": "user", "content": "Tell me a story."}]
HALF = "\ud83c"


def post(served: Served, path: str, body: object, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{served.url}/v1/{path}",
        content=json.dumps(body),
        headers={"Content-Type": "application/json"} | headers,
        timeout=120,
    )


def line_to(served: Served, body: object, path: str = "completions") -> socket.socket:
    """A connection that has asked and reads next to nothing."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect(("127.0.0.1", int(served.url.rpartition(":")[2])))
    said = json.dumps(body).encode()
    head = f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    line.sendall(f"{head}Content-Length: {len(said)}\r\n\r\n".encode() + said)
    return line


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"messages": ASKED, "model": HALF}),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"type": HALF}]}]}),
        ("responses", {"input": "a", "metadata": {HALF: 1}}),
        ("responses", {"input": "a", "previous_response_id": HALF}),
    ],
)
def test_half_a_surrogate_is_told_back(served: Served, path: str, body: object) -> None:
    reply = post(served, path, body)
    assert 400 <= reply.status_code < 500
    assert reply.json()["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
def test_half_a_surrogate_is_in_the_reply(served: Served, stream: bool) -> None:
    asked = {"input": "a", "instructions": HALF, "max_output_tokens": 16, "stream": stream}
    reply = post(served, "responses", asked)
    assert reply.status_code == 200
    last = reply.text.strip().splitlines()[-1].removeprefix("data: ")
    told = json.loads(last)
    assert (told["response"] if stream else told)["instructions"] == HALF


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ([True], "prompt.0"),
        ([1.0], "prompt.0"),
        ([5, -1], "prompt.1"),
        ([2**31], "prompt.0"),
        ([10**6], None),
        ([[5], [False]], "prompt.1.0"),
        ([5, "a"], "prompt.1"),
        ([], "prompt"),
        ([[]], "prompt"),
    ],
)
def test_ids_that_are_none(served: Served, prompt: object, param: str | None) -> None:
    reply = post(served, "completions", {"prompt": prompt, "max_tokens": 1})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


@pytest.mark.parametrize("field", ["max_tokens", "top_k", "seed"])
def test_numbers_beyond_any_machines(served: Served, field: str) -> None:
    body = {"prompt": "a", "stop": " ", "max_tokens": 2} | {field: 10**30}
    reply = post(served, "completions", body)
    assert reply.status_code == 200
    assert sum(reply.json()["usage"].values()) <= 2 * 512


@pytest.mark.parametrize("value", ["Infinity", "NaN", "1e300", "1e-300", "9" * 5000])
def test_a_penalty_that_is_none(served: Served, value: str) -> None:
    body = f'{{"prompt": "a", "max_tokens": 1, "repetition_penalty": {value}}}'
    reply = httpx.post(
        f"{served.url}/v1/completions",
        content=body,
        headers={"Content-Type": "application/json"},
    )
    assert reply.status_code == 400
    assert "llama.cpp" not in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [{"Host": "["}, {"Host": "[::1"}, {"Host": ":80"}, {"Origin": "http://["}, {"Origin": "["}],
)
def test_addresses_that_are_none(served: Served, headers: dict[str, str]) -> None:
    assert post(served, "completions", {"prompt": "a"}, **headers).status_code == 403


@pytest.mark.parametrize("head", [b"X: " + b"a" * 10**6, b"X: a\r\n" * 10**5])
def test_headers_without_an_end(served: Served, head: bytes) -> None:
    port = int(served.url.rpartition(":")[2])
    line = socket.create_connection(("127.0.0.1", port))
    with line, pytest.raises(ConnectionError):  # it does not take them all
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + head * 100)


def test_a_stream_is_kept_by_nobody(served: Served) -> None:
    reply = post(served, "completions", {"prompt": "a", "max_tokens": 1, "stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-accel-buffering"] == "no"


def test_who_does_not_read_keeps_nobody_waiting_and_is_left(
    engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Slow(engine.tokenizer, words=20_000)
    writer.pause = 0
    with serving(writer, workers=1) as served:
        unread = line_to(served, {"prompt": "a", "stream": True})
        until(lambda: writer.running == 1)
        until(lambda: writer.running == 0)
        writer.words = 2
        assert post(served, "completions", {"prompt": "a"}).status_code == 200
        unread.close()
        writer.words = 20_000
        monkeypatch.setattr(replies, "UNREAD_SECONDS", 0.05)
        with line_to(served, {"prompt": "a", "stream": True}) as unread:
            until(lambda: writer.running == 1)
            until(lambda: writer.running == 0)
            time.sleep(1)  # more than it may take
            got = b""
            while piece := unread.recv(2**20):
                got += piece
        assert b"word" in got
        assert b"[DONE]" not in got


def test_who_waits_and_leaves_gives_up_the_place(engine: LlamaCppEngine) -> None:
    writer = Slow(engine.tokenizer)
    with serving(writer, workers=1) as served:
        with line_to(served, {"prompt": "a", "stream": True}):
            until(lambda: writer.running == 1)
            for stream in (True, False):
                with line_to(served, {"prompt": "a", "stream": stream}):
                    until(lambda: served.asking.queue.waiting == 1)
                until(lambda: served.asking.queue.waiting == 0)
        until(lambda: served.asking.queue.running == 0)
        assert writer.left == 1


def test_questions_that_come_before_the_answer(engine: LlamaCppEngine) -> None:
    """Several on one connection, unasked for (pipelining), get their answers in order."""
    writer = Slow(engine.tokenizer, words=1)
    with serving(writer) as served, line_to(served, {"prompt": "a", "stream": True}) as line:
        said = b'{"prompt": "a"}'
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
        line.sendall(head + b"\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        got = b""
        while piece := line.recv(2**16):
            got += piece
    assert got.count(b"HTTP/1.1 200 OK") == 3
    assert got.index(b"[DONE]") < got.index(b"total_tokens") < got.index(b'{"status": "ok"}')


def test_five_hundred_wait_and_all_are_answered(engine: LlamaCppEngine) -> None:
    writer = Slow(engine.tokenizer, words=2)
    writer.pause = 0.001
    with serving(writer, workers=4, waiting=500) as served:

        async def scenario() -> list[int]:
            limits = httpx.Limits(max_connections=500)
            async with httpx.AsyncClient(timeout=120, limits=limits) as client:
                url = f"{served.url}/v1/completions"
                asked = (client.post(url, json={"prompt": "a"}) for _ in range(500))
                return [one.status_code for one in await asyncio.gather(*asked)]

        assert asyncio.run(scenario()) == [200] * 500
        assert served.asking.queue.running == served.asking.queue.waiting == 0


class Telling(Slow):
    """Tells log-probabilities of tokens whose texts take a while to be looked up."""

    tokenizer: Any

    class Sluggish:
        def __init__(self, others: Any):
            self.others, self.asked = others, 0

        def decode(self, ids: Sequence[int]) -> str:
            self.asked += 1
            time.sleep(0.2)
            return "a"

        def __getattr__(self, name: str) -> Any:
            return getattr(self.others, name)

    def __init__(self, tokenizer: Any):
        super().__init__(self.Sluggish(tokenizer))

    async def generate(
        self, ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        top = tuple((number, -1.0) for number in range(20))
        told = () if params.logprobs is None else (TokenLogprob(5, -1.0, top),)
        yield Chunk((5,), "word", logprobs=told)
        yield Chunk((), "", "eos")


def test_looking_up_tokens_stalls_nobody(engine: LlamaCppEngine) -> None:
    writer = Telling(engine.tokenizer)
    asked = {"prompt": "a", "logprobs": 20, "stream": True}
    with serving(writer) as served, line_to(served, asked):
        until(lambda: writer.tokenizer.asked)
        assert post(served, "completions", {"prompt": "a"}).status_code == 200
        assert writer.tokenizer.asked < 20


class Refusing(Slow):
    """Says no."""

    def __init__(self, tokenizer: Any, error: Exception):
        super().__init__(tokenizer)
        self.error = error

    async def generate(
        self, ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        raise self.error
        yield Chunk((), "")


def test_a_full_server_behind_this_one_and_a_refusal(engine: LlamaCppEngine) -> None:
    writer = Refusing(engine.tokenizer, ServerBusy("it takes no more", 7))
    with serving(writer) as served:
        reply = post(served, "completions", {"prompt": "a", "stream": True})
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "7")
        writer.error = EngineError("no such token", where="/secret/model.gguf")
        reply = post(served, "completions", {"prompt": "a"})
        assert (reply.status_code, "secret" in reply.text) == (400, False)


def test_an_engine_that_dies_at_once_begins_one_response(engine: LlamaCppEngine) -> None:
    writer = Slow(engine.tokenizer, words=3)
    writer.dies_after = 0
    with serving(writer) as served:
        told = post(served, "responses", {"input": "a", "stream": True}).text
    assert told.count("event: response.created") == 1
    assert told.count("event: response.completed") == 1


async def test_a_swap_drops_no_answer(engine: LlamaCppEngine) -> None:
    fleet = Fleet()

    def opening(name: str) -> OpenedModel:
        version = Version(f"{name}@1", name, "", "1")
        return OpenedModel(Slow(engine.tokenizer, words=5), CHATML, lambda: version)

    for name in ("old", "new"):
        await fleet.open(partial(opening, name))
    asking = Asking(fleet, FairQueue(4, per_user=9, bound=9, rate=99, clock=time.monotonic))

    def answers(version: str | None) -> AsyncGenerator[Any, None]:
        return asking.answers(
            lambda model: [[5]],
            lambda model, tokens: SamplingParams(),
            n=1,
            version=asking.version(version),
            caller="anna",
        )

    async with aclosing(answers("old")) as told:
        begun = await anext(told)
        assert isinstance(begun, Begun)
        assert begun.model.version.id == "old@1"
        late = answers("old")
        await fleet.retire("old@1")
        assert len([piece async for piece in told]) == 6
    with pytest.raises(Problem, match="no model `old@1` here, but guildgpt, new@1"):
        await anext(late)
    assert (await anext(answers(None))).model.version.id == "new@1"
    await fleet.close()
