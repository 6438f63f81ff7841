"""Asking a store that may be in trouble: until it answers, or with something else instead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from guildgpt.bot.operating.logs import EventLog
from guildgpt.errors import StoreError

log = EventLog(__name__)
T = TypeVar("T")
RETRY_SECONDS = 2.0  # until the store is asked again


async def insist(work: Callable[[], Awaitable[T]]) -> T:
    """What the store says to `work`, however long it takes until it says something."""
    while True:
        try:
            return await work()
        except StoreError as error:
            log("store_failed", error=error)
            await asyncio.sleep(RETRY_SECONDS)


async def or_else(otherwise: T, work: Awaitable[T]) -> T:
    """What the store says, or `otherwise` while it is in trouble."""
    try:
        return await work
    except StoreError as error:
        log("store_failed", error=error)
        return otherwise
