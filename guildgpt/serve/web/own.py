"""What is kept of a person: theirs to see, to choose about, and to have erased."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from guildgpt.feedback.erasing.own_data import as_json
from guildgpt.feedback.records import Account
from guildgpt.feedback.store import Store
from guildgpt.serve.problems import AsciiJson, Problem
from guildgpt.serve.web.pages import CLOSED
from guildgpt.serve.web.signing import forget
from guildgpt.serve.web.telling import Json
from guildgpt.serve.web.who import Opened, SignedIn


class Chosen(BaseModel):
    """Whether what they write may be learned from."""

    train: bool


class Sure(BaseModel):
    """Their own name, written once more: nobody erases everything by a click that slipped."""

    name: str


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/me")

    @routes.get("/choice")
    async def choice(account: SignedIn, store: Opened) -> Json:
        return {"train": await _consent(store, account) == "train"}

    @routes.put("/choice")
    async def choose(chosen: Chosen, account: SignedIn, store: Opened) -> Json:
        await store.members.set_consent(account.member_id, "train" if chosen.train else "chat")
        return {"train": chosen.train}

    @routes.get("/data")
    async def data(account: SignedIn, store: Opened) -> Response:
        """All of it, as a file."""
        kept = await store.privacy.kept_of_account("web", account.name)
        if kept is None:
            raise Problem(404, "nothing is kept of you")
        name = f'attachment; filename="guildgpt-{datetime.now(UTC):%Y-%m-%d}.json"'
        headers = CLOSED | {"Content-Disposition": name, "Cache-Control": "no-store"}
        file = await asyncio.to_thread(as_json, kept)  # seconds, of who said much
        return Response(file, headers=headers, media_type="application/json")

    @routes.post("/erase")
    async def erase(sure: Sure, account: SignedIn, store: Opened, request: Request) -> Response:
        """Erase everything of theirs, the account and its sessions, too."""
        if sure.name.strip() != account.name:
            raise Problem(400, "that is not your name: nothing was erased", param="name")
        erased = await store.privacy.erase_account("web", account.name)
        response = AsciiJson({"counts": erased.counts, "learned": list(erased.versions)})
        forget(response, request)
        return response

    return routes


async def _consent(store: Store, account: Account) -> str:
    member = await store.members.by_id(account.member_id)
    return member.consent if member else "none"
