"""Events that are being worked on: who may end one, and what was taken back meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from guildgpt.bot import sentences as say
from guildgpt.bot.answering import LiveAnswer, Over
from guildgpt.bot.events import Work
from guildgpt.bot.outlet import Outlet
from guildgpt.bot.recent import Recent
from guildgpt.feedback.records import Member


@dataclass(frozen=True)
class Running:
    """An event that is being worked on: whose it is, and how to end it."""

    work: Work
    member: Member
    outlet: Outlet
    live: LiveAnswer
    over: Over

    def stop(self) -> None:
        """Nobody wants the answer any more."""
        if not self.over.done():
            self.over.set_result(None)


class AllRunning:
    """Everything that is being worked on in this process."""

    def __init__(self) -> None:
        self._running: dict[str, Running] = {}  # by the answers' ids
        self._deleted = Recent()  # messages

    def __len__(self) -> int:
        """How many there are."""
        return len(self._running)

    @contextmanager
    def registered(
        self, work: Work, member: Member, outlet: Outlet, live: LiveAnswer
    ) -> Iterator[Running]:
        """The event among those that can be stopped, while the block runs."""
        over: Over = asyncio.get_running_loop().create_future()
        running = Running(work, member, outlet, live, over)
        if self.is_taken_back(work):
            running.stop()
        self._running[work.answer_id] = running
        try:
            yield running
        finally:
            del self._running[work.answer_id]
            if not over.cancel() and not over.cancelled():
                over.exception()  # seen, even if nobody waited for it any more

    def is_taken_back(self, work: Work) -> bool:
        """Whether its message was deleted."""
        return work.event.id in self._deleted

    def take_back(self, message_id: int) -> None:
        """A message was deleted: nobody waits for an answer to it."""
        self._deleted.add(message_id)
        for running in self._running.values():
            if running.work.event.id == message_id:
                running.stop()

    def stop(self, member: Member, answer_id: str | None, channel_id: int, *, admin: bool) -> str:
        """Stop an answer: that one, or all of the member's in the channel; what to tell them."""
        found = [
            running
            for key, running in self._running.items()
            if running.work.event.channel_id == channel_id and answer_id in (None, key)
        ]
        if not found:
            return say.NOTHING_TO_STOP
        theirs = [r for r in found if r.member.id == member.id or (answer_id and admin)]
        for running in theirs:
            running.stop()
        return say.STOPPED if theirs else say.NOT_YOURS
