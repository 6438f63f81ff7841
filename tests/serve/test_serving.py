"""Streams that are left, engines that die, callers who come all at once, and the command itself."""

from __future__ import annotations

import asyncio
import json
import socket

import httpx
import pytest
from openai import APIError, RateLimitError

from guildgpt.engines.llamacpp import LlamaCppEngine

from .conftest import serving
from .slow import Slow, until

ASKED = [{"role": "user", "content": "Tell me a story."}]
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
    b"Content-Type: application/json\r\n\r\n"
)


@pytest.fixture
def slow(engine: LlamaCppEngine) -> Slow:
    return Slow(engine.tokenizer)


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_stops_the_work(slow: Slow, stream: bool) -> None:
    body = json.dumps({"messages": ASKED, "stream": stream}).encode()
    with serving(slow) as served:
        port = int(served.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(HEAD % len(body) + body)
            until(lambda: slow.running == 1)
        until(lambda: slow.running == 0)
        assert slow.left == 1
        assert served.asking.queue.running == 0


def test_an_engine_that_dies_before_it_said_anything_is_asked_again(slow: Slow) -> None:
    slow.dies_after, slow.words = 0, 3
    with serving(slow) as served:
        reply = served.client().chat.completions.create(model="guildgpt", messages=ASKED)
        assert reply.choices[0].message.content == "word word word "


def test_a_stream_whose_engine_dies_ends_with_an_error_and_the_next_one_works(slow: Slow) -> None:
    slow.dies_after, slow.words = 2, 3
    with serving(slow) as served:
        url = f"{served.url}/v1/chat/completions"
        told = httpx.post(url, json={"messages": ASKED, "stream": True}, timeout=60).text
        last = json.loads(told.strip().splitlines()[-1].removeprefix("data: "))
        assert last["error"]["type"] == "server_error"
        assert "[DONE]" not in told
        assert told.count("word ") == 2
        client = served.client()
        slow.dies_after = 1
        stream = client.chat.completions.create(model="guildgpt", messages=ASKED, stream=True)
        with pytest.raises(APIError, match="ask again"):  # as the official client takes it
            list(stream)
        reply = client.chat.completions.create(model="guildgpt", messages=ASKED)
        assert reply.choices[0].message.content == "word word word "


def test_a_full_queue_says_when_to_come_back(slow: Slow) -> None:
    with serving(slow, workers=1, waiting=1) as served:
        url = f"{served.url}/v1/chat/completions"

        async def ask(client: httpx.AsyncClient) -> None:
            async with client.stream("POST", url, json={"messages": ASKED, "stream": True}) as one:
                async for _ in one.aiter_lines():
                    pass

        async def scenario() -> None:
            async with httpx.AsyncClient(timeout=60) as client:
                waiting = [asyncio.create_task(ask(client)) for _ in range(2)]
                while served.asking.queue.waiting < 1:
                    await asyncio.sleep(0.01)
                refused = await client.post(url, json={"messages": ASKED})
                assert refused.status_code == 429
                assert int(refused.headers["retry-after"]) >= 1
                assert refused.json()["error"]["type"] == "rate_limit_error"
                with pytest.raises(RateLimitError):
                    await asyncio.to_thread(
                        served.client().chat.completions.create, model="guildgpt", messages=ASKED
                    )
                for one in waiting:
                    one.cancel()
                await asyncio.wait(waiting)

        asyncio.run(scenario())
        until(lambda: served.asking.queue.running == 0)
        assert slow.running == 0


def test_many_streams_at_once_some_of_which_leave(slow: Slow) -> None:
    slow.words, slow.pause = 20, 0.001
    with serving(slow, workers=64, waiting=200) as served:
        url = f"{served.url}/v1/chat/completions"

        async def ask(client: httpx.AsyncClient, number: int) -> str:
            text = ""
            async with client.stream("POST", url, json={"messages": ASKED, "stream": True}) as one:
                async for line in one.aiter_lines():
                    if number % 4 == 0 and "word" in line:
                        return ""
                    if line.startswith("data: {"):
                        choice = json.loads(line.removeprefix("data: "))["choices"][0]
                        text += choice["delta"].get("content") or ""
            return text

        async def scenario() -> list[str]:
            limits = httpx.Limits(max_connections=64)
            async with httpx.AsyncClient(timeout=60, limits=limits) as client:
                return await asyncio.gather(*(ask(client, number) for number in range(64)))

        told = asyncio.run(scenario())
        assert told == ["" if number % 4 == 0 else "word " * 20 for number in range(64)]
        until(lambda: slow.running == 0)
        assert served.asking.queue.running == 0
