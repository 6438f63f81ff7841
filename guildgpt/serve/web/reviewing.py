"""The operator's page of what waits to be looked at: reports, and corrections that were offered."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from guildgpt.feedback.records import AbuseReport
from guildgpt.serve.problems import Problem
from guildgpt.serve.web.who import Opened, Operator

PAGE = 50


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.get("/office")
    async def office(operator: Operator, store: Opened) -> dict[str, int]:
        """How much waits behind each page."""
        return {
            "pool": len(await store.prompts.all("offered")),
            "reports": len(await store.reports.newest(limit=PAGE)),
        }

    @routes.get("/reports")
    async def reports(
        operator: Operator, store: Opened, resolved: bool = False, older: str | None = None
    ) -> dict[str, Any]:
        """What members reported; who did is nobody's business."""
        found = await store.reports.newest(resolved=resolved, older_than=older, limit=PAGE + 1)
        return {"reports": [_shown(one) for one in found[:PAGE]], "more": len(found) > PAGE}

    @routes.post("/reports/{id}/resolve")
    async def resolve(id: str, operator: Operator, store: Opened) -> dict[str, Any]:
        """Somebody has looked at it."""
        found = await store.reports.resolve(id)
        if found is None:
            raise Problem(410, "this report is gone: what it was about was erased", code="gone")
        return _shown(found)

    return routes


def _shown(one: AbuseReport) -> dict[str, Any]:
    return asdict(one) | {"link": one.link}
