"""A store that is opened by its URL: it works, or says why not."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from guildgpt.errors import StoreError
from guildgpt.feedback.store import Store

from .conftest import KEY
from .postgres import PASSWORD

PATIENCE = 0.3


async def works(url: str) -> None:
    """A unit of work of each kind, in the store at the URL."""
    async with await Store.open(url, key=KEY) as store:
        await store.places.see(1, 1, None)
        assert await store.places.marks() == {1: (None, 1)}


async def opened_in_vain(url: str) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await Store.open(url, key=KEY, patience=PATIENCE)
    assert caught.value.remedy
    assert PASSWORD not in str(caught.value)
    return caught.value


async def asked(store: Store, statement: str) -> list[Any]:
    """What the server says within a unit of work."""
    return [tuple(row) for row in await store.database.rows(text(statement))]
