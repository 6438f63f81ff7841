"""What changes at Discord, and has to change in the store: messages, channels, guilds. And a
question that is edited is answered anew: its new answer is written over the old one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from guildgpt.bot.answers.ending import Superseded, end_early
from guildgpt.bot.answers.events import Event, Work, claimed, packed
from guildgpt.bot.answers.outlet import Outlet
from guildgpt.bot.answers.running import AllRunning, Running
from guildgpt.bot.operating.guilds import Guilds
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.operating.postponed import or_else
from guildgpt.feedback.messages.postponed import Postponed
from guildgpt.feedback.records import Delivery, Erasure, Member
from guildgpt.feedback.store import Store

log = EventLog(__name__)

CarryOut = Callable[[Work, Member, Outlet], Awaitable[bool]]
"""Answers a question; whether it was superseded meanwhile."""


@dataclass
class Changes:
    """Follows Discord, at once or as soon as the store can. `on_channel_deleted` and
    `on_guild_left` are told first: what others still know of a channel or guild may not be written
    after it is gone."""

    store: Store
    postponed: Postponed
    guilds: Guilds
    running: AllRunning
    on_channel_deleted: Callable[[int], None] = lambda channel_id: None
    on_guild_left: Callable[[int], None] = lambda guild_id: None
    on_message_deleted: Callable[[int], None] = lambda message_id: None

    async def message_deleted(self, message_id: int) -> None:
        """A message was deleted, a member's or the bot's: its text goes, what quotes it goes, and
        nobody waits for an answer to it."""
        self.running.take_back(message_id)
        self.on_message_deleted(message_id)
        await self._write("deleted", lambda: self.store.revisions.mark_deleted(message_id))

    async def message_edited(self, event: Event) -> None:
        """A message says something else now."""
        id, text, edited_at = event.id, event.text, event.edited_at
        assert edited_at
        await self._write("edited", lambda: self.store.revisions.edit(id, text, edited_at))

    async def channel_deleted(self, guild_id: int, channel_id: int) -> None:
        """A channel or thread is no more: the guild's settings forget it, and what was said in it
        and in its threads goes."""
        homes = await self.channels_of(guild_id)
        for id in (channel_id, *(thread for thread, home in homes.items() if home == channel_id)):
            self.on_channel_deleted(id)
        # What cannot be written is looked up again at the next start.
        await or_else(None, self.guilds.forget_channels(guild_id, {channel_id}))
        await self._write(
            "channel_deleted", lambda: self.store.places.delete_channels([channel_id])
        )

    async def guild_left(self, guild_id: int) -> None:
        """The bot was taken out of a guild: what was said there goes after a while."""
        self.on_guild_left(guild_id)
        self.guilds.forget(guild_id)
        await self.postponed.do(lambda: self.store.places.guild_left(guild_id))

    async def guild_joined(self, guild_id: int) -> None:
        """The bot was let into a guild, perhaps again."""
        await self.postponed.do(lambda: self.store.places.guild_joined(guild_id))

    async def in_guilds(self, present: Collection[int]) -> None:
        """These are all the guilds that the bot is in."""
        await self.postponed.do(lambda: self.store.places.in_guilds(present))

    async def channels_of(self, guild_id: int) -> Mapping[int, int | None]:
        """The guild's channels and threads of which something is kept, and what each hangs from."""
        return await or_else({}, self.store.places.channels_of(guild_id))

    async def named_channels(self, guild_id: int) -> Collection[int]:
        """The channels that a guild's settings name."""
        rules = await or_else(None, self.guilds.rules(guild_id))
        if rules is None:
            return ()
        reports = [rules.reports_channel] if rules.reports_channel else []
        return {*rules.channels, *rules.channel_systems, *rules.rounds, *reports}

    async def _write(self, what: str, change: Callable[[], Awaitable[Erasure]]) -> None:
        """Make a change, and log what goes and how many versions had learned from it: the store
        lists them."""

        async def write() -> None:
            erasure = await change()
            if erasure.counts:
                rows = sum(erasure.counts.values())
                log(what, rows=rows, versions=len(erasure.versions))

        await self.postponed.do(write)


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
                    Work(delivery, event), member, outlet
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
