"""From a question to what the model has to say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from guildgpt.bot.answers.answering import broken_off
from guildgpt.bot.answers.ending import Over, Stopped, T, unless
from guildgpt.bot.answers.questions import Question
from guildgpt.bot.operating.health import Metrics
from guildgpt.bot.text import sentences as say
from guildgpt.bot.text.shown import NOTHING_YET, answer_text
from guildgpt.engines.engine import SamplingParams, StopReason, complete
from guildgpt.model.version import Version
from guildgpt.talk.fitting import Room, room_beside
from guildgpt.talk.fleet import Fleet, OpenedModel
from guildgpt.talk.moderation import Moderator


@dataclass(frozen=True, slots=True)
class Finished:
    """What a version of the model wrote, why it ended, and what is said in its place if it cannot
    be shown."""

    text: str
    stop: StopReason
    instead: str = ""
    version: Version | None = None

    @property
    def shown(self) -> str:
        """What people read."""
        text = broken_off(self.text) if self.stop == "cancelled" else self.text.rstrip()
        return self.instead or text


@dataclass
class Generator:
    """Asks the model, with answers drawn as `sampling` says, and looks at what it says."""

    fleet: Fleet
    sampling: SamplingParams
    moderator: Moderator
    metrics: Metrics

    async def room(self, system: str) -> Room:
        """What a system text leaves of the model's context; raises `EngineError` and `ModelError`
        when the engine died twice or cannot be opened."""
        return await self.fleet.ask(
            lambda model: asyncio.to_thread(room_beside, model, system, self.sampling.max_tokens),
            answers=False,
        )

    def allows(self, text: str) -> bool:
        """Whether an answer may be shown as far as it is."""
        return self.moderator.after(text) is None

    async def answer(
        self, question: Question, systems: Sequence[str], over: Over, on_text: Callable[[str], None]
    ) -> Finished:
        """One answer, given to `on_text` as it grows; what there is of it where somebody stops it.
        Of `systems` it follows the first text that leaves room for a question.

        Raises `EngineError` and `ModelError` when the engine died twice or cannot be opened, and
        what `over` holds.
        """
        said = Finished("", "cancelled")

        async def read(model: OpenedModel, ids: list[int]) -> Finished:
            def listen(text: str) -> None:
                nonlocal said
                said = Finished(text, "cancelled", version=model.version)
                on_text(text)

            return await self._read(model, ids, listen)

        try:
            finished = await self._asked(question, systems, over, read)
        except Stopped:
            finished = replace(said, instead="" if said.text.strip() else say.STOPPED)
        return self._fit_to_show(finished)

    async def two_answers(
        self, question: Question, systems: Sequence[str], over: Over
    ) -> tuple[Finished, Finished]:
        """Two answers to compare; raises what `answer` raises, and `Stopped`."""

        async def both(model: OpenedModel, ids: list[int]) -> tuple[Finished, Finished]:
            tasks = [asyncio.create_task(self._read(model, ids)) for _ in range(2)]
            try:
                first, second = await asyncio.gather(*tasks)
                return self._fit_to_show(first), self._fit_to_show(second)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

        return await self._asked(question, systems, over, both)

    async def _asked(
        self,
        question: Question,
        systems: Sequence[str],
        over: Over,
        read: Callable[[OpenedModel, list[int]], Coroutine[Any, Any, T]],
    ) -> T:
        """What `read` makes of the question's ids."""

        async def work(model: OpenedModel) -> T:
            ids = await asyncio.to_thread(question.ids, model, systems, self.sampling.max_tokens)
            return await read(model, ids)

        return await unless(over, self.fleet.ask(work, conversation=question.conversation))

    async def _read(
        self,
        model: OpenedModel,
        ids: list[int],
        on_text: Callable[[str], object] = lambda text: None,
    ) -> Finished:
        answer = await complete(model.engine, ids, self.sampling, on_text)
        return Finished(answer.text, answer.stop, version=model.version)

    def _fit_to_show(self, finished: Finished) -> Finished:
        """With the moderation's sentence, or that there are no words, in the place of the text."""
        if decision := self.moderator.after(finished.text):
            self.metrics.moderated.labels("after", decision.rule).inc()
            return replace(finished, instead=decision.say or say.NO_WORDS)
        if not finished.instead and answer_text(finished.text) == NOTHING_YET:
            return replace(finished, instead=say.NO_WORDS)
        return finished
