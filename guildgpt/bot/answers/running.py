"""Events that are being worked on: who may end one, and what was taken back meanwhile."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from guildgpt.bot.answers.answering import LiveAnswer, Over
from guildgpt.bot.answers.events import Event, Work
from guildgpt.bot.answers.outlet import Outlet
from guildgpt.bot.text import sentences as say
from guildgpt.feedback.records import Member

RECENT_EDITS = 100  # remembered for messages that are being claimed


class Recent:
    """The last `limit` ids that were added."""

    def __init__(self, limit: int = 10_000):
        self._limit = limit
        self._ids: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, id: int) -> bool:
        """Whether it was added of late."""
        return id in self._ids

    def add(self, id: int) -> bool:
        """Remember an id; whether it is new."""
        is_new = id not in self._ids
        self._ids[id] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return is_new


class Superseded(Exception):
    """The question says something else now."""


@dataclass(eq=False)
class Running:
    """An event that is being worked on: whose it is, and how to end it. Its `work` changes when its
    message is edited."""

    work: Work
    member: Member
    outlet: Outlet
    live: LiveAnswer
    over: Over
    is_answering: bool = False  # then an edit comes too late for it
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def supersede(self) -> None:
        """Another answer is going to be written over this one."""
        if not self.over.done():
            self.over.set_exception(Superseded())

    def stop(self) -> None:
        """Nobody wants the answer any more."""
        if not self.over.done():
            self.over.set_result(None)


class AllRunning:
    """Everything that is being worked on in this process."""

    def __init__(self) -> None:
        self._running: dict[str, Running] = {}  # by the answers' ids
        self._coming: set[int] = set()  # events that are being claimed, and will be worked on
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
        self._coming.discard(work.event.id)
        try:
            yield running
        finally:
            del self._running[work.answer_id]
            running.ended.set()
            if not over.cancel() and not over.cancelled():
                over.exception()  # seen, even if nobody waited for it any more

    def expect(self, event_id: int) -> None:
        """An event is going to be `registered`, unless it is `dismissed`."""
        self._coming.add(event_id)

    def dismiss(self, event_id: int) -> None:
        """It is not worked on."""
        self._coming.discard(event_id)

    def is_coming(self, event_id: int) -> bool:
        """Whether it is going to be worked on, and will take on what its message says then."""
        return event_id in self._coming

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

    def edit(self, event: Event) -> bool:
        """A message says something else now; one that says nothing any more is taken back. Whether
        that is news, and there is something to answer."""
        known = self._edited.get(event.id)
        known = known or next((r.work.event for r in self._of(event.id)), None)
        if known and not known.is_older_than(event):
            return False
        if not event.text:
            self.take_back(event.id)
            return False
        self.revision += 1
        self._edited[event.id] = event
        if len(self._edited) > RECENT_EDITS:
            self._edited.popitem(last=False)
        for running in self._of(event.id):
            _take_on(running, event)
        return True

    def as_it_is(self, event: Event) -> Event:
        """The event as its message is by now."""
        edited = self._edited.get(event.id)
        return _edited(event, edited) if edited else event

    def of(self, message_id: int) -> Running | None:
        """The work on the question that a message asks."""
        return next(iter(self._of(message_id)), None)

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
    running.work = replace(running.work, event=_edited(running.work.event, edited))


def _edited(event: Event, edited: Event) -> Event:
    return replace(event, text=edited.text, names=edited.names, edited_at=edited.edited_at)
