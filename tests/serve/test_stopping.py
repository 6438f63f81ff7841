"""The server is stopped while answers are on their way."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from engines.conftest import file_tokenizer  # noqa: F401 (a fixture)

from guildgpt.chat import FileTokenizer
from guildgpt.serve import run

from .releasing import StandIns, releasing

ASKED = [{"role": "user", "content": "Tell me a story."}]


@pytest.fixture
def endless(file_tokenizer: FileTokenizer) -> StandIns:  # noqa: F811
    return StandIns(file_tokenizer, words=10**6)


async def test_answers_that_outlast_the_grace_end_by_an_error_each_in_its_form(
    endless: StandIns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are written, and those that wait; whole ones with a status of their own."""
    monkeypatch.setattr(run, "LEAVE_SECONDS", 0)
    with releasing(endless, tmp_path / "feedback.db", "mine", slots=2) as served:
        begun = asyncio.Semaphore(0)

        async def stream(path: str, body: dict[str, object]) -> list[str]:
            lines = []
            async with client.stream("POST", f"/v1/{path}", json=body | {"stream": True}) as one:
                if one.status_code != 200:
                    return [(await one.aread()).decode()]
                async for line in one.aiter_lines():
                    lines.append(line)
                    begun.release()
            return [line.removeprefix("data: ") for line in lines if line]

        async with httpx.AsyncClient(base_url=served.url, timeout=120) as client:
            chat = asyncio.create_task(stream("chat/completions", {"messages": ASKED}))
            response = asyncio.create_task(stream("responses", {"input": "Tell me a story."}))
            for _ in range(60):  # both are on their way
                await begun.acquire()
            waiting = asyncio.create_task(stream("chat/completions", {"messages": ASKED}))
            whole = asyncio.create_task(client.post("/v1/completions", json={"prompt": "The"}))
            while served.asking.queue.waiting < 2:
                await asyncio.sleep(0.01)
            served.stop()
            *_, last = await chat
            assert json.loads(last)["error"]["message"] == "the server is stopped: ask again"
            *_, last = await response
            assert json.loads(last)["type"] == "response.failed"
            [refused] = await waiting
            assert json.loads(refused)["error"]["type"] == "server_error"
            assert (await whole).status_code == 503
    assert all(engine.closed == 1 and not engine.running for engine in endless.engines)
