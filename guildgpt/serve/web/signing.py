"""Coming and going: links that let somebody in, their sessions, and signing out."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from guildgpt.errors import SignInRefused
from guildgpt.feedback.people.accounts import STAYS
from guildgpt.feedback.records import Account
from guildgpt.serve.problems import AsciiJson, Problem
from guildgpt.serve.web.who import COOKIE, Id, Opened, SignedIn, account_of, here, tokens_of

Token = Annotated[str, Field(min_length=1, max_length=200)]


class Link(BaseModel):
    """A link's token: it came behind the address' `#`, so that it is in no log."""

    token: Token


class Coming(Link):
    """A link is used, under a name if it makes a new account."""

    name: Annotated[str, Field(max_length=1000)] | None = None


class Called(BaseModel):
    """What somebody wants to be called."""

    name: Annotated[str, Field(max_length=1000)]


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.get("/me")
    async def me(account: SignedIn) -> dict[str, Any]:
        return told(account)

    @routes.patch("/me")
    async def rename(called: Called, account: SignedIn, store: Opened) -> dict[str, Any]:
        """Be called otherwise."""
        try:
            return told(await store.accounts.rename(account.id, called.name))
        except SignInRefused as error:
            raise Problem(
                409, f"{error.what}. {error.remedy}", param="name", code="name"
            ) from error

    @routes.get("/signed-in")
    async def signed_in(request: Request) -> dict[str, bool]:
        """Whether they are: for the page that asks people to, where it is no error not to be."""
        try:
            await account_of(request)
        except Problem as problem:
            if problem.status != 401:  # nobody can say, without the store
                raise
            return {"signed_in": False}
        return {"signed_in": True}

    @routes.post("/invitation")
    async def invitation(link: Link, store: Opened) -> dict[str, Any]:
        """What a link is for, before it is used."""
        found = await store.accounts.invitation(link.token)
        if found is None:
            what = (
                "this link was used, is too old, or was never one: ask who invited you for another"
            )
            raise Problem(404, what, code="link")
        return {"role": found.role, "name": found.name, "again": found.account_id is not None}

    @routes.post("/join")
    async def join(coming: Coming, request: Request, store: Opened) -> Response:
        device = request.headers.get("user-agent", "")
        account, token = await store.accounts.accept(coming.token, coming.name, device)
        response = AsciiJson(told(account))
        set_cookie(response, request, COOKIE, token)
        return response

    @routes.post("/leave")
    async def leave(request: Request, store: Opened) -> Response:
        """Sign out here."""
        for token in tokens_of(request):
            await store.accounts.sign_out(token)
        response = AsciiJson({})
        forget(response, request)
        return response

    @routes.get("/sessions")
    async def sessions(account: SignedIn, store: Opened, request: Request) -> list[dict[str, Any]]:
        """Where they are signed in."""
        current = [await store.accounts.session(token) for token in tokens_of(request)]
        found = await store.accounts.sessions(account.id)
        return [asdict(one) | {"here": one in current} for one in found]

    @routes.delete("/sessions/{id}")
    async def end(id: Id, account: SignedIn, store: Opened) -> dict[str, Any]:
        """Sign out there."""
        if not await store.accounts.end_session(id, account.id):
            raise Problem(404, "you are not signed in there any more")
        return {}

    return routes


def told(account: Account) -> dict[str, Any]:
    """An account as its page knows it."""
    return {"id": account.id, "name": account.name, "role": account.role}


def forget(response: Response, request: Request) -> None:
    """End the cookies that a browser came with."""
    for name in {COOKIE, here(request)} & request.cookies.keys():
        set_cookie(response, request, name, "", timedelta(0))


def set_cookie(
    response: Response, request: Request, name: str, token: str, stays: timedelta = STAYS
) -> None:
    """Set a cookie of a session. Behind https, which the page's own origin tells, it is sent by no
    other way; no script reads it, and no page from elsewhere has it sent along."""
    response.set_cookie(
        name,
        token,
        max_age=int(stays.total_seconds()),
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.headers.get("origin", "").startswith("https://"),
    )
