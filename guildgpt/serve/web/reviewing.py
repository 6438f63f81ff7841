"""The operator's page of what waits to be looked at: reports, and corrections that were offered."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from guildgpt.errors import RecordGone
from guildgpt.feedback.records import AbuseReport, WaitingCorrection
from guildgpt.feedback.voting.blind import secret_versions
from guildgpt.serve.problems import Problem
from guildgpt.serve.web.rendering import Rendering
from guildgpt.serve.web.who import Opened, Operator

PAGE = 50


class Review(BaseModel):
    """Whether anything learns from a correction."""

    state: Literal["accepted", "refused"]


def router(rendering: Rendering) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.get("/office")
    async def office(operator: Operator, store: Opened) -> dict[str, int]:
        """How much waits behind each page."""
        return {
            "pool": len(await store.prompts.all("offered")),
            "corrections": len(await store.corrections.waiting()),
            "reports": len(await store.reports.newest(limit=PAGE)),
        }

    @routes.get("/reports")
    async def reports(
        operator: Operator, store: Opened, resolved: bool = False, older: str | None = None
    ) -> dict[str, Any]:
        """What members reported; who did is nobody's business."""
        found = await store.reports.newest(resolved=resolved, older_than=older, limit=PAGE + 1)
        secret = await secret_versions(store)
        told = [_shown(one, secret) for one in found[:PAGE]]
        return {"reports": told, "more": len(found) > PAGE}

    @routes.post("/reports/{id}/resolve")
    async def resolve(id: str, operator: Operator, store: Opened) -> dict[str, Any]:
        """Somebody has looked at it."""
        found = await store.reports.resolve(id)
        if found is None:
            raise Problem(410, "this report is gone: what it was about was erased", code="gone")
        return _shown(found)

    @routes.get("/corrections")
    async def corrections(operator: Operator, store: Opened) -> dict[str, Any]:
        """What waits for a review, the oldest first. Whose words they are is nobody's business."""
        found = (await store.corrections.waiting())[:PAGE]
        secret = await secret_versions(store)

        def told() -> list[dict[str, Any]]:
            return [_correction(one, rendering, secret) for one in found]

        return {"corrections": await asyncio.to_thread(told)}

    @routes.post("/corrections/{id}/review")
    async def review(id: str, asked: Review, operator: Operator, store: Opened) -> dict[str, Any]:
        """Have models learn from it, or not."""
        try:
            made = await store.corrections.review(id, asked.state)
        except RecordGone as error:
            raise Problem(410, "this correction was taken back or erased", code="gone") from error
        return {"id": made.id, "state": made.state}

    return routes


def _correction(
    waiting: WaitingCorrection, rendering: Rendering, secret: Collection[str]
) -> dict[str, Any]:
    made, (*said, answer) = waiting.correction, waiting.said
    asked = [one for one in said if one.role == "user"]
    return {
        "id": made.id,
        "at": made.created_at,
        "licence": made.licence,
        "version": None if answer.version_id in secret else answer.version_id,
        "question": asked[-1].text if asked else "",
        "before": max(0, len(said) - 1),
        "answer": {"text": answer.text, "html": rendering.html(answer.text)},
        "flags": waiting.flags,
        "correction": {"text": made.text, "html": rendering.html(made.text)},
    }


def _shown(one: AbuseReport, secret: Collection[str] = ()) -> dict[str, Any]:
    """Who looks at it may vote, too: who wrote it is told as little as elsewhere."""
    version = None if one.version_id in secret else one.version_id
    return asdict(one) | {"link": one.link, "version_id": version}
