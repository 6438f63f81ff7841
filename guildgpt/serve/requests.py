"""What clients send: the fields of OpenAI's requests that mean something here; others are ignored.

Beside them, as in llama-server and vLLM: `top_k`, `min_p`, `repetition_penalty`, and for who asks
with ids, `return_token_ids` and `return_tokens_as_token_ids`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field, field_validator

from guildgpt.chat import Message
from guildgpt.engines.engine import SamplingParams
from guildgpt.serve.problems import Problem

MOST_CHOICES = 8
MOST_STOPS = 16
MOST_LOGPROBS = 20
NO_FORM = "this model cannot promise a form"
LARGEST = 2**31 - 1  # whole numbers that engines take
Count = Annotated[int, Field(ge=1)]
TokenId = Annotated[int, Field(ge=0, le=LARGEST, strict=True)]
# The system text, what was said, and the question.
Conversation: TypeAlias = tuple[str, list[Message], Message]


class StreamOptions(BaseModel):
    """`stream_options`."""

    include_usage: bool = False


class Sampled(BaseModel):
    """What both kinds of requests say of how an answer is drawn."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: int | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None

    @field_validator("stop")
    @classmethod
    def _can_be_looked_for(cls, stop: str | list[str] | None) -> str | list[str] | None:
        texts = [stop] if isinstance(stop, str) else stop or []
        if len(texts) > MOST_STOPS or "" in texts:
            raise ValueError(f"at most {MOST_STOPS} texts, none of them empty")
        return stop

    def params(self, usual: SamplingParams, room: int, logprobs: int | None) -> SamplingParams:
        """How an answer is drawn: as the request says, else as `usual`; at most `room` tokens."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return SamplingParams(
            temperature=usual.temperature if self.temperature is None else self.temperature,
            top_k=usual.top_k if self.top_k is None else min(max(self.top_k, 0), LARGEST),
            top_p=self.top_p or usual.top_p,
            min_p=usual.min_p if self.min_p is None else self.min_p,
            repeat_penalty=self.repetition_penalty or usual.repeat_penalty,
            max_tokens=min(self.limit or room, room),
            seed=None if self.seed is None else self.seed % 2**32,
            stop=stop,
            logprobs=logprobs,
        )

    @property
    def limit(self) -> int | None:
        """Tokens of an answer at most, where the request says so."""
        return self.max_tokens

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with what it took."""
        return bool(self.stream_options and self.stream_options.include_usage)


class Said(BaseModel):
    """One message, or an item of another `type`."""

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant", "tool", "function"] | None = None
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None

    def text(self, place: str) -> str:
        """Its text; raises `Problem` for a part that is none."""
        if not isinstance(self.content, list):
            return self.content or ""
        texts = []
        for number, part in enumerate(self.content):
            text = part.get("text")
            if not isinstance(text, str):
                kind = part.get("type", "of no type")
                where = f"{place}.content.{number}"
                what = f"{where}: this model reads text, and this is {kind}"
                raise Problem(400, what, param=where)
            texts.append(text)
        return "".join(texts)


class ChatRequest(Sampled):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[Said], Field(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    response_format: dict[str, Any] | None = None

    @property
    def limit(self) -> int | None:
        """The smaller of both limits."""
        limits = [one for one in (self.max_tokens, self.max_completion_tokens) if one]
        return min(limits, default=None)

    def conversation(self) -> Conversation:
        """What was said; raises `Problem` as `conversation_of` does."""
        if self.response_format and self.response_format.get("type") not in (None, "text"):
            raise Problem(400, NO_FORM, param="response_format")
        return conversation_of(self.messages, "messages")


class ResponsesRequest(Sampled):
    """The body of /v1/responses."""

    input: str | list[Said]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    include: list[str] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    text: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None  # told again, as the next one is
    safety_identifier: str | None = None
    store: bool | None = None

    @property
    def limit(self) -> int | None:
        """Tokens of the answer at most."""
        return self.max_output_tokens

    @property
    def with_logprobs(self) -> bool:
        """Whether log-probabilities are asked for."""
        return "message.output_text.logprobs" in (self.include or ())

    @property
    def items(self) -> list[Said]:
        """What is said, item by item."""
        if isinstance(self.input, str):
            return [Said(role="user", content=self.input)]
        return self.input

    def conversation(self, earlier: Sequence[Said] = ()) -> Conversation:
        """What was said, the instructions first and what was said `earlier` next; raises `Problem`
        as `conversation_of` does."""
        form = (self.text or {}).get("format") or {}
        if not isinstance(form, dict) or form.get("type") not in (None, "text"):
            raise Problem(400, NO_FORM, param="text.format")
        if not self.items:
            raise Problem(400, "the input is empty", param="input")
        system, path, question = conversation_of([*earlier, *self.items], "input", -len(earlier))
        return "\n\n".join(filter(None, (self.instructions, system))), path, question


def conversation_of(messages: Sequence[Said], place: str, first: int = 0) -> Conversation:
    """The system text, what was said, and the question; `place` is the messages' field, and the
    first of them has the number `first`. Raises `Problem` where the last message is not a user's,
    or one is not text."""
    system, said = [], []
    for number, one in enumerate(messages, first):
        where = f"{place}.{number}"
        if one.type == "reasoning":  # an agent hands back what another model thought
            continue
        if one.type != "message" or one.role in (None, "tool", "function"):
            what = f"{where}: this model calls no tools, and reads messages alone"
            raise Problem(400, what, param=where)
        text = one.text(where)
        if one.role in ("system", "developer"):
            system.append(text)
        elif one.role == "assistant":
            said.append(Message("assistant", text))
        else:
            said.append(Message("user", text, name=one.name))
    if not said or said[-1].role != "user":
        raise Problem(400, "the last message is not the user's", param=place)
    return "\n\n".join(system), said[:-1], said[-1]


class CompletionRequest(Sampled):
    """The body of /v1/completions: a text, or token ids as they are, or several of either."""

    prompt: str | list[TokenId] | list[str] | list[list[TokenId]]
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    echo: bool | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None

    def prompts(self) -> list[str | list[int]]:
        """Each prompt. Raises `Problem` where there is none, or more than may be asked at once."""
        if self.echo:
            raise Problem(400, "the prompt is not repeated here", param="echo")
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [[one for one in self.prompt if isinstance(one, int)]]
        found: list[str | list[int]] = [one for one in self.prompt if not isinstance(one, int)]
        if not found or len(found) * (self.n or 1) > MOST_CHOICES:
            raise Problem(400, f"1 to {MOST_CHOICES} answers can be asked for", param="prompt")
        return found
