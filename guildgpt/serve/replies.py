"""What replies are made of, whatever their form: answers as far as they have come, and events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import Request
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Message, Send

from guildgpt.engines.engine import Chunk, StopReason
from guildgpt.serve.asking import Begun, Piece

Json = dict[str, Any]
Answers = AsyncGenerator[Begun | Piece, None]


_written = json.JSONEncoder(allow_nan=False).encode  # which json.dumps would make for each token
UNREAD_SECONDS = 60.0  # that a client may leave the events of a stream unread


class Events(EventSourceResponse):
    """A stream of events, which no cache keeps and no proxy holds back. Who does not read is left:
    what waits for a reader keeps its memory."""

    def __init__(self, events: AsyncIterator[bytes]):
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def stream_response(self, send: Send) -> None:
        """Send all of it."""

        async def in_time(message: Message) -> None:
            async with asyncio.timeout(UNREAD_SECONDS):
                await send(message)

        with suppress(TimeoutError):
            await super().stream_response(in_time)


async def left(request: Request) -> None:
    """Wait until the client leaves; what it sent has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Reply(Protocol):
    """One form of a reply."""

    async def whole(self, answers: Answers) -> Json:
        """The reply in one piece; raises what `answers` raises."""

    def events(self, answers: Answers) -> AsyncIterator[bytes]:
        """The reply as server-sent events; a failure on the way is the last of them."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token's text and log-probability, and those of the most probable ones in its place."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass
class Answer:
    """One answer as far as it has come."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    stop: StopReason | None = None
    told: list[Token] = field(default_factory=list)

    def add(self, chunk: Chunk, told: Sequence[Token]) -> None:
        """What has come, and its log-probabilities."""
        self.text += chunk.text
        self.ids += chunk.ids
        self.told += told
        self.stop = chunk.stop


async def tokens_of(begun: Begun, chunk: Chunk, *, named_by_id: bool = False) -> list[Token]:
    """The log-probabilities of a chunk, with texts in place of ids. Of a character that several
    tokens write an engine may know the last one's alone: it stands for all of them."""
    if not chunk.logprobs:
        return []
    return await asyncio.to_thread(_tokens_of, begun, chunk, named_by_id)  # decoding may block


def _tokens_of(begun: Begun, chunk: Chunk, named_by_id: bool) -> list[Token]:
    decode = begun.model.engine.tokenizer.decode
    alone = len(chunk.logprobs) == 1

    def name(id: int, text: str | None = None) -> str:
        if named_by_id:
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


def logprob_of(one: Token) -> Json:
    """A token's log-probability as chats and responses write it."""

    def written(text: str, logprob: float) -> Json:
        return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}

    return written(one.text, one.logprob) | {"top_logprobs": [written(*other) for other in one.top]}


def event_of(body: Json, name: str | None = None) -> bytes:
    """An event of a stream, in ASCII as `AsciiJson`: clients also break lines at U+2028."""
    return format_sse_event(data_str=_written(body), event=name)
