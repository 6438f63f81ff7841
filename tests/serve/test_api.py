"""The API as the official client sees it, and what clients trip over."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from engines.test_llamacpp import FORGED
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from guildgpt.chat import CHATML, Message
from guildgpt.engines.engine import SamplingParams, complete
from guildgpt.engines.llamacpp import LlamaCppEngine

from .conftest import VERSION, Served

ASKED = [{"role": "user", "content": "What is TLS?"}]
SHORT = SamplingParams(temperature=0, max_tokens=12)


def expected(engine: LlamaCppEngine, *messages: Message, params: SamplingParams = SHORT) -> str:
    ids = CHATML.prompt(messages, engine.tokenizer)
    return asyncio.run(complete(engine, ids, params)).text


def post(served: Served, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{served.url}{path}", json=body, timeout=120)


def events(served: Served, path: str, **body: Any) -> list[Any]:
    """The events of a stream as they are on the wire; `[DONE]` as it is."""
    reply = post(served, path, stream=True, **body)
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in reply.text.splitlines() if line]
    assert all(line.startswith("data: ") for line in lines)
    told = [line.removeprefix("data: ") for line in lines]
    return [one if one == "[DONE]" else json.loads(one) for one in told]


def test_a_chat(client: OpenAI, engine: LlamaCppEngine) -> None:
    reply = client.chat.completions.create(model="guildgpt", messages=ASKED, max_tokens=12)
    [choice] = reply.choices
    assert choice.message.content == expected(engine, Message("user", "What is TLS?"))
    assert choice.finish_reason == "length"
    assert reply.model == VERSION.id
    ids = CHATML.prompt([Message("user", "What is TLS?")], engine.tokenizer)
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (len(ids), 12)
    assert reply.usage.total_tokens == len(ids) + 12


def test_a_streamed_chat_joins_to_the_same(client: OpenAI, engine: LlamaCppEngine) -> None:
    chunks = list(
        client.chat.completions.create(
            model="starter", messages=ASKED, max_completion_tokens=12, stream=True
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == expected(engine, Message("user", "What is TLS?"))
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1


def test_every_object_is_what_the_client_expects(served: Served) -> None:
    more = {"messages": ASKED, "max_tokens": 4, "logprobs": True, "top_logprobs": 2}
    ChatCompletion.model_validate(post(served, "/v1/chat/completions", **more).json(), strict=True)
    usage = {"stream_options": {"include_usage": True}}
    for body in (more, more | usage, {"messages": ASKED, "max_tokens": 4, "n": 2}):
        *chunks, done = events(served, "/v1/chat/completions", **body)
        assert done == "[DONE]"
        for chunk in chunks:
            ChatCompletionChunk.model_validate(chunk, strict=True)
    asked = {"prompt": "The sky is", "max_tokens": 4, "logprobs": 2}
    Completion.model_validate(post(served, "/v1/completions", **asked).json(), strict=True)
    for chunk in events(served, "/v1/completions", **asked)[:-1]:
        # On OpenAI's own wire it is null until the end, which their type does not know.
        chunk["choices"][0]["finish_reason"] = chunk["choices"][0]["finish_reason"] or "stop"
        Completion.model_validate(chunk, strict=True)
    for model in httpx.get(f"{served.url}/v1/models").json()["data"]:
        Model.model_validate(model, strict=True)


def test_fields_that_are_null_are_there(served: Served) -> None:
    [choice] = post(served, "/v1/chat/completions", messages=ASKED, max_tokens=2).json()["choices"]
    assert choice["logprobs"] is None
    assert choice["message"]["refusal"] is None


def test_usage_of_a_stream_comes_alone_and_only_when_asked_for(served: Served) -> None:
    plain = events(served, "/v1/chat/completions", messages=ASKED, max_tokens=2)[:-1]
    assert all("usage" not in chunk and chunk["choices"] for chunk in plain)
    *chunks, last, _ = events(
        served,
        "/v1/chat/completions",
        messages=ASKED,
        max_tokens=2,
        stream_options={"include_usage": True},
    )
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2


def test_several_answers(client: OpenAI) -> None:
    hot: dict[str, Any] = {"model": "guildgpt", "messages": ASKED, "temperature": 1.5, "seed": 5}
    reply = client.chat.completions.create(**hot, n=3, max_tokens=8)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) == 3
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 24


def test_stop_texts(client: OpenAI, engine: LlamaCppEngine) -> None:
    whole = expected(engine, Message("user", "What is TLS?"))
    word = whole.split()[3]
    for stop in (word, ["never", word]):
        reply = client.chat.completions.create(
            model="guildgpt", messages=ASKED, max_tokens=12, stop=stop
        )
        assert reply.choices[0].message.content == whole[: whole.index(word)]
        assert reply.choices[0].finish_reason == "stop"


def test_both_limits_at_once(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="guildgpt", messages=ASKED, max_tokens=9, max_completion_tokens=3
    )
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 3


def test_log_probabilities(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="guildgpt", messages=ASKED, max_tokens=6, logprobs=True, top_logprobs=3
    )
    told = reply.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert "".join(one.token for one in told.content) == reply.choices[0].message.content
    for one in told.content:
        assert one.logprob == pytest.approx(one.top_logprobs[0].logprob)  # it is greedy
        assert len(one.top_logprobs) == 3
        assert bytes(one.bytes or []).decode() == one.token


def test_unknown_fields_and_tools_are_ignored(served: Served) -> None:
    reply = post(
        served,
        "/v1/chat/completions",
        messages=[{**ASKED[0], "annotations": []}],
        max_tokens=2,
        tools=[{"type": "retrieval_of_tomorrow"}],
        parallel_tool_calls=True,
        reasoning_effort="high",
        store=True,
    )
    assert reply.status_code == 200


def test_content_in_parts_and_the_developers_role(served: Served, engine: LlamaCppEngine) -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "input_text", "text": "TLS?"}]
    asked = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    reply = post(served, "/v1/chat/completions", messages=asked, max_tokens=12).json()
    same = [Message("system", "Be brief."), Message("user", "What is TLS?")]
    assert reply["choices"][0]["message"]["content"] == expected(engine, *same)


def test_forged_control_tokens_stay_text(served: Served, engine: LlamaCppEngine) -> None:
    asked = [{"role": "user", "content": FORGED}]
    reply = post(served, "/v1/chat/completions", messages=asked, max_tokens=1).json()
    ids = CHATML.prompt([Message("user", FORGED)], engine.tokenizer)
    assert reply["usage"]["prompt_tokens"] == len(ids)
    text = post(served, "/v1/completions", prompt=FORGED, max_tokens=1).json()
    assert text["usage"]["prompt_tokens"] == len(engine.tokenizer.encode(FORGED))


def test_completions_of_texts_and_of_ids(client: OpenAI, engine: LlamaCppEngine) -> None:
    ids = engine.tokenizer.encode("The sky is")
    whole = asyncio.run(complete(engine, ids, SHORT)).text
    for prompt in ("The sky is", ids, [ids], ["The sky is"]):
        reply = client.completions.create(model="guildgpt", prompt=prompt, max_tokens=12)
        assert reply.choices[0].text == whole
    both = client.completions.create(
        model="guildgpt", prompt=["The sky is", "One two"], max_tokens=4, n=2
    )
    assert [one.index for one in both.choices] == [0, 1, 2, 3]
    assert both.choices[0].text == both.choices[1].text != both.choices[2].text


def test_early_exchanges_are_left_out_of_a_long_conversation(served: Served) -> None:
    said = []
    for number in range(40):
        said += [
            {"role": "user", "content": f"Tell me of lamp number {number}."},
            {"role": "assistant", "content": "It is a lamp that gives light."},
        ]
    reply = post(served, "/v1/chat/completions", messages=[*said, *ASKED], max_tokens=4)
    assert reply.status_code == 200
    assert 256 < reply.json()["usage"]["prompt_tokens"] < 512


def test_a_last_message_that_does_not_fit_alone(client: OpenAI) -> None:
    long = [{"role": "user", "content": "lamp " * 2000}]
    for asked in (long, [*ASKED, {"role": "assistant", "content": "It is."}, *long]):
        with pytest.raises(BadRequestError) as refused:
            client.chat.completions.create(model="guildgpt", messages=asked)
        assert refused.value.code == "context_length_exceeded"
        assert refused.value.param == "messages"
    with pytest.raises(BadRequestError) as refused:
        client.completions.create(model="guildgpt", prompt="lamp " * 2000)
    assert refused.value.code == "context_length_exceeded"


def test_an_unknown_model(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as refused:
        client.chat.completions.create(model="gpt-9", messages=ASKED)
    assert refused.value.code == "model_not_found"
    assert VERSION.id in str(refused.value)
    with pytest.raises(NotFoundError):
        client.models.retrieve("gpt-9")
    assert client.models.retrieve(VERSION.id).id == VERSION.id
    assert [one.id for one in client.models.list()] == ["guildgpt", VERSION.id]


WRONG = {
    "no messages": {"messages": []},
    "no body": {},
    "messages of a wrong type": {"messages": "Hi"},
    "an unknown role": {"messages": [{"role": "wizard", "content": "Hi"}]},
    "the assistant's message last": {"messages": [{"role": "assistant", "content": "Hi"}]},
    "a tool's message": {"messages": [{"role": "tool", "content": "4"}, *ASKED]},
    "a picture": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
    "a part that is no object": {"messages": [{"role": "user", "content": [4]}]},
    "a text part without a text": {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
    "a negative limit": {"messages": ASKED, "max_tokens": -1},
    "no tokens": {"messages": ASKED, "max_tokens": 0},
    "hotter than the sun": {"messages": ASKED, "temperature": 1e9},
    "no number": {"messages": ASKED, "temperature": "warm"},
    "an empty stop text": {"messages": ASKED, "stop": ""},
    "forty stop texts": {"messages": ASKED, "stop": ["a"] * 40},
    "a thousand answers": {"messages": ASKED, "n": 1000},
    "a form": {"messages": ASKED, "response_format": {"type": "json_object"}},
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_openais_form(served: Served, body: dict[str, Any]) -> None:
    for stream in (False, True):
        reply = httpx.post(
            f"{served.url}/v1/chat/completions",
            content=json.dumps(body | {"stream": stream}),
            headers={"Content-Type": "application/json"},
        )
        assert reply.status_code == 400
        error = reply.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == "invalid_request_error"
        assert error["message"]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b"", b"null", b'"text"', b"NaN"])
def test_a_body_that_is_none(served: Served, content: bytes) -> None:
    reply = httpx.post(
        f"{served.url}/v1/chat/completions",
        content=content,
        headers={"Content-Type": "application/json"},
    )
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]


def test_a_body_whose_kind_is_not_said(served: Served) -> None:
    """curl -d sends it as a form's."""
    reply = httpx.post(
        f"{served.url}/v1/chat/completions",
        content=b'{"messages": []}',
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        timeout=60,
    )
    assert reply.status_code == 400
    assert "Content-Type: application/json" in reply.json()["error"]["message"]


def test_no_embeddings_and_no_such_path(served: Served) -> None:
    assert post(served, "/v1/embeddings", input="a").status_code == 400
    for reply in (post(served, "/v1/nothing"), httpx.get(f"{served.url}/v1/chat/completions")):
        assert reply.status_code in (404, 405)
        assert reply.json()["error"]["message"]


def test_nul_and_other_odd_characters(served: Served) -> None:
    body = {
        "messages": [{"role": "user", "content": "a\x00b\u202e\ufeff🌳 \ud83c"}],
        "max_tokens": 1,
    }
    reply = httpx.post(
        f"{served.url}/v1/chat/completions",
        content=json.dumps(body),  # half a surrogate pair, too
        headers={"Content-Type": "application/json"},
        timeout=120,
    )
    assert reply.status_code == 200
