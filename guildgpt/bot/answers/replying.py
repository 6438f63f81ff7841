"""From a claimed event to its answer: once, once more, or two side by side.

Raises `Refused` for what gets a sentence in an answer's place, and what the store, the engine and
the outlet raise; `Service` says what becomes of that.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from uuid import uuid4

from guildgpt.bot.answers.buttons import Action, Kind
from guildgpt.bot.answers.ending import Refused, unless
from guildgpt.bot.answers.events import Event, Work
from guildgpt.bot.answers.generating import Finished, Generator
from guildgpt.bot.answers.outlet import Undeliverable
from guildgpt.bot.answers.questions import Question, Questions
from guildgpt.bot.answers.running import AllRunning, Running
from guildgpt.bot.operating.guilds import Guilds, Rules
from guildgpt.bot.operating.health import Metrics
from guildgpt.bot.text import sentences as say
from guildgpt.bot.text.files import guesses_in
from guildgpt.feedback.messages.postponed import Postponed
from guildgpt.feedback.store import Store
from guildgpt.talk.moderation import Moderator
from guildgpt.talk.waiting import Busy, FairQueue, TooMany


@dataclass
class Replies:
    """Answers events that are `Running`."""

    store: Store
    postponed: Postponed
    guilds: Guilds
    generator: Generator
    queue: FairQueue
    running: AllRunning
    moderator: Moderator
    chance: random.Random
    metrics: Metrics

    def __post_init__(self) -> None:
        self._questions = Questions(self.store, self.moderator)

    async def answer(self, running: Running) -> None:
        """Answer the question that the event holds, or an earlier one once more; with one answer
        or, for a comparison, with two."""
        work, member = running.work, running.member
        rules = await self.guilds.rules(work.event.guild_id)
        is_comparison = work.event.kind == "compare"
        if is_comparison and member.consent == "none":
            raise Refused(say.CONSENT_NONE, "consent-none")
        revision = self.running.revision
        if work.event.kind == "retry":
            question = await self._questions.asked_before(work, member)
        else:
            if not work.taken_up or work.event.text:  # else it was looked at before the crash
                self.check(work.event, rules)
            question = await self._questions.asked(work, member)
        reply = self._compare if is_comparison else self._answer
        await reply(running, question, rules, revision)

    async def _compare(
        self, running: Running, question: Question, rules: Rules, revision: int
    ) -> None:
        """Give two answers, blind and in random order, to be voted on."""
        work, live = running.work, running.live
        async with self._turn(running, question, rules, revision) as question:
            systems = rules.systems(work.event.channel_id, work.event.home_id)
            pair = await self.generator.two_answers(question, systems, running.over)
        left, right = self.chance.sample(pair, 2)
        if left.instead or right.instead:  # there is nothing to choose between
            await live.finish(left.instead or right.instead)
            return
        id = str(uuid4())
        kept = await self._keep_comparison(id, work, question, (left, right))
        choices: tuple[Kind, ...] = ("left", "right", "tie", "both_bad") if kept else ()
        buttons = [Action(kind, id) for kind in choices]
        await live.finish(say.side_by_side(left.shown, right.shown), buttons)

    async def _answer(
        self, running: Running, question: Question, rules: Rules, revision: int
    ) -> None:
        work, live, over = running.work, running.live, running.over
        answer_id = work.answer_id
        await self.postponed.do(
            lambda: self.store.deliveries.update(
                work.delivery.id, state="answering", answer_id=answer_id
            )
        )
        finished = await self._kept_before(work)
        kept = finished is not None
        if finished is None:
            async with (
                live.growing(Action("stop", answer_id), over),
                self._turn(running, question, rules, revision) as question,
            ):
                systems = rules.systems(work.event.channel_id, work.event.home_id)
                finished = await self.generator.answer(question, systems, over, live.grow)
            if self.running.taken_back(running):
                return
            if question.stored and not finished.instead:
                kept = await self._keep(answer_id, question, finished)
        try:
            shown = finished.shown
            if not finished.instead:
                shown = say.with_guesses(shown, guesses_in(question.asked.content))
            await live.finish(shown, _buttons(answer_id, rules) if kept else ())
        except Undeliverable as error:
            if error.why in ("withheld", "refused", "gone"):  # then nobody reads it
                await self.postponed.do(lambda: self.store.revisions.withdraw(answer_id))
            raise

    async def _kept_before(self, work: Work) -> Finished | None:
        """The answer that was written down before a crash: it may have been read and rated."""
        answer = await self.store.conversations.message(work.answer_id) if work.taken_up else None
        if answer is None:
            return None
        if answer.deleted:
            raise Refused("", "deleted")
        return Finished(answer.text, "cancelled" if answer.stop == "cancelled" else "eos")

    def check(self, event: Event, rules: Rules) -> None:
        """Raise `Refused` for what is not answered."""
        if not rules.allow(event.channel_id, event.home_id):
            raise Refused("" if event.kind == "message" else say.OTHER_CHANNEL, "other-channel")
        if event.unseen and not event.text:
            raise Refused(say.CANNOT_SEE[event.unseen], "unseen")
        if not (event.text or event.quoted or event.answers_to or event.starter_id):
            raise Refused(say.EMPTY, "empty")
        for text in (event.text, *(one.text for one in event.quoted)):  # what the model reads anew
            if decision := self.moderator.before(text):
                self.metrics.moderated.labels("before", decision.rule).inc()
                raise Refused(decision.say, f"moderation-{decision.rule}")

    async def _keep(self, answer_id: str, question: Question, finished: Finished) -> bool:
        """Write the answer down; False if its question was erased meanwhile, or if it quotes what
        may not be kept."""
        asked = question.stored
        assert asked
        return await self.postponed.do(
            lambda: self.store.conversations.add_message(
                id=answer_id,
                conversation_id=asked.conversation_id,
                parent_id=asked.id,
                role="assistant",
                text=finished.text,
                version_id=finished.version.id if finished.version else None,
                sampling=asdict(self.generator.sampling),
                stop=finished.stop,
                synthetic=True,
                told=question.told,
                told_besides=question.told_besides,
            )
        )

    async def _keep_comparison(
        self, id: str, work: Work, question: Question, shown: Sequence[Finished]
    ) -> bool:
        """Write answers down in the order shown; False if one of them could not be kept."""
        asked = question.stored
        assert asked
        ids = [str(uuid4()) for _ in shown]
        await self.postponed.do(
            lambda: self.store.deliveries.update(work.delivery.id, comparison_id=id)
        )
        for answer_id, finished in zip(ids, shown, strict=True):
            if not await self._keep(answer_id, question, finished):
                return False
        return await self.postponed.do(
            lambda: self.store.votes.add_comparison(asked.id, ids, id=id)
        )

    @asynccontextmanager
    async def _turn(
        self, running: Running, question: Question, rules: Rules, revision: int
    ) -> AsyncGenerator[Question]:
        """A turn at the model, and the question as it is then: until then it takes on every edit.

        Raises `Refused` where the wait is too long, the member too eager, or the question withdrawn
        while it waits.
        """
        waiting = self.queue.turn(
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
            running.is_answering = True
            event = running.work.event
            if self.running.revision != revision:
                if event.edited_at:
                    self.check(event, rules)
                question = await self._questions.anew(event, question)
            yield question


def _buttons(answer_id: str, rules: Rules) -> list[Action]:
    kinds: list[Kind] = ["up", "down", "again", "report"] if rules.feedback else ["again", "report"]
    return [Action(kind, answer_id) for kind in kinds]
