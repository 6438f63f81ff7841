"""Stored responses as the official client sees them: whole and streamed, gone on from, deleted."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import BadRequestError, InternalServerError, NotFoundError, OpenAI
from openai.types.responses import Response, ResponseItem
from pydantic import TypeAdapter

from guildgpt.chat import CHATML, Message
from guildgpt.engines.engine import Chunk, SamplingParams
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.errors import StoreError
from guildgpt.serve import stored

from .conftest import Served, serving
from .slow import Slow
from .test_responses import EVENT, events

ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
KEYS = {"anna": "key-of-anna-0123456789", "ben": "key-of-ben-0123456789"}


@pytest.fixture(scope="module")
def storing(engine: LlamaCppEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("store") / "feedback.db"
    with serving(engine, store=f"sqlite:///{path}", keys=KEYS) as there:
        yield there


@pytest.fixture
def anna(storing: Served) -> OpenAI:
    return storing.client(KEYS["anna"])


@pytest.fixture
def ben(storing: Served) -> OpenAI:
    return storing.client(KEYS["ben"])


def ask(client: OpenAI, text: Any, **more: Any) -> Response:
    told = {"model": "guildgpt", "max_output_tokens": 12, "store": True}
    return client.responses.create(**{**told, "input": text, **more})


class Recording(Slow):
    """An engine that remembers its prompts."""

    def __init__(self, engine: LlamaCppEngine):
        super().__init__(engine.tokenizer, words=2)
        self.pause = 0
        self.prompts: list[list[int]] = []

    async def generate(
        self, ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        self.prompts.append([*ids])
        async for chunk in super().generate(ids, params):
            yield chunk


def test_a_response_goes_on_from_another(tmp_path: Path, engine: LlamaCppEngine) -> None:
    recording = Recording(engine)
    with serving(recording, store=f"sqlite:///{tmp_path / 'f.db'}") as there:
        client = there.client()
        first = ask(client, "What is TLS?", instructions="Be brief.")
        assert first.to_dict()["store"] is True
        second = ask(client, "Why?", previous_response_id=first.id)
        assert second.previous_response_id == first.id
        items: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "So?"}]
        third = ask(client, items, previous_response_id=second.id, instructions="Shout.")
    brief, shout = Message("system", "Be brief."), Message("system", "Shout.\n\nBe kind.")
    said = [
        Message("user", "What is TLS?"),
        Message("assistant", first.output_text),
        Message("user", "Why?"),  # the instructions were the first one's alone
        Message("assistant", second.output_text),
        Message("user", "So?"),
    ]
    assert third.output_text == "word word "
    assert recording.prompts == [
        CHATML.prompt(one, engine.tokenizer)
        for one in ([brief, *said[:1]], said[:3], [shout, *said])
    ]


def test_it_is_told_again_as_it_was(anna: OpenAI, storing: Served) -> None:
    made = ask(anna, "What is TLS?", metadata={"a": "b"}, top_logprobs=1)
    again = anna.responses.retrieve(made.id)
    assert again.to_dict() == made.to_dict()
    key = {"Authorization": f"Bearer {KEYS['anna']}"}
    raw = httpx.get(f"{storing.url}/v1/responses/{made.id}", headers=key)
    Response.model_validate_json(raw.content, strict=True)
    anna.responses.delete(made.id)
    with pytest.raises(NotFoundError):
        anna.responses.retrieve(made.id)
    with pytest.raises(NotFoundError):
        anna.responses.delete(made.id)


def test_a_stream_is_stored_before_its_end_is_told(anna: OpenAI) -> None:
    told = {"model": "guildgpt", "max_output_tokens": 4, "store": True}
    previous = None
    for _ in range(3):
        with anna.responses.create(
            **told, input="Go on.", previous_response_id=previous, stream=True
        ) as stream:
            last = list(stream)[-1]
        assert last.type in ("response.completed", "response.incomplete")
        final = last.response  # type: ignore[union-attr]
        assert final.previous_response_id == previous
        assert anna.responses.retrieve(final.id).to_dict() == final.to_dict()
        previous = final.id
    assert previous


def test_what_a_response_was_told(anna: OpenAI, storing: Served) -> None:
    items: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "What is TLS?"},
    ]
    first = ask(anna, items)
    second = ask(anna, "Why?", previous_response_id=first.id)
    url = f"{storing.url}/v1/responses/{second.id}/input_items?order=asc"
    key = {"Authorization": f"Bearer {KEYS['anna']}"}
    raw = httpx.get(url, headers=key).json()
    for item in raw["data"]:
        ITEM.validate_json(json.dumps(item), strict=True)
    assert [(one["role"], one["content"][0]["text"]) for one in raw["data"]] == [
        ("developer", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello!"),
        ("user", "What is TLS?"),
        ("assistant", first.output_text),
        ("user", "Why?"),
    ]
    ids = [one["id"] for one in raw["data"]]
    assert (raw["first_id"], raw["last_id"], raw["has_more"]) == (ids[0], ids[-1], False)
    assert len(set(ids)) == 6
    # Page by page, the newest first, as the client does by itself.
    paged = [one.id for one in anna.responses.input_items.list(second.id, limit=2)]
    assert paged == ids[::-1]
    rest = anna.responses.input_items.list(second.id, order="asc", after=ids[4])
    assert [one.id for one in rest.data] == [ids[5]]
    with pytest.raises(BadRequestError):
        anna.responses.input_items.list(second.id, after="msg_nobody")


def test_another_key_does_not_find_it(anna: OpenAI, ben: OpenAI) -> None:
    made = ask(anna, "A secret.")
    for look in (
        lambda: ben.responses.retrieve(made.id),
        lambda: ben.responses.delete(made.id),
        lambda: ben.responses.input_items.list(made.id),
    ):
        with pytest.raises(NotFoundError):
            look()
    with pytest.raises(BadRequestError) as refused:
        ask(ben, "What was it?", previous_response_id=made.id)
    assert refused.value.code == "previous_response_not_found"
    assert refused.value.param == "previous_response_id"
    assert anna.responses.retrieve(made.id)


def test_only_what_is_to_be_stored_is(anna: OpenAI) -> None:
    made = ask(anna, "Hi", store=None)
    assert made.to_dict()["store"] is False
    with pytest.raises(NotFoundError):
        anna.responses.retrieve(made.id)
    first = ask(anna, "Hi")
    second = ask(anna, "And?", previous_response_id=first.id, store=False)
    assert second.previous_response_id == first.id
    with pytest.raises(BadRequestError):
        ask(anna, "And?", previous_response_id=second.id)


def test_a_conversation_whose_beginning_is_deleted(anna: OpenAI) -> None:
    first = ask(anna, "Hi")
    second = ask(anna, "And?", previous_response_id=first.id)
    anna.responses.delete(first.id)
    assert anna.responses.retrieve(second.id).output_text == second.output_text
    with pytest.raises(BadRequestError):
        ask(anna, "And then?", previous_response_id=second.id)


def test_a_long_conversation(tmp_path: Path, engine: LlamaCppEngine) -> None:
    """Its earliest exchanges are left out of the prompt, as of any that is too long."""
    with serving(Recording(engine), store=f"sqlite:///{tmp_path / 'f.db'}") as there:
        client, previous = there.client(), None
        for number in range(60):
            previous = ask(client, f"Number {number}, please.", previous_response_id=previous).id
        items = list(client.responses.input_items.list(str(previous), limit=100))
        assert len(items) == 119
        assert client.responses.retrieve(str(previous)).usage.input_tokens < 512  # type: ignore


def test_more_than_is_stored(anna: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "LARGEST", 10)
    assert ask(anna, "0123456789")
    with pytest.raises(BadRequestError, match="10 characters are stored"):
        ask(anna, "0123456789.")


def test_without_a_store(served: Served, client: OpenAI) -> None:
    for wrong in ({"store": True}, {"store": False, "previous_response_id": "resp_1"}):
        with pytest.raises(BadRequestError, match="nothing can be stored here now") as refused:
            ask(client, "Hi", **wrong)
        assert refused.value.param in wrong
    with pytest.raises(BadRequestError):
        client.responses.retrieve("resp_1")


def test_a_store_that_is_gone_at_the_end(
    anna: OpenAI, storing: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told of a response that could be gone on from."""

    async def gone(*_row: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(type(storing.store.responses), "add", gone)
    with pytest.raises(InternalServerError, match="the store cannot be reached"):
        ask(anna, "Hi")
    with storing.client(KEYS["anna"]).responses.create(
        model="guildgpt", input="Hi", store=True, stream=True, max_output_tokens=4
    ) as stream:
        told = list(stream)
    assert told[-1].type == "response.failed"
    for event in told:
        EVENT.validate_json(event.to_json(), strict=True)


def test_every_event_says_that_it_is_stored(tmp_path: Path, engine: LlamaCppEngine) -> None:
    with serving(engine, store=f"sqlite:///{tmp_path / 'f.db'}") as there:
        for event in events(there, input="Hi", store=True, max_output_tokens=2):
            EVENT.validate_json(json.dumps(event), strict=True)
            if "response" in event:
                assert event["response"]["store"] is True
