"""What the bot does with each event: a question, a second try, a comparison.

Nothing here knows Discord: events come in, and answers go out through an `Outlet`. An event is
claimed in the store before anything else is done, so that it is answered once however often it
comes, and taken up again after a crash.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from guildgpt.bot import sentences as say
from guildgpt.bot.answering import ChannelWriter, LiveAnswer, Over, Stopped, unless
from guildgpt.bot.buttons import Action, Kind
from guildgpt.bot.events import Event, Work, packed
from guildgpt.bot.generating import Finished, Generator
from guildgpt.bot.guilds import Guilds, Rules
from guildgpt.bot.logs import log
from guildgpt.bot.metrics import Metrics
from guildgpt.bot.moderation import Moderator
from guildgpt.bot.outlet import Outlet, Undeliverable
from guildgpt.bot.pacing import Pacer
from guildgpt.bot.postponed import Postponed
from guildgpt.bot.questions import Question, Questions, Refused
from guildgpt.bot.recent import Recent
from guildgpt.bot.settings import BotSettings
from guildgpt.bot.waiting import Busy, FairQueue, TooMany
from guildgpt.engines.opened import ReopeningModel
from guildgpt.errors import EngineError, ModelError, RecordGone, StoreError
from guildgpt.feedback.records import Delivery, Member, StoredMessage, Version
from guildgpt.feedback.store import Store

LOGGER = logging.getLogger(__name__)


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


Step = Callable[[Running], Awaitable[None]]
Rest = Coroutine[Any, Any, None] | None
"""The work that is left when an event is claimed; None for an event that gets no answer."""


class Service:
    """Answers events; see the module."""

    def __init__(
        self,
        store: Store,
        model: ReopeningModel,
        version: Version,
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
        self._settings = settings
        self._version = version
        self._moderator = moderator
        self._chance = chance
        self._clock = clock
        self._pacer = Pacer(clock)
        self._writer = ChannelWriter(self._pacer, clock)
        self._generator = Generator(model, settings, moderator, metrics)
        self._questions = Questions(store)
        self._queue = FairQueue(
            settings.workers,
            bound=settings.queue_bound,
            per_user=settings.waiting_per_user,
            rate=settings.questions_per_user,
            per_seconds=settings.questions_seconds,
            clock=clock,
        )
        self._running: dict[str, Running] = {}  # by the answers' ids
        self._heard = Recent()  # events
        self._deleted = Recent()  # messages

    # Events: each method claims one, and returns the work that is left to do, if any

    async def ask(self, event: Event, outlet: Outlet) -> Rest:
        """Answer a message or a command."""
        return await self._claimed(event, outlet, self._ask)

    async def again(self, event: Event, outlet: Outlet, answer_id: str | None) -> Rest:
        """Answer a question anew: that of `answer_id`, or the member's last one in the channel."""
        return await self._claimed(event, outlet, self._again, again=answer_id)

    async def compare(self, event: Event, outlet: Outlet) -> Rest:
        """Give two answers, blind and in random order, to be voted on."""
        return await self._claimed(event, outlet, self._compare)

    async def resume(self, delivery: Delivery, outlet: Outlet) -> None:
        """Take up an event that was claimed before a crash and not finished."""
        work = Work.of_old(delivery)
        member = await self.store.member_by_id(work.member_id)
        if member is None:  # erased meanwhile, or the question was deleted
            await self.store.update_delivery(delivery.id, state="skipped", extra={})
            return
        log(LOGGER, "taken_up", kind=delivery.kind, guild=delivery.guild_id)
        steps: dict[str, Step] = {"retry": self._again, "compare": self._compare}
        await self._carry_out(work, member, outlet, steps.get(delivery.kind, self._ask))

    async def _claimed(
        self, event: Event, outlet: Outlet, step: Step, again: str | None = None
    ) -> Rest:
        if self.ignores(event.asker.user_id):
            log(LOGGER, "blocked", guild=event.guild_id)
            return None
        if not self._heard.add(event.id):  # the store says so, too, unless it is in trouble
            self._note_duplicate(event)
            return None
        try:
            member = await self.store.member(event.asker.user_id)
            delivery = await self.store.claim(
                event.id,
                event.kind,
                guild_id=event.guild_id,
                channel_id=event.channel_id,
                member_id=member.id,
                extra=packed(event, member, again=again),
            )
        except StoreError as error:
            self._note_failure("store", error, event)
            return self._writer.whisper(outlet, say.STORE_DOWN)
        if delivery is None:
            self._note_duplicate(event)
            return None
        return self._carry_out(Work.new(delivery, event), member, outlet, step)

    def _note_duplicate(self, event: Event) -> None:
        log(LOGGER, "seen_before", guild=event.guild_id)
        self.metrics.duplicates.inc()

    async def _carry_out(self, work: Work, member: Member, outlet: Outlet, step: Step) -> None:
        """Run one claimed event to its end, and write down how it ended."""
        begun = self._clock()
        with self._registered(work, member, outlet) as running:
            state, sentence = await self._outcome(running, step)
            if work.event.id in self._deleted:
                await self.forget(work.event.id)  # what was written since then, too
                sentence = ""
            if sentence is not None:
                await running.live.break_off(sentence)
        await self.postponed.do(
            lambda: self.store.update_delivery(work.delivery.id, state=state, extra={})
        )
        seconds = self._clock() - begun
        self.metrics.answered.labels(work.event.kind, state).observe(seconds)
        log(LOGGER, "finished", kind=work.event.kind, state=state, seconds=round(seconds, 2))

    async def _outcome(self, running: Running, step: Step) -> tuple[str, str | None]:
        """How the step ended: the delivery's state, and what is said in an answer's place."""
        event = running.work.event
        try:
            await step(running)
            return "done", None
        except Refused as refusal:
            log(LOGGER, "refused", reason=refusal.reason, guild=event.guild_id)
            return "skipped", refusal.say
        except RecordGone:
            log(LOGGER, "erased_meanwhile", guild=event.guild_id)
            return "skipped", ""
        except Undeliverable as error:
            self._note_failure("delivery", error, event, reason=str(error))
            return "done" if error.gone else "failed", None
        except (EngineError, ModelError) as error:
            self._note_failure("engine", error, event)
            return "failed", say.ENGINE_DOWN
        except StoreError as error:
            self._note_failure("store", error, event)
            return "failed", say.STORE_DOWN
        except Exception:  # whatever it is, the event has to end
            LOGGER.exception("event failed")
            self.metrics.failures.labels("bot").inc()
            return "failed", say.FAILED

    @contextmanager
    def _registered(self, work: Work, member: Member, outlet: Outlet) -> Iterator[Running]:
        """The event among those that can be stopped."""
        over: Over = asyncio.get_running_loop().create_future()
        running = Running(work, member, outlet, self._live(work, outlet), over)
        if work.event.id in self._deleted:
            running.stop()
        self._running[work.answer_id] = running
        try:
            yield running
        finally:
            del self._running[work.answer_id]
            if not over.cancel() and not over.cancelled():
                over.exception()  # seen, even if nobody waited for it any more

    # The three ways to answer

    async def _ask(self, running: Running) -> None:
        rules = await self.guilds.rules(running.work.event.guild_id)
        question = await self._checked_question(running, rules)
        await self._answer(running, question, rules)

    async def _again(self, running: Running) -> None:
        rules = await self.guilds.rules(running.work.event.guild_id)
        question = await self._questions.asked_before(running.work, running.member)
        await self._answer(running, question, rules)

    async def _compare(self, running: Running) -> None:
        work, live = running.work, running.live
        rules = await self.guilds.rules(work.event.guild_id)
        if running.member.consent == "none":
            raise Refused(say.CONSENT_NONE, "consent-none")
        question = await self._checked_question(running, rules)
        assert question.stored
        try:
            async with self._turn(running):
                pair = await self._generator.two_answers(question, rules.system, running.over)
        except Stopped:
            raise Refused(say.STOPPED, "stopped") from None
        left, right = self._chance.sample(pair, 2)
        if left.instead or right.instead:  # there is nothing to choose between
            await live.finish(left.instead or right.instead)
            return
        id = str(uuid4())
        kept = await self._keep_comparison(id, question.stored, (left, right))
        choices: tuple[Kind, ...] = ("left", "right", "tie", "both_bad") if kept else ()
        buttons = [Action(kind, id) for kind in choices]
        await live.finish(say.side_by_side(left.shown, right.shown), buttons)

    async def _answer(self, running: Running, question: Question, rules: Rules) -> None:
        work, live, over = running.work, running.live, running.over
        answer_id = work.answer_id
        await self.postponed.do(
            lambda: self.store.update_delivery(
                work.delivery.id, state="answering", answer_id=answer_id
            )
        )
        finished = await self._kept_before(work)
        kept = finished is not None
        if finished is None:
            async with live.growing(Action("stop", answer_id), over), self._turn(running):
                finished = await self._generator.answer(question, rules.system, over, live.heard)
            if work.event.id in self._deleted:
                return
            if question.stored and not finished.instead:
                kept = await self._keep(answer_id, question.stored, finished)
        await live.finish(finished.shown, _buttons(answer_id, rules) if kept else ())

    async def _kept_before(self, work: Work) -> Finished | None:
        """The answer that was written down before a crash: it may have been read and rated."""
        answer = await self.store.message(work.answer_id) if work.taken_up else None
        if answer is None or answer.deleted:
            return None
        return Finished(answer.text, "cancelled" if answer.stop == "cancelled" else "eos")

    async def _checked_question(self, running: Running, rules: Rules) -> Question:
        work = running.work
        if not work.taken_up or work.event.text:  # else it was looked at before the crash
            self._check(work.event, rules)
        return await self._questions.asked(work, running.member)

    def _check(self, event: Event, rules: Rules) -> None:
        """Raise `Refused` for what is not answered."""
        if not rules.allow(event.channel_id, event.home_id):
            raise Refused("" if event.kind == "message" else say.OTHER_CHANNEL, "other-channel")
        if not event.text:
            raise Refused(say.EMPTY, "empty")
        if verdict := self._moderator.before(event.text):
            self.metrics.moderated.labels("before", verdict.rule).inc()
            raise Refused(verdict.say, f"moderation-{verdict.rule}")

    def _live(self, work: Work, outlet: Outlet) -> LiveAnswer:
        delivery = work.delivery
        return LiveAnswer(
            outlet,
            self._writer,
            noted=lambda parts: self.postponed.do(
                lambda: self.store.update_delivery(delivery.id, parts=parts)
            ),
            allowed=self._generator.allows,
            nonce=delivery.id.replace("-", "")[:20],
            earlier=delivery.parts,
            was_begun=work.taken_up,
        )

    async def _keep(self, answer_id: str, question: StoredMessage, finished: Finished) -> bool:
        """Write the answer down; False if its question was erased meanwhile."""
        return await self.postponed.do(
            lambda: self.store.add_message(
                id=answer_id,
                conversation_id=question.conversation_id,
                parent_id=question.id,
                role="assistant",
                text=finished.text,
                version_id=self._version.id,
                sampling=self._generator.sampling,
                stop=finished.stop,
                synthetic=True,
            )
        )

    async def _keep_comparison(
        self, id: str, question: StoredMessage, shown: Sequence[Finished]
    ) -> bool:
        """Write answers down in the order shown; False if their question was erased meanwhile."""
        ids = [str(uuid4()) for _ in shown]
        for answer_id, finished in zip(ids, shown, strict=True):
            if not await self._keep(answer_id, question, finished):
                return False
        return await self.postponed.do(lambda: self.store.add_comparison(question.id, ids, id=id))

    @asynccontextmanager
    async def _turn(self, running: Running) -> AsyncGenerator[None]:
        """A turn at the model; raises `Refused` where the wait is too long, the member too eager,
        or the question withdrawn while it waits."""
        waiting = self._queue.turn(
            guild=running.work.event.guild_id,
            user=running.member.id,
            admitted=running.work.taken_up,
        )
        async with AsyncExitStack() as stack:
            try:
                await unless(running.over, stack.enter_async_context(waiting))
            except Busy as busy:
                raise Refused(say.busy(busy.seconds), "busy") from busy
            except TooMany as many:
                raise Refused(say.too_many(many.seconds), "too-many") from many
            except Stopped:
                raise Refused(say.STOPPED, "stopped") from None
            yield

    def _note_failure(self, part: str, error: Exception, event: Event, **more: Any) -> None:
        log(LOGGER, f"{part}_failed", error=error, guild=event.guild_id, **more)
        self.metrics.failures.labels(part).inc()

    # What else there is to know and to do

    def ignores(self, user_id: int) -> bool:
        """Whether the operator does not want this person answered."""
        return user_id in self._settings.blocked_users

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
            self._check(event, await self.guilds.rules(event.guild_id))
        except Refused as refusal:
            return refusal.say
        return None

    async def stop(
        self, user_id: int, *, answer_id: str | None, channel_id: int, admin: bool
    ) -> str:
        """Stop an answer: that one, or all of the member's in the channel; what to tell them."""
        member = await self.store.member(user_id)
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

    async def forget(self, message_id: int) -> None:
        """A message was deleted: its text goes, and nobody waits for an answer to it."""
        self._deleted.add(message_id)
        for running in self._running.values():
            if running.work.event.id == message_id:
                running.stop()
        await self.postponed.do(lambda: self.store.mark_deleted(message_id))

    def slow_down(self, channel_id: int, seconds: float) -> None:
        """Discord said that the channel has had enough for `seconds`."""
        self._pacer.slow_down(channel_id, seconds)

    @property
    def busy(self) -> int:
        """Events that are being worked on."""
        return len(self._running)


def _buttons(answer_id: str, rules: Rules) -> list[Action]:
    kinds: tuple[Kind, ...] = ("again", "report")
    if rules.feedback:
        kinds = ("up", "down", *kinds)
    return [Action(kind, answer_id) for kind in kinds]
