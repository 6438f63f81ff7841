"""Who it is that comes to the page: by the session in their cookie, or at the machine itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from pydantic import AfterValidator

from guildgpt.feedback.records import Account
from guildgpt.feedback.rows import storable
from guildgpt.feedback.store import Store
from guildgpt.serve.problems import Problem

COOKIE = "guildgpt_session"


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
    store = store_of(request)
    token = request.cookies.get(COOKIE)
    account = await store.accounts.of_session(token) if token else None
    if account is None and request.state.local and not await store.accounts.somebody_came():
        account = await store.accounts.local()
    if account is None:
        raise Problem(401, "you are not signed in", code="sign_in")
    return account


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
