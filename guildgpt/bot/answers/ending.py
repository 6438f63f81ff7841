"""How work on an event ends, be its answer whole or not: refused, stopped, superseded."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from guildgpt.bot.answers.outlet import Why
from guildgpt.bot.text import sentences as say

T = TypeVar("T")
Over = asyncio.Future[None]
"""Holds why an answer need not go on, once there is a reason: it was stopped, or lost its place."""
SENTENCES: dict[Why, str] = {  # where Discord did not take the answer
    "withheld": say.WITHHELD,
    "forbidden": say.MAY_NOT_GO_ON,
    "refused": say.NOT_TAKEN,
    "gone": "",
    "unreachable": "",
}


@dataclass(frozen=True, slots=True)
class End:
    """How an event ended: its delivery's state, what is said in an answer's place, and `why`
    Discord did not take the answer, or for what `reason` it was refused, if it is that."""

    state: str
    sentence: str | None = None
    why: Why | None = None
    reason: str = ""


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


def end_early(over: Over, why: Exception) -> None:
    """An answer need not go on; the first reason counts."""
    if not over.done():
        over.set_exception(why)


async def unless(over: Over, work: Coroutine[Any, Any, T]) -> T:
    """Do `work`, broken off as soon as there is a reason: raises that."""
    task = asyncio.create_task(work)
    try:
        either: list[asyncio.Future[Any]] = [task, over]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            over.result()
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})
