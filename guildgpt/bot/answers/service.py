"""What the bot does with each event: a question, a second try, a comparison.

Nothing here knows Discord: events come in, and answers go out through an `Outlet`. An event is
claimed in the store before anything else is done, so that it is answered once however often it
comes, and taken up again after a crash.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from guildgpt.bot.answers.answering import LiveAnswer
from guildgpt.bot.answers.courtesy import Courtesy
from guildgpt.bot.answers.events import Event, Work, packed
from guildgpt.bot.answers.generating import Generator
from guildgpt.bot.answers.outlet import Outlet, Undeliverable, Why
from guildgpt.bot.answers.pacing import ChannelWriter, Pacer
from guildgpt.bot.answers.questions import Refused
from guildgpt.bot.answers.recent import Recent
from guildgpt.bot.answers.replying import Replies
from guildgpt.bot.answers.rewriting import Rewriting
from guildgpt.bot.answers.running import AllRunning, Running, Superseded
from guildgpt.bot.answers.systems import Systems, check_operators
from guildgpt.bot.operating.guilds import Guilds
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.operating.metrics import Metrics
from guildgpt.bot.operating.postponed import Postponed, insist
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.bot.text import sentences as say
from guildgpt.errors import EngineError, ModelError, RecordGone, StoreError
from guildgpt.feedback.records import Delivery, Erasure, Member
from guildgpt.feedback.store import Store
from guildgpt.talk.fleet import Fleet
from guildgpt.talk.moderation import Moderator
from guildgpt.talk.waiting import FairQueue

log = EventLog(__name__)
UNKNOWN_CHANNEL = 10003  # Discord's code for one that was deleted


Step = Callable[[Running], Awaitable[None]]
Rest = Coroutine[Any, Any, object] | None
"""The work that is left when an event is claimed; None for an event that gets no answer."""

_IN_WORDS: dict[Why, str] = {
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


class Service:
    """Answers events; see the module."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        settings: BotSettings,
        *,
        moderator: Moderator,
        clock: Callable[[], float],
        chance: random.Random,
        metrics: Metrics,
    ):
        self.store = store
        self.guilds = Guilds(store, settings)
        self.metrics = metrics
        self.postponed = Postponed()
        self.on_channel_deleted: Callable[[int], None] = lambda channel_id: None
        self._settings = settings
        self._clock = clock
        self.pacer = Pacer(clock)
        self.writer = ChannelWriter(self.pacer, clock)
        self._generator = Generator(fleet, settings, moderator, metrics)
        self.systems = Systems(self.guilds, self._generator)
        self._running = AllRunning()
        self._heard: Recent[int, None] = Recent()  # events
        self._courtesy = Courtesy(settings.questions_per_user, settings.questions_seconds, clock)
        queue = FairQueue(
            settings.workers,
            bound=settings.queue_bound,
            per_user=settings.waiting_per_user,
            rate=settings.questions_per_user,
            per_seconds=settings.questions_seconds,
            clock=clock,
        )
        self._replies = Replies(
            store,
            self.postponed,
            self.guilds,
            self._generator,
            queue,
            self._running,
            moderator=moderator,
            chance=chance,
            metrics=metrics,
        )
        self._rewriting = Rewriting(
            store,
            self._running,
            partial(self._carry_out, step=self._replies.ask),
        )

    # Events: each method claims one, and returns the work that is left to do, if any

    async def ask(self, event: Event, outlet: Outlet) -> Rest:
        """Answer a message or a command."""
        return await self._claimed(event, outlet, self._replies.ask)

    async def again(self, event: Event, outlet: Outlet, answer_id: str | None) -> Rest:
        """Answer a question anew: that of `answer_id`, or the member's last one in the channel."""
        return await self._claimed(event, outlet, self._replies.again, again=answer_id)

    async def compare(self, event: Event, outlet: Outlet) -> Rest:
        """Give two answers, blind and in random order, to be voted on."""
        return await self._claimed(event, outlet, self._replies.compare)

    async def resume(self, delivery: Delivery, outlet: Outlet) -> None:
        """Take up an event that was claimed before a crash and not finished."""
        work = Work.of_old(delivery)
        self._running.coming.add(work.event.id)
        member = await insist(lambda: self.store.members.by_id(work.member_id))
        if member is None:  # erased meanwhile, or the question was deleted
            self._running.coming.discard(work.event.id)
            await self.postponed.do(
                lambda: self.store.deliveries.update(delivery.id, state="skipped", extra={})
            )
            return
        log("taken_up", kind=delivery.kind, guild=delivery.guild_id)
        replies = self._replies
        steps: dict[str, Step] = {"retry": replies.again, "compare": replies.compare}
        await self._carry_out(work, member, outlet, steps.get(delivery.kind, replies.ask))

    async def _claimed(
        self, event: Event, outlet: Outlet, step: Step, again: str | None = None
    ) -> Rest:
        if self.ignores(event.asker.user_id):
            log("blocked", guild=event.guild_id)
            return None
        if event.id in self._heard:  # the store says so, too, unless it is in trouble
            self._note_duplicate(event)
            return None
        self._heard[event.id] = None
        self._running.coming.add(event.id)
        try:
            member = await self.store.members.of_user(event.asker.user_id)
            delivery = await self.store.deliveries.claim(
                event.id,
                event.kind,
                guild_id=event.guild_id,
                channel_id=event.channel_id,
                member_id=member.id,
                extra=packed(event, member, again=again),
            )
        except StoreError as error:
            self._running.coming.discard(event.id)
            return self._without_store(error, event, outlet)
        if delivery is None:
            self._running.coming.discard(event.id)
            self._note_duplicate(event)
            return None
        return self._carry_out(Work.new(delivery, event), member, outlet, step)

    def _without_store(self, error: StoreError, event: Event, outlet: Outlet) -> Rest:
        self._note_failure("store", error, event)
        told = outlet.is_private or self._courtesy.tells(event.asker.user_id, "store-down")
        return self.writer.whisper(outlet, say.STORE_DOWN) if told else None

    def _note_duplicate(self, event: Event) -> None:
        log("seen_before", guild=event.guild_id)
        self.metrics.duplicates.inc()

    async def _carry_out(self, work: Work, member: Member, outlet: Outlet, step: Step) -> bool:
        """Run one claimed event to its end, and write down how it ended; whether it was superseded:
        then that is still open."""
        begun = self._clock()
        live = self._live(work, outlet)
        with self._running.registered(work, member, outlet, live) as running:
            try:
                end = await self._outcome(running, step)
            except Superseded:
                log("superseded", guild=work.event.guild_id)
                return True
            if self._running.is_taken_back(work):
                await self.forget(work.event.id)  # what was written since then, too
                end = replace(end, sentence="", why=None)
            for part in self._running.lost_parts(running):
                await self.forget(part)
                end = replace(end, sentence="", why=None)
            if end.why is not None:
                await running.live.give_up(end.why, end.sentence or "")
            elif end.sentence is not None and self._tells(work, outlet, end):
                await running.live.break_off(end.sentence)
            await self.postponed.do(
                lambda: self.store.deliveries.update(work.delivery.id, state=end.state, extra={})
            )
        seconds = self._clock() - begun
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
        return self._courtesy.tells(work.event.asker.user_id, end.reason)

    async def _outcome(self, running: Running, step: Step) -> End:
        """How the step ended."""
        event = running.work.event
        try:
            await step(running)
            return End("done")
        except Refused as refusal:
            log("refused", reason=refusal.reason, guild=event.guild_id)
            return End("skipped", refusal.say, reason=refusal.reason)
        except RecordGone:
            log("erased_meanwhile", guild=event.guild_id)
            return End("skipped", "")
        except Undeliverable as error:
            self._note_failure("delivery", error, event, reason=str(error))
            if error.code == UNKNOWN_CHANNEL and event.guild_id:
                await self.channel_deleted(event.guild_id, event.channel_id)
            state = "done" if error.why == "gone" else "failed"
            return End(state, _IN_WORDS[error.why], error.why)
        except (EngineError, ModelError) as error:
            self._note_failure("engine", error, event)
            return End("failed", say.ENGINE_DOWN)
        except StoreError as error:
            self._note_failure("store", error, event)
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

    def _note_failure(self, part: str, error: Exception, event: Event, **more: Any) -> None:
        log(f"{part}_failed", error=error, guild=event.guild_id, **more)
        self.metrics.failures.labels(part).inc()

    # What else there is to know and to do

    def ignores(self, user_id: int) -> bool:
        """Whether the operator does not want this person answered."""
        return user_id in self._settings.blocked_users

    def greets(self, user_id: int) -> bool:
        """Whether they are shown at once that they are heard: not who was told to wait."""
        return not self._courtesy.was_told_to_wait(user_id)

    async def hears(self, user_id: int, guild_id: int | None, *places: int | None) -> bool:
        """Whether a message of that person at these places is for the bot at all."""
        if self.ignores(user_id):
            return False
        try:
            return (await self.guilds.rules(guild_id)).allow(*places)
        except StoreError:  # it is said when the message is claimed
            return True

    async def refusal(self, event: Event) -> str | None:
        """The sentence that an event would get in place of an answer, as far as it is known before
        it is claimed; None if there is nothing against it."""
        try:
            self._replies.check(event, await self.guilds.rules(event.guild_id))
        except Refused as refusal:
            return refusal.say
        return None

    async def check_system(self) -> None:
        """Raise `SettingsError` if the operator's system text leaves no room for questions."""
        check_operators(await self._generator.room(self._settings.system))

    async def stop(
        self, user_id: int, *, answer_id: str | None, channel_id: int, admin: bool
    ) -> str:
        """Stop an answer: that one, or all of the member's in the channel; what to tell them."""
        member = await self.store.members.of_user(user_id)
        return self._running.stop(member, answer_id, channel_id, admin=admin)

    async def forget(self, message_id: int) -> None:
        """A message was deleted, a member's or the bot's: its text goes, what quotes it goes, and
        nobody waits for an answer to it."""
        self._running.take_back(message_id)
        await self.postponed.do(lambda: self._forget(message_id))

    async def _forget(self, message_id: int) -> None:
        _note_revision("deleted", await self.store.revisions.mark_deleted(message_id))

    async def knows(self, message_id: int) -> bool:
        """Whether a message is one of those that were asked, quoted or answered."""
        if message_id in self._heard:
            return True
        try:
            return await self.store.revisions.knows(message_id)
        except StoreError:  # it is said when the edit is written
            return True

    async def edited(self, event: Event, outlet: Outlet | None = None) -> Rest:
        """A message that the bot knows was edited, and is now as `event` says; without a text, it
        is for the bot no longer. Returns the work that is left to do, if any.

        The store follows. A question that waits is answered as it is now. With an `outlet` it is
        answered anew in place of the answer it has, unless somebody has gone on from that; without
        one it keeps its answer, unless that quotes what is gone. Edits may come twice and in any
        order: the newest counts.
        """
        assert event.edited_at
        is_due = self._running.edit(event) and outlet is not None and await self._is_due(event)
        await self.postponed.do(lambda: self._edit(event))
        if outlet is None or not is_due:
            return None
        try:
            member = await self.store.members.of_user(event.asker.user_id)
        except StoreError as error:
            return self._without_store(error, event, outlet)
        return self._rewriting.begin(event, member, outlet)

    async def _is_due(self, event: Event) -> bool:
        try:
            return await self._rewriting.is_due(event)
        except StoreError as error:
            self._note_failure("store", error, event)
            return False

    async def _edit(self, event: Event) -> None:
        assert event.edited_at
        changed = await self.store.revisions.edit(event.id, event.text, event.edited_at)
        _note_revision("edited", changed)

    async def channel_deleted(self, guild_id: int, channel_id: int) -> None:
        """A channel or thread is no more: the guild's settings forget it, and what was said in it
        goes. First of all `on_channel_deleted` hears of it and of its threads: what others still
        know of them may not be written after they are gone."""
        homes = await self.channels_of(guild_id)
        for id in (channel_id, *(thread for thread, home in homes.items() if home == channel_id)):
            self.on_channel_deleted(id)
        try:
            await self.guilds.forget_channels(guild_id, {channel_id})
        except StoreError as error:  # it is looked up again at the next start
            log("store_failed", error=error)
        await self.postponed.do(lambda: self._delete_channel(channel_id))

    async def _delete_channel(self, channel_id: int) -> None:
        _note_revision("channel_deleted", await self.store.places.delete_channels([channel_id]))

    async def guild_left(self, guild_id: int) -> None:
        """The bot was taken out of a guild: what was said there goes after a while."""
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
        try:
            return await self.store.places.channels_of(guild_id)
        except StoreError as error:
            log("store_failed", error=error)
            return {}

    async def named_channels(self, guild_id: int) -> Collection[int]:
        """The channels that a guild's settings name."""
        try:
            rules = await self.guilds.rules(guild_id)
            named = {*rules.channels, *rules.channel_systems}
            return named | ({rules.reports_channel} if rules.reports_channel else set())
        except StoreError as error:
            log("store_failed", error=error)
            return ()

    @property
    def busy(self) -> int:
        """Events that are being worked on."""
        return len(self._running)


def _note_revision(what: str, erasure: Erasure) -> None:
    """Log what went, and how many versions had learned from it: they are listed in the store."""
    if erasure.counts:
        log(what, rows=sum(erasure.counts.values()), versions=len(erasure.versions))
