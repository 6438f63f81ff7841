"""A question that is edited is answered anew: its new answer is written over the old one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from guildgpt.bot.answers.ending import Superseded, end_early
from guildgpt.bot.answers.events import Event, Work, claimed, packed
from guildgpt.bot.answers.outlet import Outlet
from guildgpt.bot.answers.running import AllRunning, Running
from guildgpt.feedback.records import Delivery, Member
from guildgpt.feedback.store import Store

CarryOut = Callable[[Work, Member, Outlet], Awaitable[bool]]
"""Answers a question; whether it was superseded meanwhile."""


@dataclass
class Rewriting:
    """The questions that are being answered anew."""

    store: Store
    running: AllRunning
    carry_out: CarryOut
    _under_way: set[int] = field(default_factory=set)

    async def is_due(self, event: Event) -> bool:
        """Whether an edited question says something else than the store has of it, and nobody has
        gone on from its answer. Ask before the store has the edit."""
        asked = await self.store.conversations.message_by_discord_id(event.id)
        if asked and asked.deleted:
            delivery = await self.store.deliveries.of_event(event.id)
            return delivery is not None and delivery.question_id != asked.id  # it is kept no more
        if asked and asked.text.split() == event.text.split():
            return False
        if asked and asked.edited_at and event.edited_at and asked.edited_at >= event.edited_at:
            return False  # it says what it said; Discord only told something else about it
        return not await self.store.deliveries.goes_on(event.id)

    def begin(
        self, event: Event, member: Member, outlet: Outlet
    ) -> Coroutine[Any, Any, None] | None:
        """The work on a question that is due; None if it is under way, and takes on the edit."""
        running = self.running.of(event.id)
        if event.id in self.running.coming or (running and not running.is_answering):
            return None
        if running:
            end_early(running.over, Superseded())
        if event.id in self._under_way:
            return None
        self._under_way.add(event.id)
        return self._rewrite(event, member, outlet, running)

    async def _rewrite(
        self, event: Event, member: Member, outlet: Outlet, running: Running | None
    ) -> None:
        try:
            if running:
                await running.ended.wait()
            superseded = True
            while superseded:
                event = self.running.as_it_is(event)
                delivery = await self._opened(event, member)
                superseded = delivery is not None and await self.carry_out(
                    Work.new(delivery, event), member, outlet
                )
        finally:
            self._under_way.discard(event.id)

    async def _opened(self, event: Event, member: Member) -> Delivery | None:
        """The question's delivery, to be made once more, without the answer that it had."""
        delivery = await self.store.deliveries.of_event(event.id)
        if delivery is None:  # the store was in trouble when it was asked
            return await claimed(self.store, event, member)
        if event.id in self.running.coming or self.running.of(event.id):
            return None  # it was being claimed when the edit came, and takes it on
        if member.consent == "none":  # what was kept of it is not what it says now
            delivery = replace(delivery, question_id=None)
        await self.store.deliveries.update(
            delivery.id,
            state="pending",
            question_id=delivery.question_id,
            answer_id=None,
            extra=packed(event, member),
        )
        if delivery.answer_id and await self.store.conversations.message(delivery.answer_id):
            await self.store.revisions.withdraw(delivery.answer_id)
        return delivery
