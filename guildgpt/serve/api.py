"""The routes of /v1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.security import HTTPBearer

from guildgpt.engines.engine import SamplingParams
from guildgpt.errors import GuildError
from guildgpt.serve import stored
from guildgpt.serve.asking import DEFAULT, Asking, Begun, Piece, Prompts, conversation_ids, too_long
from guildgpt.serve.choices import chat_reply, text_reply
from guildgpt.serve.problems import Problem, Told
from guildgpt.serve.replies import Answers, Events, Reply, left
from guildgpt.serve.requests import (
    ChatRequest,
    CompletionRequest,
    Conversation,
    ResponsesRequest,
    Sampled,
)
from guildgpt.serve.responses import ResponseReply
from guildgpt.talk.fleet import OpenedModel

T = TypeVar("T")
Sent = dict[str, Any] | Response
# What the description at /openapi.json says of answers, and of the key that `Guard` looks at.
_FAILURES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Told, "description": "The request cannot be answered."},
    "5XX": {"model": Told, "description": "The server or its model has failed."},
}
_KEY = HTTPBearer(auto_error=False, description="A key, where the server was given any.")
_WHOLE: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
_EITHER = _WHOLE | {"text/event-stream": {}}
GONE = 499  # nginx's word for a client that does not wait; nobody reads it


@dataclass(frozen=True)
class Api:
    """What the routes answer with: the models, and how answers are drawn by default."""

    asking: Asking
    usual: SamplingParams
    started: int  # Unix seconds

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter(prefix="/v1", responses=_FAILURES, dependencies=[Depends(_KEY)])
        for method, path, answer, kinds in (
            ("GET", "/models", self.models, _WHOLE),
            ("GET", "/models/{model:path}", self.model, _WHOLE),
            ("POST", "/chat/completions", self.chat, _EITHER),
            ("POST", "/completions", self.complete, _EITHER),
            ("POST", "/responses", self.respond, _EITHER),
            ("GET", "/responses/{id}", stored.tell, _WHOLE),
            ("DELETE", "/responses/{id}", stored.delete, _WHOLE),
            ("GET", "/responses/{id}/input_items", stored.items, _WHOLE),
            ("POST", "/embeddings", self.embed, _WHOLE),
        ):
            told: dict[int | str, dict[str, Any]] = {200: {"content": kinds}}
            router.add_api_route(
                path, answer, methods=[method], responses=told, response_model=None
            )
        return router

    async def models(self) -> dict[str, Any]:
        """The versions that are open, and a name for whoever serves."""
        names = [DEFAULT, *self.asking.fleet.open_versions]
        return {"object": "list", "data": [await self._told(name) for name in names]}

    async def model(self, model: str) -> dict[str, Any]:
        """One of them."""
        return await self._told(self.asking.version(model) or DEFAULT)

    async def chat(self, asked: ChatRequest, request: Request) -> Sent:
        """Answer a conversation."""
        most = (asked.top_logprobs or 0) if asked.logprobs else None
        prompts = _prompts(asked.conversation(), asked.limit)
        return await self._reply(asked, request, prompts, chat_reply(asked), most)

    async def respond(self, asked: ResponsesRequest, request: Request) -> Sent:
        """The same in the newer form."""
        asked.n = None  # it has one answer
        most = (asked.top_logprobs or 0) if asked.with_logprobs else None
        earlier = await stored.earlier(asked, request)
        prompts = _prompts(asked.conversation(earlier), asked.limit)
        keep = stored.keeping(asked, request) if asked.store else None
        reply = ResponseReply(asked, asked.params(self.usual, 1, most), keep)
        return await self._reply(asked, request, prompts, reply, most)

    async def complete(self, asked: CompletionRequest, request: Request) -> Sent:
        """Go on with a text, or with token ids as they are; control tokens in a text stay text."""
        given = asked.prompts()

        def prompts(model: OpenedModel) -> list[list[int]]:
            encode = model.engine.tokenizer.encode
            told = [encode(one) if isinstance(one, str) else one for one in given]
            for ids in told:
                if not ids:
                    raise Problem(400, "the prompt is empty", param="prompt")
                if len(ids) >= model.engine.context:
                    raise too_long(len(ids), model.engine.context)
            return told

        return await self._reply(asked, request, prompts, text_reply(asked), asked.logprobs)

    async def embed(self) -> None:
        """Not here."""
        raise Problem(400, "this model writes text, and gives no embeddings")

    async def _reply(
        self, asked: Sampled, request: Request, prompts: Prompts, reply: Reply, most: int | None
    ) -> Sent:
        def params(model: OpenedModel, tokens: int) -> SamplingParams:
            return asked.params(self.usual, model.engine.context - tokens, most)

        answers = _counted(
            self.asking.answers(
                prompts,
                params,
                n=asked.n or 1,
                version=self.asking.version(asked.model),
                caller=request.state.caller,
            ),
            partial(request.app.state.ring.used, request.state.holder),
        )
        if not asked.stream:
            return await _unless_gone(request, reply.whole(answers))
        # Before the stream begins: what is refused has a status of its own.
        first = await _unless_gone(request, _first(answers))
        if isinstance(first, Response):
            return first
        return Events(reply.events(_after(first, answers)))

    async def _told(self, name: str) -> dict[str, Any]:
        told = {"id": name, "object": "model", "created": self.started, "owned_by": "guildgpt"}
        context = None
        with suppress(GuildError):  # it has died and does not open: /readyz tells of it
            context = await self.asking.context(self.asking.version(name))
        return told | {"max_model_len": context}


def _prompts(conversation: Conversation, limit: int | None) -> Prompts:
    def prompts(model: OpenedModel) -> list[list[int]]:
        return [conversation_ids(model, *conversation, limit)]

    return prompts


async def _counted(answers: Answers, count: Callable[[int], None]) -> Answers:
    """The answers; of as much of them as was written, the tokens are counted with the prompt's."""
    tokens = 0
    try:
        async with aclosing(answers):
            async for one in answers:
                tokens += one.prompt_tokens if isinstance(one, Begun) else len(one.chunk.ids)
                yield one
    finally:
        count(tokens)


async def _first(answers: Answers) -> Begun | Piece:
    return await anext(answers)


async def _after(first: Begun | Piece, others: Answers) -> Answers:
    async with aclosing(others):
        yield first
        async for one in others:
            yield one


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T | Response:
    """What `work` comes to; it is stopped where the client does not wait for it."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else Response(status_code=GONE)
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait({working, leaving})
