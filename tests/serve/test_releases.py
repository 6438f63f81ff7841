"""The server obeys the releases in its store."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest
from engines.conftest import file_tokenizer  # noqa: F401 (a fixture)

from guildgpt.chat import FileTokenizer
from guildgpt.errors import EngineError
from guildgpt.talk import following

from .releasing import OWN, Releasing, StandIns, releasing, within
from .slow import until

ASKED = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture
def stand_ins(
    file_tokenizer: FileTokenizer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> StandIns:
    monkeypatch.setattr(following, "FOLLOW_SECONDS", 0.05)
    return StandIns(file_tokenizer)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "feedback.db"


def open_there(served: Releasing) -> list[str]:
    told = httpx.get(f"{served.url}/v1/models", timeout=60).json()["data"]
    return [one["id"] for one in told][1:]


def who(served: Releasing, model: str = "guildgpt") -> str:
    body = {"model": model, "messages": ASKED}
    reply = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=60).json()
    return str(reply["choices"][0]["message"]["content"]).split()[0]


def metric(served: Releasing, name: str) -> float:
    text = httpx.get(f"{served.url}/metrics", timeout=60).text
    [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[-1])


def test_without_a_release_the_newest_model_answers_until_there_is_one(
    stand_ins: StandIns, store: Path
) -> None:
    with releasing(stand_ins, store) as served:
        assert open_there(served) == [OWN.id]
        assert "Nothing is released in the store yet" in served.said[-1]
        assert metric(served, "guildgpt_release") == 0
        served.release(old=1)
        until(lambda: open_there(served) == [served.ids["old"]])
        assert who(served) == "old"
        ready = httpx.get(f"{served.url}/readyz", timeout=60).json()
        assert ready == {
            "ready": True,
            "versions": {served.ids["old"]: "ok"},
            "release": 1,
            "store": True,
        }
        assert metric(served, "guildgpt_release") == 1
        served.release(old=0.9, new=0.1)
        until(lambda: len(open_there(served)) == 2)
        assert who(served) == "old"  # whose share is the largest, where no conversation is named
        assert who(served, "new") == "new"
    known = within(served.store_url, lambda store: store.versions.all())
    assert {one.id: one.trouble for one in known} == {
        OWN.id: None,
        served.ids["old"]: None,
        served.ids["new"]: None,
    }


def test_a_release_goes_before_the_newest_model(stand_ins: StandIns, store: Path) -> None:
    with releasing(stand_ins, store) as served:
        served.release(old=1)
        until(lambda: served.asking.fleet.release == 1)
    with releasing(stand_ins, store) as again:
        assert open_there(again) == [served.ids["old"]]
        assert "Release 1 is served" in again.said[-1]
        assert len(stand_ins.wrote("own")) == 1  # by the first server alone


def test_models_that_are_named_stay(stand_ins: StandIns, store: Path) -> None:
    with releasing(stand_ins, store, "mine", "other") as served:
        assert "not followed" in served.said[-1]
        served.release(old=1)
        assert open_there(served) == ["mine@00000000", "other@00000000"]
        assert (who(served), who(served, "mine")) == ("other", "mine")
        assert metric(served, "guildgpt_release") == 0
        assert not stand_ins.wrote("old")
    known = within(served.store_url, lambda store: store.versions.all())
    assert {"mine@00000000", "other@00000000"} <= {one.id for one in known}


def test_a_version_that_does_not_start_is_left_out(stand_ins: StandIns, store: Path) -> None:
    stand_ins.broken["new"] = EngineError("the file is cut off")
    with releasing(stand_ins, store) as served:
        served.release(old=1)
        until(lambda: open_there(served) == [served.ids["old"]])
        served.release(new=1)
        until(lambda: served.models.following and served.models.following.warnings)
        assert who(served) == "old"
        # Mended, and released anew: nothing waits for a clock.
        del stand_ins.broken["new"]
        served.release(new=1)
        until(lambda: open_there(served) == [served.ids["new"]])
        assert who(served) == "new"


def test_a_conversation_stays_with_the_version_whose_share_it_is(
    stand_ins: StandIns, store: Path
) -> None:
    with releasing(stand_ins, store) as served:
        served.release(old=0.5, new=0.5)
        until(lambda: served.asking.fleet.release == 1)

        async def writer(conversation: str) -> str:
            from guildgpt.serve.asking import Piece

            answers = served.asking.answers(
                lambda model: [[1, 2]],
                lambda model, tokens: following.FIRST_ANSWER,
                n=1,
                version=None,
                caller="",
                conversation=conversation,
            )
            return "".join([one.chunk.text async for one in answers if isinstance(one, Piece)])

        async def both() -> None:
            first = [await writer(f"conversation {number}") for number in range(12)]
            again = [await writer(f"conversation {number}") for number in range(12)]
            assert first == again
            assert {one.split()[0] for one in first} == {"old", "new"}

        asyncio.run(both())


async def streamed(client: httpx.AsyncClient, url: str, leave_after: int | None) -> list[str]:
    """The lines of a stream, or as many as are read before its reader leaves."""
    lines: list[str] = []
    body = {"messages": ASKED, "stream": True}
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as stream:
        assert stream.status_code == 200
        async for line in stream.aiter_lines():
            if line:
                lines.append(line.removeprefix("data: "))
            if leave_after is not None and len(lines) > leave_after:
                break
    return lines


def written(lines: list[str]) -> tuple[set[str], set[str], list[str]]:
    """Who is said to have written a stream, whose words are in it, and how it ended."""
    events: list[dict[str, Any]] = [json.loads(line) for line in lines if line != "[DONE]"]
    choices = [choice for event in events for choice in event["choices"]]
    words = " ".join(choice["delta"].get("content") or "" for choice in choices).split()
    ends = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    return {event["model"] for event in events}, set(words), ends


def test_swaps_under_load_drop_no_stream_and_leave_nothing_behind(
    stand_ins: StandIns, store: Path
) -> None:
    """64 callers ask again and again, and every third leaves within its answer."""
    stand_ins.words = 12
    chance = random.Random(7)
    kept: list[list[str]] = []
    left: list[list[str]] = []
    with releasing(stand_ins, store, slots=32) as served:
        served.release(one=1)
        until(lambda: open_there(served) == [served.ids["one"]])
        over = asyncio.Event()

        async def caller(client: httpx.AsyncClient) -> None:
            while not over.is_set():
                after = chance.randrange(8) if chance.random() < 1 / 3 else None
                lines = await streamed(client, served.url, after)
                (kept if after is None else left).append(lines)

        async def swaps() -> None:
            for name in ("two", "one", "three", "two", "one"):
                seen = len(kept)
                while len(kept) < seen + 64:
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(served.release, **{name: 1})
                while list(served.asking.fleet.open_versions) != [served.ids[name]]:
                    await asyncio.sleep(0.01)
            over.set()

        async def scenario() -> None:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(timeout=120, limits=limits) as client:
                await asyncio.gather(swaps(), *(caller(client) for _ in range(64)))

        asyncio.run(scenario())
        until(lambda: not any(engine.running for engine in stand_ins.engines))
        until(lambda: served.asking.queue.running == served.asking.queue.waiting == 0)
        until(lambda: metric(served, "guildgpt_held_bytes") == 0)
        assert who(served) == "one"
        until(lambda: sum(engine.closed for engine in stand_ins.engines) == 6)
        assert [engine.closed for engine in stand_ins.engines] == [1] * 6 + [0]
    names = {id: name for name, id in served.ids.items()}
    for lines in kept:
        versions, words, ends = written(lines)
        assert lines[-1] == "[DONE]"
        assert ends == ["stop"]
        assert {names[id] for id in versions} == words
        assert len(words) == 1
    assert left
    assert {word for lines in kept for word in written(lines)[1]} == {"one", "two", "three"}


def test_an_engine_that_dies_under_many_streams_is_opened_anew_once(
    stand_ins: StandIns, store: Path
) -> None:
    """Each of its streams ends by an error; the new engine is nobody's to close."""
    stand_ins.words = 10**6
    with releasing(stand_ins, store, "mine", slots=16) as served:
        [dying] = stand_ins.engines

        async def scenario() -> list[list[str]]:
            async with httpx.AsyncClient(timeout=120) as client:
                streams = [
                    asyncio.create_task(streamed(client, served.url, None)) for _ in range(16)
                ]
                while dying.running < 16:
                    await asyncio.sleep(0.01)
                stand_ins.words = 3  # of those that are opened later
                dying.dead = True
                return await asyncio.gather(*streams)

        for lines in asyncio.run(scenario()):
            assert json.loads(lines[-1])["error"]["type"] == "server_error"
        assert who(served) == "mine"
        assert [engine.closed for engine in stand_ins.engines] == [1, 0]
        assert served.asking.queue.running == served.asking.queue.waiting == 0
