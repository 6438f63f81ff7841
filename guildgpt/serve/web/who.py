"""Who it is that comes to the page: by the session in their cookie, or at the machine itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from pydantic import AfterValidator

from guildgpt.errors import StoreError
from guildgpt.feedback.records import Account
from guildgpt.feedback.storage.rows import storable
from guildgpt.feedback.store import Store
from guildgpt.serve.problems import Problem

COOKIE = "guildgpt_session"
THIS_MACHINE = "this machine"  # the device of a session that began without a link


def store_of(request: Request) -> Store:
    """The store; raises `Problem` 503 while there is none."""
    store: Store | None = request.app.state.store
    if store is None:
        what = "the store is not open, and without it there is no page; the operator's log says why"
        raise Problem(503, what, code="no_store")
    return store


async def account_of(request: Request) -> Account:
    """Who is signed in; raises `Problem` 401 where nobody is.

    Where the server is this machine's alone (`Guard` knows), whoever comes is its operator, until
    somebody has signed in by a link: from then on everybody does, the operator, too.
    """
    account = await _by_session(request) or await _at_this_machine(request)
    if account is None:
        raise Problem(401, "you are not signed in", code="sign_in")
    return account


async def account_and_session(request: Request) -> tuple[Account | None, str | None]:
    """Who opens a page, None where nobody is signed in, and the token of the session that begins.

    One begins for the operator at this machine alone: so they stay signed in, in the middle of what
    they do, when somebody comes by a link. A program keeps no cookie, and gets none.
    """
    if account := await _by_session(request):
        return account, None
    account = await _at_this_machine(request)
    if account is None or "text/html" not in request.headers.get("accept", ""):
        return account, None
    try:
        return account, await store_of(request).accounts.begin(account.id, THIS_MACHINE)
    except StoreError:  # full, or locked: there is still the page
        return account, None


def here(request: Request) -> str:
    """The name of the cookie of who signed in without a link. It has the port in it: what several
    servers on one machine set, browsers would take for one cookie."""
    _, port = request.scope["server"]
    return f"guildgpt_here_{port}"


def tokens_of(request: Request) -> list[str]:
    """The sessions that a browser comes with."""
    return [token for name in (COOKIE, here(request)) if (token := request.cookies.get(name))]


async def _by_session(request: Request) -> Account | None:
    store = store_of(request)
    for token in tokens_of(request):
        if account := await store.accounts.of_session(token):
            return account
    return None


async def _at_this_machine(request: Request) -> Account | None:
    accounts = store_of(request).accounts
    if request.state.local and not await accounts.somebody_came():
        return await accounts.local()
    return None


async def operator_of(request: Request) -> Account:
    """The operator who is signed in; raises `Problem` 401 where nobody is, 403 for others."""
    account = await account_of(request)
    if account.role != "operator":
        raise Problem(403, "this is the operator's", code="operator")
    return account


# An id as it comes: what no database could hold, PostgreSQL would not even look for.
Id = Annotated[str, AfterValidator(storable)]
Opened = Annotated[Store, Depends(store_of)]
SignedIn = Annotated[Account, Depends(account_of)]
Operator = Annotated[Account, Depends(operator_of)]
