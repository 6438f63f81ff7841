"""Answers in OpenAI's forms, whole and as events of a stream.

What clients index must be there though it is null: `logprobs`, `refusal`, `content`; `usage` in the
chunks of a stream that ends with it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fastapi.sse import format_sse_event

from guildgpt.engines.engine import Chunk, StopReason
from guildgpt.serve.asking import Begun, Piece
from guildgpt.serve.problems import problem_of
from guildgpt.serve.requests import ChatRequest, CompletionRequest

FINISH: dict[StopReason, str] = {
    "eos": "stop",
    "stop": "stop",
    "length": "length",
    "cancelled": "stop",
}
Json = dict[str, Any]


@dataclass
class Form:
    """One kind of reply: its id, its objects' names, and how a choice is written: `whole(text,
    finish_reason, logprobs)` of a whole answer, `part` of a stream's chunk, `first` of the chunk
    that a stream begins with where there is one. `logprobs(tokens, start)` writes log-probabilities
    of tokens whose text begins at a character of the answer; None where nobody asked for them.
    `with_ids`: a choice tells its token ids; `named_by_id`: so do log-probabilities.
    """

    prefix: str
    whole_object: str
    part_object: str
    whole: Callable[[str, str | None, Json | None], Json]
    part: Callable[[str, str | None, Json | None], Json]
    first: Json | None
    logprobs: Callable[[Sequence[Token], int], Json] | None
    with_ids: bool = False
    named_by_id: bool = False
    id: str = field(init=False)
    created: int = field(init=False)

    def __post_init__(self) -> None:
        self.id, self.created = f"{self.prefix}-{secrets.token_hex(12)}", int(time.time())

    def ids(self, ids: Sequence[int]) -> Json:
        """What a choice tells of its ids."""
        return {"token_ids": list(ids)} if self.with_ids else {}

    def tokens(self, begun: Begun, chunk: Chunk) -> list[Token]:
        """The log-probabilities of a chunk, with texts in place of ids. Of a character that several
        tokens write an engine may know the last one's alone: it stands for all of them."""
        decode = begun.model.engine.tokenizer.decode
        alone = len(chunk.logprobs) == 1

        def name(id: int, text: str | None = None) -> str:
            if self.named_by_id:
                return f"token_id:{id}"
            return decode([id]) if text is None else text

        return [
            Token(
                name(one.id, chunk.text if alone else None),
                one.logprob,
                tuple((name(id), value) for id, value in one.top),
            )
            for one in chunk.logprobs
        ]

    def head(self, kind: str, version: str) -> Json:
        """What every object begins with."""
        return {"id": self.id, "object": kind, "created": self.created, "model": version}


@dataclass(frozen=True, slots=True)
class Token:
    """A token's text and log-probability, and those of the most probable ones in its place."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass
class _Answer:
    """One answer as far as it has come."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    finish: str | None = None
    told: list[Token] = field(default_factory=list)

    def add(self, chunk: Chunk, told: Sequence[Token]) -> None:
        self.text += chunk.text
        self.ids += chunk.ids
        self.told += told
        self.finish = FINISH[chunk.stop] if chunk.stop else None


async def whole(form: Form, answers: AsyncGenerator[Begun | Piece, None]) -> Json:
    """A reply in one piece; raises what `answers` raises."""
    found: dict[int, _Answer] = {}
    begun = None
    async with aclosing(answers):
        async for one in answers:
            if isinstance(one, Begun):
                begun = one
                continue
            assert begun
            found.setdefault(one.index, _Answer()).add(one.chunk, form.tokens(begun, one.chunk))
    assert begun
    choices = []
    for index, said in sorted(found.items()):
        logprobs = form.logprobs(said.told, 0) if form.logprobs else None
        choice = form.whole(said.text, said.finish, logprobs) | form.ids(said.ids)
        choices.append({"index": index} | choice)
    tokens = sum(len(said.ids) for said in found.values())
    head = form.head(form.whole_object, begun.model.version.id)
    return head | {"choices": choices, "usage": usage(begun.prompt_tokens, tokens)}


async def events(
    form: Form, answers: AsyncGenerator[Begun | Piece, None], *, with_usage: bool
) -> AsyncIterator[bytes]:
    """A reply as server-sent events; a failure on the way is the last of them."""
    found: dict[int, _Answer] = {}
    begun = None

    def event(choices: list[Json], spent: Json | None = None) -> bytes:
        assert begun
        body = form.head(form.part_object, begun.model.version.id) | {"choices": choices}
        return _event(body | ({"usage": spent} if with_usage else {}))

    try:
        async with aclosing(answers):
            async for one in answers:
                if isinstance(one, Begun):
                    begun = one
                    continue
                assert begun
                index = {"index": one.index}
                if one.index not in found:
                    found[one.index] = _Answer()
                    if form.first is not None:
                        yield event([index | form.first])
                answer, told = found[one.index], form.tokens(begun, one.chunk)
                if one.chunk.text or one.chunk.ids:
                    written = form.logprobs(told, len(answer.text)) if form.logprobs else None
                    choice = form.part(one.chunk.text, None, written) | form.ids(one.chunk.ids)
                    yield event([index | choice])
                answer.add(one.chunk, told)
                if answer.finish:
                    yield event([index | form.part("", answer.finish, None)])
    except Exception as error:
        yield _event(problem_of(error).body)
        return
    if with_usage and begun:
        tokens = sum(len(one.ids) for one in found.values())
        yield event([], usage(begun.prompt_tokens, tokens))
    yield b"data: [DONE]\n\n"


def usage(prompt: int, completion: int) -> Json:
    """What a reply took, in tokens."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def chat_form(asked: ChatRequest) -> Form:
    """The reply of /v1/chat/completions."""

    def message(text: str, finish: str | None, logprobs: Json | None) -> Json:
        said = {"role": "assistant", "content": text, "refusal": None}
        return {"message": said, "finish_reason": finish, "logprobs": logprobs}

    def delta(text: str, finish: str | None, logprobs: Json | None) -> Json:
        said = {"content": text} if finish is None else {}
        return {"delta": said, "finish_reason": finish, "logprobs": logprobs}

    return Form(
        "chatcmpl",
        "chat.completion",
        "chat.completion.chunk",
        message,
        delta,
        delta("", None, None) | {"delta": {"role": "assistant", "content": "", "refusal": None}},
        _chat_logprobs if asked.logprobs else None,
    )


def text_form(asked: CompletionRequest) -> Form:
    """The reply of /v1/completions."""

    def choice(text: str, finish: str | None, logprobs: Json | None) -> Json:
        return {"text": text, "finish_reason": finish, "logprobs": logprobs}

    return Form(
        "cmpl",
        "text_completion",
        "text_completion",
        choice,
        choice,
        None,
        None if asked.logprobs is None else _text_logprobs,
        with_ids=bool(asked.return_token_ids),
        named_by_id=bool(asked.return_tokens_as_token_ids),
    )


def _chat_logprobs(told: Sequence[Token], start: int) -> Json:
    def written(text: str, logprob: float) -> Json:
        return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}

    content = [
        written(one.text, one.logprob) | {"top_logprobs": [written(*other) for other in one.top]}
        for one in told
    ]
    return {"content": content, "refusal": None}


def _text_logprobs(told: Sequence[Token], start: int) -> Json:
    lengths = [len(one.text) for one in told]
    return {
        "tokens": [one.text for one in told],
        "token_logprobs": [one.logprob for one in told],
        "top_logprobs": [dict(one.top) for one in told],
        "text_offset": [start + sum(lengths[:place]) for place in range(len(lengths))],
    }


def _event(body: Json) -> bytes:
    return format_sse_event(data_str=json.dumps(body, ensure_ascii=False))
