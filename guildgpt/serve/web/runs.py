"""The operator's page of runs: their reports, each of which opens closed off from this page."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from guildgpt.serve.problems import Problem
from guildgpt.serve.web.who import Operator

REPORT = "report.html"
DEEP = 4  # folders below the runs' own, at most
MOST = 200  # reports that are listed, the newest
# A report is one file with its own script and style, and has answers of models in it: it is shown
# as a document of no origin, which can ask nobody anything.
SANDBOX = "; ".join(
    (
        "sandbox allow-scripts",
        "default-src 'none'",
        "script-src 'unsafe-inline'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "font-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

APART = {
    "Content-Security-Policy": SANDBOX,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def router(folder: Path) -> APIRouter:
    """The routes; `folder` is the one with the runs."""
    routes = APIRouter(prefix="/runs")

    @routes.get("")
    async def runs(operator: Operator) -> dict[str, Any]:
        """The reports, the newest first."""
        found = await asyncio.to_thread(reports, folder)
        return {
            "folder": str(folder),
            "reports": [
                {"run": run, "at": datetime.fromtimestamp(path.stat().st_mtime, UTC)}
                for run, path in found.items()
            ],
        }

    @routes.get("/report")
    async def report(run: str, operator: Operator) -> FileResponse:
        """One of them, as it is."""
        path = (await asyncio.to_thread(reports, folder)).get(run)
        if path is None:
            raise Problem(404, f"there is no report of {run}")
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=APART)

    return routes


def reports(folder: Path) -> dict[str, Path]:
    """The reports by the name of their folder, the newest first. Links are not followed."""
    found = []
    waiting = [(folder, 0)]
    while waiting:
        here, depth = waiting.pop()
        try:
            inside = list(here.iterdir())
        except OSError:  # gone meanwhile, or not ours to read
            continue
        for path in inside:
            if path.is_symlink():
                continue
            if path.name == REPORT and path.is_file():
                found.append((path.stat().st_mtime, path))
            elif depth < DEEP and path.is_dir() and not path.name.startswith("."):
                waiting.append((path, depth + 1))
    newest = sorted(found, reverse=True)[:MOST]
    return {path.parent.relative_to(folder).as_posix(): path for _, path in newest}
