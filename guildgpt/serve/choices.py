"""Replies of chat and text completions: choices, whole and as events of a stream.

What clients index must be there though it is null: `logprobs`, `refusal`, `content`; `usage` in the
chunks of a stream that ends with it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from guildgpt.engines.engine import Chunk, StopReason
from guildgpt.serve.asking import Begun
from guildgpt.serve.problems import problem_of
from guildgpt.serve.replies import Answer, Answers, Json, Token, event_of, logprob_of, tokens_of
from guildgpt.serve.requests import ChatRequest, CompletionRequest

FINISH: dict[StopReason, str] = {
    "eos": "stop",
    "stop": "stop",
    "length": "length",
    "cancelled": "stop",
}


@dataclass
class ChoicesReply:
    """One kind of reply: its id, its objects' names, and how a choice is written: `choice(text,
    finish_reason, logprobs)` of a whole answer, `part` of a stream's chunk, `first` of the chunk
    that a stream begins with where there is one. `logprobs(tokens, start)` writes log-probabilities
    of tokens whose text begins at a character of the answer; None where nobody asked for them.
    `with_ids`: a choice tells its token ids; `named_by_id`: so do log-probabilities;
    `with_usage`: a stream ends with what it took.
    """

    prefix: str
    whole_object: str
    part_object: str
    choice: Callable[[str, str | None, Json | None], Json]
    part: Callable[[str, str | None, Json | None], Json]
    first: Json | None
    logprobs: Callable[[Sequence[Token], int], Json] | None
    with_ids: bool = False
    named_by_id: bool = False
    with_usage: bool = False
    id: str = field(init=False)
    created: int = field(init=False)

    def __post_init__(self) -> None:
        self.id, self.created = f"{self.prefix}-{secrets.token_hex(12)}", int(time.time())

    def _ids(self, ids: Sequence[int]) -> Json:
        """What a choice tells of its ids."""
        return {"token_ids": list(ids)} if self.with_ids else {}

    async def whole(self, answers: Answers) -> Json:
        """A reply in one piece; raises what `answers` raises."""
        found: dict[int, Answer] = {}
        begun = None
        async with aclosing(answers):
            async for one in answers:
                if isinstance(one, Begun):
                    begun = one
                    continue
                assert begun
                told = await self._tokens(begun, one.chunk)
                found.setdefault(one.index, Answer()).add(one.chunk, told)
        assert begun
        choices = []
        for index, said in sorted(found.items()):
            logprobs = self.logprobs(said.told, 0) if self.logprobs else None
            choice = self.choice(said.text, said.stop and FINISH[said.stop], logprobs) | self._ids(
                said.ids
            )
            choices.append({"index": index} | choice)
        tokens = sum(len(said.ids) for said in found.values())
        head = self._head(self.whole_object, begun.model.version.id)
        return head | {"choices": choices, "usage": usage(begun.prompt_tokens, tokens)}

    async def events(self, answers: Answers) -> AsyncIterator[bytes]:
        """A reply as server-sent events; a failure on the way is the last of them."""
        found: dict[int, Answer] = {}
        begun = None

        def event(choices: list[Json], spent: Json | None = None) -> bytes:
            assert begun
            body = self._head(self.part_object, begun.model.version.id) | {"choices": choices}
            return event_of(body | ({"usage": spent} if self.with_usage else {}))

        try:
            async with aclosing(answers):
                async for one in answers:
                    if isinstance(one, Begun):
                        begun = one
                        continue
                    assert begun
                    index = {"index": one.index}
                    if one.index not in found:
                        found[one.index] = Answer()
                        if self.first is not None:
                            yield event([index | self.first])
                    answer, told = found[one.index], await self._tokens(begun, one.chunk)
                    if one.chunk.text or one.chunk.ids:
                        written = self.logprobs(told, len(answer.text)) if self.logprobs else None
                        choice = self.part(one.chunk.text, None, written) | self._ids(one.chunk.ids)
                        yield event([index | choice])
                    answer.add(one.chunk, told)
                    if answer.stop:
                        yield event([index | self.part("", FINISH[answer.stop], None)])
        except Exception as error:
            yield event_of(problem_of(error).body)
            return
        if self.with_usage and begun:
            tokens = sum(len(one.ids) for one in found.values())
            yield event([], usage(begun.prompt_tokens, tokens))
        yield b"data: [DONE]\n\n"

    async def _tokens(self, begun: Begun, chunk: Chunk) -> list[Token]:
        return await tokens_of(begun, chunk, named_by_id=self.named_by_id)

    def _head(self, kind: str, version: str) -> Json:
        """What every object begins with."""
        return {"id": self.id, "object": kind, "created": self.created, "model": version}


def usage(prompt: int, completion: int) -> Json:
    """What a reply took, in tokens."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def chat_reply(asked: ChatRequest) -> ChoicesReply:
    """The reply of /v1/chat/completions."""

    def message(text: str, finish: str | None, logprobs: Json | None) -> Json:
        said = {"role": "assistant", "content": text, "refusal": None}
        return {"message": said, "finish_reason": finish, "logprobs": logprobs}

    def delta(text: str, finish: str | None, logprobs: Json | None) -> Json:
        said = {"content": text} if finish is None else {}
        return {"delta": said, "finish_reason": finish, "logprobs": logprobs}

    return ChoicesReply(
        "chatcmpl",
        "chat.completion",
        "chat.completion.chunk",
        message,
        delta,
        delta("", None, None) | {"delta": {"role": "assistant", "content": "", "refusal": None}},
        _chat_logprobs if asked.logprobs else None,
        with_usage=asked.with_usage,
    )


def text_reply(asked: CompletionRequest) -> ChoicesReply:
    """The reply of /v1/completions."""

    def choice(text: str, finish: str | None, logprobs: Json | None) -> Json:
        return {"text": text, "finish_reason": finish, "logprobs": logprobs}

    return ChoicesReply(
        "cmpl",
        "text_completion",
        "text_completion",
        choice,
        choice,
        None,
        None if asked.logprobs is None else _text_logprobs,
        with_ids=bool(asked.return_token_ids),
        named_by_id=bool(asked.return_tokens_as_token_ids),
        with_usage=asked.with_usage,
    )


def _chat_logprobs(told: Sequence[Token], start: int) -> Json:
    return {"content": [logprob_of(one) for one in told], "refusal": None}


def _text_logprobs(told: Sequence[Token], start: int) -> Json:
    lengths = [len(one.text) for one in told]
    return {
        "tokens": [one.text for one in told],
        "token_logprobs": [one.logprob for one in told],
        "top_logprobs": [dict(one.top) for one in told],
        "text_offset": [start + sum(lengths[:place]) for place in range(len(lengths))],
    }
