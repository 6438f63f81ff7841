"""/v1/responses as the official client sees it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from guildgpt.chat import Message
from guildgpt.engines.llamacpp import LlamaCppEngine

from .conftest import VERSION, Served, serving
from .test_api import expected
from .test_serving import Slow

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
LOGPROBS = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}


def events(served: Served, **body: Any) -> list[dict[str, Any]]:
    """The events of a stream; each is named as its type says."""
    reply = httpx.post(f"{served.url}/v1/responses", json=body | {"stream": True}, timeout=120)
    assert reply.status_code == 200
    told = []
    for block in reply.text.strip().split("\n\n"):
        name, data = block.splitlines()
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        told.append(event)
    return told


def test_a_text_is_answered(client: OpenAI, engine: LlamaCppEngine) -> None:
    reply = client.responses.create(model="guildgpt", input="What is TLS?", max_output_tokens=12)
    assert reply.output_text == expected(engine, Message("user", "What is TLS?"))
    assert reply.status == "incomplete"
    assert reply.incomplete_details is not None
    assert reply.incomplete_details.reason == "max_output_tokens"
    assert reply.model == VERSION.id
    assert reply.usage is not None
    assert reply.usage.output_tokens == 12
    assert reply.to_dict()["store"] is False


def test_instructions_and_items(client: OpenAI, engine: LlamaCppEngine) -> None:
    items: Any = [
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello!", "annotations": []}],
        },
        {"role": "user", "content": [{"type": "input_text", "text": "What is TLS?"}]},
    ]
    reply = client.responses.create(
        model="guildgpt", instructions="Be brief.", input=items, max_output_tokens=12
    )
    said = [
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello!"),
        Message("user", "What is TLS?"),
    ]
    assert reply.output_text == expected(engine, *said)


# What the Open Responses specification of 2026-04-24 asks to be there in every response.
REQUIRED = (
    "id object created_at completed_at status incomplete_details model previous_response_id "
    "instructions output error tools tool_choice truncation parallel_tool_calls text top_p "
    "presence_penalty frequency_penalty top_logprobs temperature reasoning usage "
    "max_output_tokens max_tool_calls store background service_tier metadata safety_identifier "
    "prompt_cache_key"
)


@pytest.mark.parametrize(
    "said",
    [
        [{"role": "user", "content": "Say hello in exactly 3 words."}],
        [{"role": "system", "content": "Talk like a pirate."}, {"role": "user", "content": "Hi"}],
        [
            {"role": "user", "content": "My name is Alice."},
            {"role": "assistant", "content": "Hello Alice!"},
            {"role": "user", "content": "What is my name?"},
        ],
    ],
    ids=["one message", "a system message", "several turns"],
)
def test_open_responses_fields_are_all_there(served: Served, said: list[dict[str, Any]]) -> None:
    """Its compliance suite asks so, whole and streamed; calls of tools and pictures it asks for,
    too, and this model has none."""
    body = {"input": [{"type": "message", **one} for one in said], "temperature": 0}
    whole = httpx.post(f"{served.url}/v1/responses", json=body, timeout=120).json()
    told = events(served, **body)
    for response in (whole, told[0]["response"], told[-1]["response"]):
        assert [name for name in REQUIRED.split(" ") if name not in response] == []
    for ended in (whole, told[-1]["response"]):
        completed = ended["status"] == "completed"
        assert completed or ended["incomplete_details"]["reason"] == "max_output_tokens"
        assert (ended["completed_at"] is not None) == completed
        assert ended["output"][0]["content"][0]["text"]
    assert told[0]["response"]["completed_at"] is None


def test_every_object_is_what_the_client_expects(served: Served) -> None:
    body = {"input": "What is TLS?", "max_output_tokens": 4, "metadata": {"a": "b"}} | LOGPROBS
    reply = httpx.post(f"{served.url}/v1/responses", json=body, timeout=120)
    Response.model_validate_json(reply.content, strict=True)
    for event in events(served, **body):
        EVENT.validate_json(json.dumps(event), strict=True)


def test_a_stream_tells_the_same_in_order(client: OpenAI, served: Served) -> None:
    told = events(served, input="What is TLS?", max_output_tokens=12)
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    deltas = [one for one in told if one["type"] == "response.output_text.delta"]
    assert [one["type"] for one in told if one not in deltas] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    text = "".join(one["delta"] for one in deltas)
    whole = client.responses.create(model="guildgpt", input="What is TLS?", max_output_tokens=12)
    assert text == whole.output_text
    last = told[-1]["response"]
    assert last["output"][0]["content"][0]["text"] == text
    assert last["usage"]["output_tokens"] == 12
    assert len({one["response"]["id"] for one in told if "response" in one}) == 1


def test_the_clients_own_stream(client: OpenAI) -> None:
    with client.responses.stream(model="guildgpt", input="What is TLS?") as stream:
        said = "".join(one.delta for one in stream if one.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.output_text == said
    assert final.status in ("completed", "incomplete")


def test_log_probabilities(client: OpenAI) -> None:
    reply = client.responses.create(
        model="guildgpt",
        input="What is TLS?",
        max_output_tokens=4,
        include=["message.output_text.logprobs"],
        top_logprobs=2,
    )
    [part] = reply.output[0].content  # type: ignore[union-attr]
    assert "".join(one.token for one in part.logprobs) == reply.output_text  # type: ignore
    assert all(len(one.top_logprobs) == 2 for one in part.logprobs)  # type: ignore


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": []},
        {"input": "Hi", "previous_response_id": "resp_1"},
        {"input": "Hi", "text": {"format": {"type": "json_schema"}}},
        {"input": [{"type": "function_call_output", "call_id": "1", "output": "4"}]},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        {"input": "Hi", "max_output_tokens": 0},
        {"input": "lamp " * 3000},
    ],
    ids=[
        *("nothing", "no items", "what was stored", "a form", "a tool", "a reference", "a picture"),
        *("no tokens", "too long"),
    ],
)
def test_what_is_wrong_is_said(client: OpenAI, body: dict[str, Any]) -> None:
    for stream in (False, True):
        with pytest.raises(BadRequestError):
            client.post("/responses", body=body | {"stream": stream}, cast_to=dict[str, Any])


def test_an_engine_that_dies_on_the_way_fails_the_response(engine: LlamaCppEngine) -> None:
    slow = Slow(engine.tokenizer, words=5)
    slow.dies_after = 2
    with serving(slow) as served:
        told = events(served, input="Hi")
        for event in told:
            EVENT.validate_json(json.dumps(event), strict=True)
        assert told[-1]["type"] == "response.failed"
        assert told[-1]["response"]["status"] == "failed"
        assert told[-1]["response"]["error"]["code"] == "server_error"
