"""/api/chats: a person's conversations, and asking in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field

from guildgpt.feedback.messages.chats import LONGEST_TITLE
from guildgpt.feedback.records import Account, Chat, StoredMessage
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.blind import secret_versions
from guildgpt.serve.problems import Problem
from guildgpt.serve.replies import Events, event_of, left
from guildgpt.serve.web.answering import Answering
from guildgpt.serve.web.exporting import as_json, as_markdown
from guildgpt.serve.web.pages import CLOSED
from guildgpt.serve.web.telling import Json, chat_told, message_told, untold
from guildgpt.serve.web.tree import Tree
from guildgpt.serve.web.who import Id, Opened, SignedIn

AT_ONCE = 50  # chats of the list that are sent together
LONGEST_QUESTION = 100_000  # characters


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError as error:  # at the ends of the calendar
        raise ValueError("no moment that a chat could be of") from error


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class Asked(BaseModel):
    """A question below an answer, or at the root of its chat."""

    text: Annotated[str, Field(max_length=LONGEST_QUESTION)]
    parent: Id | None = None


class Again(BaseModel):
    """A question that is to be answered once more."""

    question: Id


class Named(BaseModel):
    """A chat's new title."""

    title: Annotated[str, Field(min_length=1, max_length=10 * LONGEST_TITLE)]


class Chats:
    """The routes; `answering` is what answers."""

    def __init__(self, answering: Answering):
        self._answering = answering

    def router(self) -> APIRouter:
        """All of them."""
        routes = APIRouter(prefix="/chats")
        routes.add_api_route("", self.listed, methods=["GET"])
        routes.add_api_route("", self.start, methods=["POST"])
        routes.add_api_route("/{id}", self.read, methods=["GET"])
        routes.add_api_route("/{id}", self.rename, methods=["PATCH"])
        routes.add_api_route("/{id}", self.delete, methods=["DELETE"])
        routes.add_api_route("/{id}/export", self.export, methods=["GET"])
        for path, answer in (("questions", self.ask), ("answers", self.retry)):
            routes.add_api_route(f"/{{id}}/{path}", answer, methods=["POST"], response_model=None)
        return routes

    async def listed(
        self,
        account: SignedIn,
        store: Opened,
        search: Annotated[str, Query(max_length=200)] = "",
        before: Moment | None = None,
    ) -> Json:
        """Their chats, the last changed first; those that a text stands in."""
        if search.strip():
            found = await store.chats.search(account.member_id, search.strip(), limit=AT_ONCE)
            told = [chat_told(one.chat) | {"excerpt": one.excerpt} for one in found]
            return {"chats": told, "more": False}
        chats = await store.chats.listed(account.member_id, limit=AT_ONCE + 1, before=before)
        return {"chats": [chat_told(one) for one in chats[:AT_ONCE]], "more": len(chats) > AT_ONCE}

    async def start(self, account: SignedIn, store: Opened) -> Json:
        """A new chat; its first question gives it a title."""
        return chat_told(await store.chats.start(account.member_id))

    async def read(self, id: Id, account: SignedIn, store: Opened, at: Id | None = None) -> Json:
        """A chat on the way past the message `at` to the newest below it; on the newest way of all
        without one."""
        chat = await _chat(store, id, account)
        tree = Tree(await store.chats.messages(id))
        return chat_told(chat) | {"messages": await self._told(store, account, tree, tree.path(at))}

    async def rename(self, id: Id, named: Named, account: SignedIn, store: Opened) -> Json:
        """Give it another title."""
        await store.chats.rename(id, account.member_id, named.title)
        return chat_told(await _chat(store, id, account))

    async def delete(
        self, id: Id, account: SignedIn, store: Opened, later: BackgroundTasks
    ) -> Json:
        """Take it out of the store, and then out of the store's file."""
        if not await store.chats.delete(id, account.member_id):
            raise _no_chat()
        later.add_task(store.traces.scrub)
        return {}

    async def export(
        self,
        id: Id,
        account: SignedIn,
        store: Opened,
        form: Literal["json", "markdown"] = "json",
        at: Id | None = None,
    ) -> Response:
        """All of it as JSON, or the way that is shown as Markdown."""
        chat = await _chat(store, id, account)
        tree = Tree(await store.chats.messages(id))
        secret = await secret_versions(store)
        if form == "json":
            body, kind, end = (
                as_json(chat, untold(tree.messages.values(), secret)),
                "application/json",
                "json",
            )
        else:
            body, kind, end = (
                as_markdown(chat, untold(tree.path(at), secret)),
                "text/markdown",
                "md",
            )
        name = f'attachment; filename="chat-{chat.created_at:%Y-%m-%d}.{end}"'
        headers = CLOSED | {"Content-Disposition": name, "Cache-Control": "no-store"}
        return Response(body, headers=headers, media_type=f"{kind}; charset=utf-8")

    async def ask(
        self, id: Id, asked: Asked, account: SignedIn, store: Opened, request: Request
    ) -> Events:
        """Put a question into a chat and answer it. Beside another question with the same `parent`
        it is a branch: so a question is edited."""
        chat = await _chat(store, id, account)
        if not asked.text.strip():
            raise Problem(400, "the question has no words", param="text")
        self._answering.check(account)
        tree = Tree(await store.chats.messages(id))
        above = tree.above(asked.parent)
        if asked.parent is not None and (not above or above[-1].role != "assistant"):
            raise Problem(404, "what this goes on from is not there any more", param="parent")
        question = await store.conversations.add_message(
            conversation_id=id,
            parent_id=asked.parent,
            role="user",
            text=asked.text,
            member_id=account.member_id,
        )
        await store.chats.changed(id, title=asked.text)
        return await self._answer(store, account, chat, [*above, question], request)

    async def retry(
        self, id: Id, again: Again, account: SignedIn, store: Opened, request: Request
    ) -> Events:
        """Another answer to a question, beside those it has."""
        chat = await _chat(store, id, account)
        self._answering.check(account)
        path = Tree(await store.chats.messages(id)).above(again.question)
        if not path or path[-1].role != "user" or path[-1].deleted:
            raise Problem(404, "the question is not there any more", param="question")
        return await self._answer(store, account, chat, path, request)

    async def _answer(
        self,
        store: Store,
        account: Account,
        chat: Chat,
        path: Sequence[StoredMessage],
        request: Request,
    ) -> Events:
        async def events() -> AsyncGenerator[bytes, None]:
            gone = asyncio.create_task(left(request))
            try:
                yield event_of({"question": path[-1].id}, "asked")
                answer = self._answering.events(store, account, chat, path, gone)
                async with aclosing(answer):
                    async for event in answer:
                        yield event
            finally:
                gone.cancel()

        return Events(events())

    async def _told(
        self, store: Store, account: Account, tree: Tree, path: Sequence[StoredMessage]
    ) -> list[Json]:
        answers = [one.id for one in path if one.role == "assistant"]
        opinions = await store.chats.opinions(answers, account.member_id)
        path = untold(path, await secret_versions(store))

        def told() -> list[Json]:
            rendering = self._answering.rendering
            return [
                message_told(one, tree.siblings(one), opinions.get(one.id), rendering)
                for one in path
            ]

        return await asyncio.to_thread(told)  # a long chat takes a while to render


async def _chat(store: Store, id: Id, account: Account) -> Chat:
    """The account's chat; another's is as little there as one that never was."""
    chat = await store.chats.chat(id, account.member_id)
    if chat is None:
        raise _no_chat()
    return chat


def _no_chat() -> Problem:
    return Problem(404, "this chat is not there", code="no_chat")
