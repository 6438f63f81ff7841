"""The operator's page of versions: who answers how much, how they stand, and what becomes of the
candidate. What is done here is done by the code behind `guildgpt versions`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from guildgpt.chat import Message
from guildgpt.engines.engine import SamplingParams
from guildgpt.errors import GuildError, StoreError
from guildgpt.feedback.records import VersionStats
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions import releasing
from guildgpt.feedback.versions.listing import list_versions
from guildgpt.feedback.versions.story import story
from guildgpt.feedback.voting.standings import Standing, standings
from guildgpt.feedback.voting.voters import Electorate
from guildgpt.report.circle import render
from guildgpt.serve.asking import Asking
from guildgpt.serve.problems import Problem
from guildgpt.serve.web.runs import APART
from guildgpt.serve.web.who import Opened, Operator
from guildgpt.talk.fleet import OpenedModel

RELEASES = 12  # of the history that is shown
NOTICED = 20  # voters
MEASURED = 64  # tokens
ASKED = "Tell a story about a lighthouse keeper who finds a message in a bottle."

Why = Annotated[str, Field(max_length=500)]


class Reason(BaseModel):
    """Why something is done, for the history."""

    why: Why = ""


class Promoting(Reason):
    """The candidate that was looked at; `force` though nothing says that it is preferred."""

    version: Annotated[str, Field(max_length=200)]
    force: bool = False


def router(asking: Asking) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/versions")

    @routes.get("/story")
    async def told(operator: Operator, store: Opened) -> HTMLResponse:
        """What the circle did, as `guildgpt learn report` writes it."""
        found = await story(store)
        return HTMLResponse(await asyncio.to_thread(render, found), headers=APART)

    @routes.get("")
    async def versions(operator: Operator, store: Opened) -> dict[str, Any]:
        """All of them, and the decision that is open."""
        listed = await list_versions(store)
        stands, counts = await standings(store), (await store.stats()).versions
        there = {one["id"] for one in listed["versions"]}
        rows = [*listed["versions"], *({"id": id} for id in stands if id not in there)]
        is_open = asking.fleet.open_versions
        decision = listed["decision"]
        history = await store.releases.history()
        return {
            "versions": [
                one
                | {"open": one["id"] in is_open, "size": await asyncio.to_thread(_size, one)}
                | _stands(stands.get(one["id"], Standing()))
                | asdict(counts.get(one["id"], VersionStats()))
                for one in rows
            ],
            "decision": decision
            and {key: decision[key] for key in ("candidate_id", "state", "says")},
            "voters": await _voters(store),
            "releases": [
                {
                    "number": of[0].number,
                    "kind": of[0].kind,
                    "why": of[0].why,
                    "at": of[0].created_at,
                    "shares": {one.version_id: one.share for one in of},
                }
                for of in history[:RELEASES]
            ],
        }

    @routes.get("/candidate")
    async def candidate(operator: Operator, store: Opened) -> dict[str, Any]:
        """Who would be promoted, and what the rounds say of it."""
        found = await _candidate(store, None, force=True)
        return {"version": found.version.id, "says": found.says, "against": found.against}

    @routes.post("/promote")
    async def promote(asked: Promoting, operator: Operator, store: Opened) -> dict[str, Any]:
        """The candidate answers everything from now on."""
        found = await _candidate(store, asked.version, force=asked.force)
        try:
            released = await releasing.promote(store, found, asked.why)
        except GuildError as error:
            raise refused(error) from error
        return {"version": asked.version, "number": released[0].number}

    @routes.post("/drop")
    async def drop(asked: Reason, operator: Operator, store: Opened) -> dict[str, Any]:
        """End the trial."""
        try:
            name, released = await releasing.drop(store, asked.why)
        except GuildError as error:
            raise refused(error) from error
        return {"dropped": name, "serves": released[0].version_id}

    @routes.post("/rollback")
    async def rollback(asked: Reason, operator: Operator, store: Opened) -> dict[str, Any]:
        """Back to who served before."""
        try:
            return asdict(await releasing.rollback(store, asked.why))
        except GuildError as error:
            raise refused(error) from error

    @routes.post("/{version}/measure")
    async def measure(version: str, operator: Operator) -> dict[str, Any]:
        """How fast a version that is open writes, to one question by itself."""

        async def work(model: OpenedModel) -> tuple[int, float, float]:
            ids = await asyncio.to_thread(model.prompt, [Message("user", ASKED)])
            began, first, count = time.monotonic(), 0.0, 0
            async for chunk in model.engine.generate(ids, SamplingParams(max_tokens=MEASURED)):
                first = first or time.monotonic() - began
                count += len(chunk.ids)
            return count, first, time.monotonic() - began

        if version not in asking.fleet.open_versions:
            raise Problem(409, f"{version} is not open on this server", code="not_open")
        async with asking.queue.turn(guild=None, user="measure", admitted=True):
            tokens, first, seconds = await asking.fleet.ask(work, version=version)
        rate = (tokens - 1) / (seconds - first) if tokens > 1 and seconds > first else None
        return {"tokens": tokens, "first": first, "tokens_per_second": rate}

    return routes


async def _voters(store: Store) -> dict[str, Any]:
    """How many voted, and of whom something is to be said: by code, as nobody has a name here."""
    found = await store.voters.all()
    noticed = [one for one in found if one.found_at or one.flags][:NOTICED]
    return {
        "says": Electorate.of(found).says,
        "noticed": [
            {"code": one.code, "votes": one.votes, "first": one.first, "last": one.last}
            | {"excluded_since": one.found_at, "flags": one.flags}
            for one in noticed
        ],
    }


async def _candidate(store: Store, id: str | None, *, force: bool) -> releasing.Candidate:
    try:
        return await releasing.candidate(store, id, force=force)
    except GuildError as error:
        raise refused(error) from error


def refused(error: GuildError) -> Exception:
    """What the operator cannot do, in the words of the command; failures of the store stay so."""
    if isinstance(error, StoreError) and type(error) is StoreError:
        return error
    told = f"{error.what}. {error.remedy}" if error.remedy else error.what
    return Problem(409, told, code="refused")


def _stands(standing: Standing) -> dict[str, Any]:
    return {
        "votes": standing.votes,
        "wins": standing.wins and asdict(standing.wins),
        "score": standing.score and asdict(standing.score),
    }


def _size(row: dict[str, Any]) -> int | None:
    """Bytes of its file, or of its folder's weights; None where that is not here."""
    path = Path(row["path"]) if row.get("path") else None
    try:
        if path and path.is_dir():
            return sum(one.stat().st_size for one in path.glob("*.safetensors"))
        return path.stat().st_size if path else None
    except OSError:
        return None
