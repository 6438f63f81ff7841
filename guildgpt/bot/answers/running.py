"""Events that are being worked on: who may end one, and what was taken back meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from guildgpt.bot.answers.answering import LiveAnswer
from guildgpt.bot.answers.ending import Over, Stopped, end_early
from guildgpt.bot.answers.events import Event, Recent, Work
from guildgpt.bot.text import sentences as say
from guildgpt.feedback.records import Member

RECENT_EDITS = 100  # remembered for messages that are being claimed


@dataclass(eq=False)
class Running:
    """An event that is being worked on: whose it is, and how to end it. Its `work` changes when its
    message is edited."""

    work: Work
    member: Member
    live: LiveAnswer
    over: Over
    is_answering: bool = False  # then an edit comes too late for it
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class AllRunning:
    """Everything that is being worked on in this process."""

    coming: set[int] = field(default_factory=set)  # events being claimed: they take on every edit
    revision: int = 0  # how often a message was deleted or edited
    _running: dict[str, Running] = field(default_factory=dict)  # by the answers' ids
    _deleted: Recent[int, None] = field(default_factory=Recent)  # messages
    # Messages as they are now.
    _edited: Recent[int, Event] = field(default_factory=lambda: Recent(RECENT_EDITS))

    def __len__(self) -> int:
        """How many there are."""
        return len(self._running)

    @contextmanager
    def registered(self, work: Work, member: Member, live: LiveAnswer) -> Iterator[Running]:
        """The event among those that can be stopped, while the block runs."""
        over: Over = asyncio.get_running_loop().create_future()
        work = replace(work, event=self.as_it_is(work.event))
        running = Running(work, member, live, over)
        if work.event.id in self._deleted:
            end_early(running.over, Stopped())
        self._running[work.answer_id] = running
        self.coming.discard(work.event.id)
        try:
            yield running
        finally:
            del self._running[work.answer_id]
            running.ended.set()
            if not over.cancel() and not over.cancelled():
                over.exception()  # seen, even if nobody waited for it any more

    def taken_back(self, running: Running) -> list[int]:
        """Which were deleted of its message and those of its answer."""
        its = (running.work.event.id, *running.live.message_ids)
        return [id for id in its if id in self._deleted]

    def take_back(self, message_id: int) -> None:
        """A message was deleted: nobody waits for an answer to it, or for the rest of it."""
        self.revision += 1
        self._deleted[message_id] = None
        for running in self._running.values():
            if message_id in (running.work.event.id, *running.live.message_ids):
                end_early(running.over, Stopped())

    def edit(self, event: Event) -> bool:
        """A message says something else now; one that says nothing any more is taken back. Whether
        that is news, and there is something to answer."""
        running = self.of(event.id)
        known = self._edited.get(event.id) or (running and running.work.event)
        if known and not known.is_older_than(event):
            return False
        if not event.text:
            self.take_back(event.id)
            return False
        self.revision += 1
        self._edited[event.id] = event
        if running:  # it answers what the message says now
            running.work = replace(running.work, event=self.as_it_is(running.work.event))
        return True

    def as_it_is(self, event: Event) -> Event:
        """The event as its message is by now."""
        edited = self._edited.get(event.id, event)
        return replace(event, text=edited.text, names=edited.names, edited_at=edited.edited_at)

    def of(self, message_id: int) -> Running | None:
        """The work on the question that a message asks."""
        return next((r for r in self._running.values() if r.work.event.id == message_id), None)

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
            end_early(running.over, Stopped())
        return say.STOPPED if theirs else say.NOT_YOURS
