"""A question of a chat with two answers, blind: streamed side by side, and put to its asker's vote.

While a candidate is being tried, one is its answer and the other that of who serves; else they are
two by who serves. Both stand in the chat, in the place of one answer, and the chosen one goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from random import Random
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from guildgpt.feedback.records import Account, Chat, StoredMessage
from guildgpt.feedback.storage.rows import new_id
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.blind import check_keeps
from guildgpt.serve.problems import Problem, problem_of
from guildgpt.serve.replies import Events, event_of, left
from guildgpt.serve.web.answering import Answering
from guildgpt.serve.web.chats import LONGEST_QUESTION
from guildgpt.serve.web.telling import Json
from guildgpt.serve.web.tree import Tree
from guildgpt.serve.web.voting import told
from guildgpt.serve.web.who import Id, Opened, SignedIn
from guildgpt.talk.pairs import COOLEST


class AskedTwice(BaseModel):
    """A question below an answer, or at the root of its chat; or one that is there already."""

    text: Annotated[str, Field(max_length=LONGEST_QUESTION)] = ""
    parent: Id | None = None
    question: Id | None = None


@dataclass(frozen=True)
class Comparing:
    """Has two answers written at once."""

    answering: Answering
    chance: Random = field(default_factory=Random)

    def router(self) -> APIRouter:
        """The route."""
        routes = APIRouter()
        path = "/chats/{id}/pairs"
        routes.add_api_route(path, self.ask, methods=["POST"], response_model=None)
        return routes

    async def ask(
        self, id: str, asked: AskedTwice, account: SignedIn, store: Opened, request: Request
    ) -> Events:
        """Put a question into a chat, or take one that is there, and answer it twice."""
        chat = await store.chats.chat(id, account.member_id)
        if chat is None:
            raise Problem(404, "this chat is not there", code="no_chat")
        try:
            await check_keeps(store, account.member_id)
        except Exception as error:
            raise told(error) from error
        self.answering.check(account)
        versions = await self._versions(store)
        tree = Tree(await store.chats.messages(id))
        if asked.question is not None:
            path = tree.above(asked.question)
            if not path or path[-1].role != "user" or path[-1].deleted:
                raise Problem(404, "the question is not there any more", param="question")
        else:
            path = await self._question(store, account, chat, tree, asked)

        async def events() -> AsyncGenerator[bytes, None]:
            gone = asyncio.create_task(left(request))
            try:
                yield event_of({"question": path[-1].id}, "asked")
                pair = self._pair(store, account, chat, path, versions, gone)
                async with aclosing(pair):
                    async for event in pair:
                        yield event
            finally:
                gone.cancel()

        return Events(events())

    async def _versions(self, store: Store) -> tuple[str | None, str | None]:
        """Whose answers meet, in an order that is drawn: the first one is begun first, which shows,
        and stands first in the comparison."""
        current = await store.decisions.current()
        if current is None or current.state != "canary":
            return None, None
        there = self.answering.asking.fleet.open_versions
        if current.candidate_id not in there or current.baseline_id not in there:
            what = "one of the two versions is not open on this server yet: try again soon"
            raise Problem(503, what, code="model")
        pair = (current.baseline_id, current.candidate_id)
        return pair if self.chance.random() < 0.5 else pair[::-1]

    async def _question(
        self, store: Store, account: Account, chat: Chat, tree: Tree, asked: AskedTwice
    ) -> list[StoredMessage]:
        if not asked.text.strip():
            raise Problem(400, "the question has no words", param="text")
        above = tree.above(asked.parent)
        if asked.parent is not None and (not above or above[-1].role != "assistant"):
            raise Problem(404, "what this goes on from is not there any more", param="parent")
        question = await store.conversations.add_message(
            conversation_id=chat.id,
            parent_id=asked.parent,
            role="user",
            text=asked.text,
            member_id=account.member_id,
        )
        await store.chats.changed(chat.id, title=asked.text)
        return [*above, question]

    async def _pair(
        self,
        store: Store,
        account: Account,
        chat: Chat,
        path: Sequence[StoredMessage],
        versions: tuple[str | None, str | None],
        gone: asyncio.Future[None],
    ) -> AsyncGenerator[bytes, None]:
        """The events of both answers, each with its `place` as it is shown, and at last `pair` with
        what is voted on. Which place is whose, the store's key draws."""
        comparison_id = new_id()
        order = store.seen.order(comparison_id, account.member_id, 2)
        usual = self.answering.usual
        drawn = replace(usual, seed=None, temperature=max(usual.temperature, COOLEST))
        answers = [self.answering.begin(version, drawn) for version in versions]
        ready: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def pump(position: int) -> None:
            place = order.index(position)
            told = self.answering.heard(store, account, chat, path, gone, answers[position])
            async with aclosing(told):
                async for data, name in told:
                    ready.put_nowait(event_of(_blind(data) | {"place": place}, name))

        async def both() -> None:
            await asyncio.gather(pump(0), pump(1))

        pumping = asyncio.create_task(both())
        pumping.add_done_callback(lambda _: ready.put_nowait(None))
        try:
            while (event := await ready.get()) is not None:
                yield event
            await pumping
        finally:
            pumping.cancel()
            await asyncio.wait({pumping})
        kept = [one.kept for one in answers if one.kept and not one.failure]
        if len(kept) < 2:
            return
        if kept[0].text.strip() == kept[1].text.strip():
            yield event_of({"same": True, "answers": [kept[0].id] * 2}, "pair")
            return
        try:
            shown = [one.id for one in kept]
            await store.votes.add_comparison(path[-1].id, shown, id=comparison_id)
        except Exception as error:
            yield event_of({"message": problem_of(error).body["error"]["message"]}, "error")
            return
        yield event_of(
            {
                "comparison": comparison_id,
                "ticket": store.seen.ticket(comparison_id, account.member_id),
                "answers": [kept[position].id for position in order],
            },
            "pair",
        )


def _blind(data: Json) -> Json:
    """What happens to an answer, without who writes it."""
    return {key: value for key, value in data.items() if key != "version"}
