"""The operator's page of people: accounts, links that let somebody in, and ending them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from guildgpt.errors import RecordGone, SignInRefused
from guildgpt.feedback.records import Account, AccountRole
from guildgpt.serve.problems import Problem
from guildgpt.serve.web.who import Opened, Operator


class Inviting(BaseModel):
    """For whom a link is."""

    role: AccountRole = "voter"
    name: Annotated[str, Field(max_length=200)] = ""


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/people")

    @routes.get("")
    async def people(operator: Operator, store: Opened) -> dict[str, Any]:
        """Everybody, and the links that still let somebody in."""
        return {
            "accounts": [_shown(one, operator) for one in await store.accounts.all()],
            "invitations": [
                {
                    "id": one.id,
                    "role": one.role,
                    "name": one.name,
                    "again": one.account_id,
                    "expires_at": one.expires_at,
                }
                for one in await store.accounts.invitations()
            ],
            "alone": not await store.accounts.somebody_came(),
        }

    @routes.post("/invite")
    async def invite(
        asked: Inviting, operator: Operator, store: Opened, request: Request
    ) -> dict[str, Any]:
        """A link that makes an account: it is told once."""
        try:
            token = await store.accounts.invite(asked.role, asked.name.strip() or None)
        except SignInRefused as error:
            raise Problem(409, f"{error.what}. {error.remedy}", code="name") from error
        return {"link": _link(request, token)}

    @routes.post("/{id}/link")
    async def link(id: str, operator: Operator, store: Opened, request: Request) -> dict[str, Any]:
        """A link that signs an account in on a further device."""
        try:
            token = await store.accounts.invite("voter", account_id=id)
        except RecordGone as error:
            raise _gone() from error
        # Their own leads them to where they are: the session that it begins is that place's.
        return {"link": _link(request, token, is_own=id == operator.id)}

    @routes.post("/{id}/end")
    async def end(id: str, operator: Operator, store: Opened) -> dict[str, Any]:
        """Sign an account out for good; its votes stay."""
        if id == operator.id:
            what = "you would lock yourself out: another operator can end your account"
            raise Problem(409, what, code="yourself")
        try:
            return _shown(await store.accounts.end(id), operator)
        except RecordGone as error:
            raise _gone() from error

    @routes.delete("/invitations/{id}")
    async def withdraw(
        id: str, operator: Operator, store: Opened, request: Request
    ) -> dict[str, Any]:
        """Let a link let nobody in."""
        if not await store.accounts.withdraw(id):
            raise Problem(410, "this link lets nobody in any more", code="gone")
        return {}

    return routes


def _link(request: Request, token: str, *, is_own: bool = False) -> str:
    """Where the link leads: to the page as this browser has it, unless others are told to come by
    a public name of the server's, which a proxy serves by https."""
    here = request.headers["origin"]  # what changes something has one: see `Guard`
    names: tuple[str, ...] = request.app.state.public_names
    if is_own or not names or here.partition("://")[2] in names:
        address = here
    else:
        address = f"https://{names[0]}"
    return f"{address}/join#{token}"


def _gone() -> Problem:
    return Problem(410, "there is no such account, or it was ended", code="gone")


def _shown(one: Account, operator: Account) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "role": one.role,
        "created_at": one.created_at,
        "ended_at": one.ended_at,
        "you": one.id == operator.id,
    }
