"""The store beside a server, which answers without one: what does not open is tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from guildgpt.errors import GuildError
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store

log = logging.getLogger(__name__)
AGAIN_SECONDS = 5.0  # until a store that did not open is tried again


async def open_store(url: str, say: Callable[[str], None]) -> Store | None:
    """The store, made where there is none; None where it does not open, and `say` is told why."""
    try:
        return await Store.open(url, key=member_key(url))
    except GuildError as error:
        where = f" ({error.where})" if error.where else ""
        say(f"The store does not open: {error.what}{where}. {error.remedy or ''}".rstrip())
        say("Models answer all the same, and it is tried again.")
        return None


async def open_later(url: str) -> Store:
    """The store, as soon as it opens."""
    while True:
        await asyncio.sleep(AGAIN_SECONDS)
        try:
            store = await Store.open(url, key=member_key(url))
        except GuildError:
            continue  # which was said at the start
        log.warning("the store is open")
        return store
