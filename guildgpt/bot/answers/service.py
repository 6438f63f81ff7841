"""What the bot does with each event: a question, a second try, a comparison.

Nothing here knows Discord: events come in, and answers go out through an `Outlet`. An event is
claimed in the store before anything else is done, so that it is answered once however often it
comes, and taken up again after a crash.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from guildgpt.bot.answers.answering import LiveAnswer
from guildgpt.bot.answers.changes import Changes, Rewriting
from guildgpt.bot.answers.ending import SENTENCES, End, Refused, Superseded
from guildgpt.bot.answers.events import Event, Recent, Work, claimed
from guildgpt.bot.answers.generating import Generator
from guildgpt.bot.answers.outlet import Outlet, Undeliverable
from guildgpt.bot.answers.pacing import ChannelWriter, Courtesy, Pacer
from guildgpt.bot.answers.replying import Replies
from guildgpt.bot.answers.running import AllRunning, Running
from guildgpt.bot.answers.systems import Systems
from guildgpt.bot.operating.guilds import Guilds
from guildgpt.bot.operating.health import Metrics
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.operating.postponed import insist, or_else
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.bot.text import sentences as say
from guildgpt.engines.engine import SamplingParams
from guildgpt.errors import EngineError, ModelError, RecordGone, StoreError
from guildgpt.feedback.messages.postponed import Postponed
from guildgpt.feedback.records import Delivery, Member
from guildgpt.feedback.store import Store
from guildgpt.talk.fleet import Fleet
from guildgpt.talk.moderation import Moderator
from guildgpt.talk.waiting import FairQueue

log = EventLog(__name__)
UNKNOWN_CHANNEL = 10003  # Discord's code for one that was deleted


Rest = Coroutine[Any, Any, object] | None
"""The work that is left when an event is claimed; None for an event that gets no answer."""


@dataclass
class Service:
    """Answers events; see the module."""

    store: Store
    fleet: Fleet
    settings: BotSettings
    moderator: Moderator
    clock: Callable[[], float]
    chance: random.Random
    metrics: Metrics

    def __post_init__(self) -> None:
        settings = self.settings
        self.guilds = Guilds(self.store, settings)
        self.postponed = Postponed(log)
        self.pacer = Pacer(self.clock)
        self.writer = ChannelWriter(self.pacer, self.clock)
        self.sampling = SamplingParams(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
        )
        self._generator = Generator(self.fleet, self.sampling, self.moderator, self.metrics)
        self.systems = Systems(self.guilds, self._generator)
        self.running = AllRunning()
        self.changes = Changes(self.store, self.postponed, self.guilds, self.running)
        self._seen: Recent[int, None] = Recent()  # events
        self.courtesy = Courtesy(
            settings.questions_per_user, settings.questions_seconds, self.clock
        )
        self.queue = FairQueue(
            settings.workers,
            bound=settings.queue_bound,
            per_user=settings.waiting_per_user,
            rate=settings.questions_per_user,
            per_seconds=settings.questions_seconds,
            clock=self.clock,
        )
        self._replies = Replies(
            self.store,
            self.postponed,
            self.guilds,
            self._generator,
            self.queue,
            self.running,
            self.moderator,
            self.chance,
            self.metrics,
        )
        self._rewriting = Rewriting(self.store, self.running, self._carry_out)

    async def resume(self, delivery: Delivery, outlet: Outlet) -> None:
        """Take up an event that was claimed before a crash and not finished."""
        work = Work.of_old(delivery)
        self.running.coming.add(work.event.id)
        member_id = str(delivery.extra.get("member_id", ""))  # empty: they deleted it meanwhile
        member = await insist(lambda: self.store.members.by_id(member_id))
        if member is None:  # erased meanwhile, or the question was deleted
            self.running.coming.discard(work.event.id)
            await self.postponed.do(
                lambda: self.store.deliveries.update(delivery.id, state="skipped", extra={})
            )
            return
        log("taken_up", kind=delivery.kind, guild=delivery.guild_id)
        await self._carry_out(work, member, outlet)

    async def claim(self, event: Event, outlet: Outlet) -> Rest:
        """Claim a question, a second try or a comparison, which nobody else answers then. Returns
        the work that is left to do, if any."""
        if event.id in self._seen:  # the store says so, too, unless it is in trouble
            self._note_duplicate(event)
            return None
        self._seen[event.id] = None
        self.running.coming.add(event.id)
        try:
            member = await self.store.members.of_user(event.asker.user_id)
            delivery = await claimed(self.store, event, member)
        except StoreError as error:
            self.running.coming.discard(event.id)
            return self._without_store(error, event, outlet)
        if delivery is None:
            self.running.coming.discard(event.id)
            self._note_duplicate(event)
            return None
        return self._carry_out(Work(delivery, event), member, outlet)

    def _without_store(self, error: StoreError, event: Event, outlet: Outlet) -> Rest:
        self._note_failure("store", error, event.guild_id)
        told = outlet.is_private or self.courtesy.tells(event.asker.user_id, "store-down")
        return self.writer.whisper(outlet, say.STORE_DOWN) if told else None

    def _note_duplicate(self, event: Event) -> None:
        log("seen_before", guild=event.guild_id)
        self.metrics.duplicates.inc()

    async def _carry_out(self, work: Work, member: Member, outlet: Outlet) -> bool:
        """Run one claimed event to its end, and write down how it ended; whether it was superseded:
        then that is still open."""
        begun = self.clock()
        live = self._live(work, outlet)
        with self.running.registered(work, member, live) as running:
            try:
                end = await self._outcome(running)
            except Superseded:
                log("superseded", guild=work.event.guild_id)
                return True
            for gone in self.running.taken_back(running):
                await self.changes.message_deleted(gone)  # what was written since then, too
                end = replace(end, sentence="", why=None)
            if end.why is not None:
                await live.give_up(end.why, end.sentence or "")
            elif end.sentence is not None and self._tells(work, outlet, end):
                await live.break_off(end.sentence)
            await self.postponed.do(
                lambda: self.store.deliveries.update(work.delivery.id, state=end.state, extra={})
            )
        seconds = self.clock() - begun
        self.metrics.answered.labels(work.event.kind, end.state).observe(seconds)
        log("finished", kind=work.event.kind, state=end.state, seconds=round(seconds, 2))
        return False

    def _tells(self, work: Work, outlet: Outlet, end: End) -> bool:
        """Whether a refusal is said: not, where all would read it again and again. Without a
        sentence nothing is said, but what was begun is taken back; and where an answer stands that
        is none any more, it is written over."""
        is_in_place = bool(work.delivery.parts)
        if outlet.is_private or work.taken_up or is_in_place or not (end.reason and end.sentence):
            return True
        return self.courtesy.tells(work.event.asker.user_id, end.reason)

    async def _outcome(self, running: Running) -> End:
        """How the answer ended."""
        guild = running.work.event.guild_id
        try:
            await self._replies.answer(running)
            return End("done")
        except Refused as refusal:
            log("refused", reason=refusal.reason, guild=guild)
            return End("skipped", refusal.say, reason=refusal.reason)
        except RecordGone:
            log("erased_meanwhile", guild=guild)
            return End("skipped", "")
        except Undeliverable as error:
            self._note_failure("delivery", error, guild, reason=str(error))
            if error.code == UNKNOWN_CHANNEL and guild:
                await self.changes.channel_deleted(guild, running.work.event.channel_id)
            state = "done" if error.why == "gone" else "failed"
            return End(state, SENTENCES[error.why], error.why)
        except (EngineError, ModelError) as error:
            self._note_failure("engine", error, guild)
            return End("failed", say.ENGINE_DOWN)
        except StoreError as error:
            self._note_failure("store", error, guild)
            return End("failed", say.STORE_DOWN)
        except Superseded:
            raise
        except Exception as error:  # whatever it is, the event has to end
            log.unforeseen("event failed", error)
            self.metrics.failures.labels("bot").inc()
            return End("failed", say.FAILED)

    def _live(self, work: Work, outlet: Outlet) -> LiveAnswer:
        delivery = work.delivery
        is_anew = bool(delivery.parts) and not work.taken_up
        return LiveAnswer(
            outlet,
            self.writer,
            noted=lambda parts: self.postponed.do(
                lambda: self.store.deliveries.update(delivery.id, parts=parts)
            ),
            allowed=self._generator.allows,
            # A nonce holds for minutes: what is written anew has others than what was there.
            nonce=(work.answer_id if is_anew else delivery.id).replace("-", "")[:20],
            earlier=delivery.parts,
            was_begun=work.taken_up,
        )

    def _note_failure(self, part: str, error: Exception, guild: int | None, **more: Any) -> None:
        log(f"{part}_failed", error=error, guild=guild, **more)
        self.metrics.failures.labels(part).inc()

    # A question that is edited

    async def edited(self, event: Event, outlet: Outlet | None = None) -> Rest:
        """A message that the bot knows was edited, and is now as `event` says; without a text, it
        is for the bot no longer. Returns the work that is left to do, if any.

        The store follows. A question that waits is answered as it is now. With an `outlet` it is
        answered anew in place of the answer it has, unless somebody has gone on from that; without
        one it keeps its answer, unless that quotes what is gone. Edits may come twice and in any
        order: the newest counts.
        """
        is_news = self.running.edit(event)
        try:
            is_due = is_news and outlet is not None and await self._rewriting.is_due(event)
        except StoreError as error:
            is_due = False
            self._note_failure("store", error, event.guild_id)
        await self.changes.message_edited(event)
        if outlet is None or not is_due:
            return None
        try:
            member = await self.store.members.of_user(event.asker.user_id)
        except StoreError as error:
            return self._without_store(error, event, outlet)
        return self._rewriting.begin(event, member, outlet)

    # What is known before an event is claimed, and while it is worked on

    def ignores(self, user_id: int) -> bool:
        """Whether the operator does not want this person answered."""
        return user_id in self.settings.blocked_users

    async def answers(self, user_id: int, guild_id: int | None, *places: int | None) -> bool:
        """Whether that person is answered at these places: a channel, and the one that its thread
        is in. What the store does not say now is said when the message is claimed."""
        if self.ignores(user_id):
            return False
        rules = await or_else(None, self.guilds.rules(guild_id))
        return rules is None or rules.allow(*places)

    async def knows(self, message_id: int) -> bool:
        """Whether a message is one of those that were asked, quoted or answered."""
        return message_id in self._seen or await or_else(
            True, self.store.revisions.knows(message_id)
        )

    async def check(self, event: Event) -> None:
        """Raise `Refused` where there is something against an event, as far as it is known before
        it is claimed."""
        self._replies.check(event, await self.guilds.rules(event.guild_id))

    async def stop(
        self, user_id: int, *, answer_id: str | None, channel_id: int, admin: bool
    ) -> str:
        """Stop an answer: that one, or all of the member's in the channel; what to tell them."""
        member = await self.store.members.of_user(user_id)
        return self.running.stop(member, answer_id, channel_id, admin=admin)
