"""How work on an event ends before its answer is whole: refused, stopped, superseded."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from guildgpt.bot.text import sentences as say

T = TypeVar("T")
Over = asyncio.Future[None]
"""Set when an answer need not go on: it was stopped, or (then it holds that) lost its place."""


class Refused(Exception):
    """There is a sentence in place of what was asked for, or nothing where that is empty."""

    def __init__(self, say: str, reason: str):
        super().__init__(reason)
        self.say = say
        self.reason = reason


class Stopped(Refused):
    """Somebody does not want the answer any more."""

    def __init__(self) -> None:
        super().__init__(say.STOPPED, "stopped")


class Superseded(Exception):
    """The question says something else now."""


async def unless(over: Over, work: Coroutine[Any, Any, T]) -> T:
    """Do `work`, broken off as soon as `over` is set: raises what it holds, or `Stopped`."""
    task = asyncio.create_task(work)
    try:
        either: list[asyncio.Future[Any]] = [task, over]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        over.result()
        raise Stopped
    finally:
        task.cancel()
        await asyncio.wait({task})
