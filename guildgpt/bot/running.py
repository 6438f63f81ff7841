"""Events that are being worked on: who may end one, and what was taken back meanwhile."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from guildgpt.bot import sentences as say
from guildgpt.bot.answering import LiveAnswer, Over
from guildgpt.bot.events import Event, Work
from guildgpt.bot.outlet import Outlet
from guildgpt.bot.recent import Recent
from guildgpt.feedback.records import Member

RECENT_EDITS = 100  # remembered for messages that are being claimed


@dataclass(eq=False)
class Running:
    """An event that is being worked on: whose it is, and how to end it. Its `work` changes when its
    message is edited."""

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
        self._edited: OrderedDict[int, Event] = OrderedDict()  # the last ones, as they are now
        self.revision = 0  # how often a message was deleted or edited

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
        if edited := self._edited.get(work.event.id):
            _take_on(running, edited)
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

    def lost_parts(self, running: Running) -> list[int]:
        """The messages of its answer that somebody else has deleted."""
        return [id for id in running.live.message_ids if id in self._deleted]

    def take_back(self, message_id: int) -> None:
        """A message was deleted: nobody waits for an answer to it, or for the rest of it."""
        self.revision += 1
        self._deleted.add(message_id)
        for running in self._running.values():
            if message_id in (running.work.event.id, *running.live.message_ids):
                running.stop()

    def edit(self, event: Event) -> None:
        """A message says something else now; one that says nothing any more is taken back."""
        known = self._edited.get(event.id)
        known = known or next((r.work.event for r in self._of(event.id)), None)
        if known and not known.is_older_than(event):
            return
        if not event.text:
            self.take_back(event.id)
            return
        self.revision += 1
        self._edited[event.id] = event
        if len(self._edited) > RECENT_EDITS:
            self._edited.popitem(last=False)
        for running in self._of(event.id):
            _take_on(running, event)

    def _of(self, message_id: int) -> list[Running]:
        return [r for r in self._running.values() if r.work.event.id == message_id]

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


def _take_on(running: Running, edited: Event) -> None:
    """Answer what the message says now."""
    now = replace(running.work.event, text=edited.text, names=edited.names)
    now = replace(now, edited_at=edited.edited_at)
    running.work = replace(running.work, event=now)
