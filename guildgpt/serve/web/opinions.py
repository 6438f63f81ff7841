"""What a person thinks of an answer in a chat of theirs: thumbs, and their own wording."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from guildgpt.feedback.records import Account
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.corrections import LONGEST
from guildgpt.serve.problems import Problem
from guildgpt.serve.web.telling import Json
from guildgpt.serve.web.who import Id, Opened, SignedIn

LONGEST_REASON = 2000  # characters


class Rated(BaseModel):
    """Thumbs up (1), down (-1), or taken back (0), and why."""

    value: Literal[-1, 0, 1]
    reason: Annotated[str, Field(max_length=LONGEST_REASON)] | None = None


class Corrected(BaseModel):
    """An answer as the person would have worded it, and under which licence they give that."""

    text: Annotated[str, Field(max_length=LONGEST)]
    licence: Literal["CC0-1.0", "CC-BY-SA-4.0"]
    own: Literal[True]  # they wrote it themselves


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/messages/{id}")

    @routes.post("/rating")
    async def rate(id: Id, rated: Rated, account: SignedIn, store: Opened) -> Json:
        await _answer(store, id, account)
        reason = (rated.reason or "").strip() or None
        await store.ratings.add(id, account.member_id, rated.value, reason)
        return {"value": rated.value, "reason": reason}

    @routes.post("/correction")
    async def correct(id: Id, corrected: Corrected, account: SignedIn, store: Opened) -> Json:
        await _answer(store, id, account)
        made = await store.corrections.offer(
            id, account.member_id, corrected.text, corrected.licence
        )
        return {"correction": made.text, "correction_state": made.state}

    @routes.delete("/correction")
    async def take_back(id: Id, account: SignedIn, store: Opened) -> Json:
        await _answer(store, id, account)
        await store.corrections.take_back(id, account.member_id)
        return {"correction": "", "correction_state": None}

    return routes


async def _answer(store: Store, id: str, account: Account) -> None:
    """Raise `Problem` 404 unless this is an answer in one of the account's chats."""
    message = await store.conversations.message(id)
    theirs = message and await store.chats.chat_of(id, account.member_id)
    if not message or not theirs or message.role != "assistant" or message.deleted:
        raise Problem(404, "this answer is not there any more", code="gone")
