"""The operator's page of prompts: what rounds ask, and what members offered."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from guildgpt.errors import DataError, RecordGone
from guildgpt.feedback.records import PoolPrompt, PromptState
from guildgpt.feedback.voting.pool import Reading, of_texts
from guildgpt.serve.problems import Problem
from guildgpt.serve.web.who import Opened, Operator

PAGE = 50  # prompts at once
State = Literal["offered", "accepted", "refused"]


class Adding(BaseModel):
    """Prompts, one a line, and the licence under which they stand."""

    text: Annotated[str, Field(min_length=1, max_length=100_000)]
    licence: Annotated[str, Field(max_length=100)] = "own"
    credit: Annotated[str, Field(max_length=300)] = ""


class Judging(BaseModel):
    """Whether rounds ask a prompt."""

    state: Literal["accepted", "refused"]


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/pool")

    @routes.get("")
    async def pool(
        operator: Operator, store: Opened, state: State = "accepted", q: str = "", skip: int = 0
    ) -> dict[str, Any]:
        """The prompts of a state, the newest first; `q` is in their words."""
        everything = await store.prompts.all()
        counts: dict[PromptState, int] = {"offered": 0, "accepted": 0, "refused": 0}
        for one in everything:
            counts[one.state] += 1
        asked = [one for one in everything if one.state == "accepted"]
        words = q.casefold().split()
        found = [
            one
            for one in reversed(everything)
            if one.state == state and all(word in one.text.casefold() for word in words)
        ]
        return {
            "prompts": [_shown(one) for one in found[max(0, skip) :][:PAGE]],
            "found": len(found),
            "counts": counts,
            "decide": sum(one.purpose == "decide" for one in asked),
            "train": sum(one.purpose == "train" for one in asked),
        }

    @routes.post("")
    async def add(adding: Adding, operator: Operator, store: Opened) -> dict[str, Any]:
        """Take prompts in; how many, and what was left out for which reason."""
        try:
            found = of_texts(
                adding.text.splitlines(), "operator", Reading(adding.licence, adding.credit)
            )
        except DataError as error:
            raise Problem(400, f"{error.what}. {error.remedy}", code="licence") from error
        added = await store.prompts.add(found.prompts)
        counts = {name: added[name] for name in ("decide", "train", "already_there")}
        return counts | {"left_out": found.left_out}

    @routes.post("/{id}/judge")
    async def judge(id: str, judging: Judging, operator: Operator, store: Opened) -> dict[str, Any]:
        """Have rounds ask a prompt, or not."""
        try:
            return _shown(await store.prompts.judge(id, judging.state))
        except RecordGone as error:
            raise Problem(410, "this prompt was erased", code="gone") from error

    return routes


def _shown(one: PoolPrompt) -> dict[str, Any]:
    """A prompt; who submitted it is nobody's business."""
    return {
        "id": one.id,
        "text": one.text,
        "purpose": one.purpose,
        "source": one.source.partition("@")[0],
        "licence": one.licence,
        "credit": one.credit,
        "state": one.state,
        "submitted": one.member_id is not None,
    }
