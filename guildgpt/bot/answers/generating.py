"""From a question to what the model has to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

from guildgpt.bot.answers.answering import Over, Stopped, broken_off, unless
from guildgpt.bot.answers.questions import Question
from guildgpt.bot.answers.room import Room, room_beside
from guildgpt.bot.operating.metrics import Metrics
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.bot.text import sentences as say
from guildgpt.bot.text.text import NOTHING_YET, answer_text
from guildgpt.engines.engine import Chunk, SamplingParams, StopReason
from guildgpt.model.version import Version
from guildgpt.talk.moderation import Moderator
from guildgpt.talk.opened import OpenedModel
from guildgpt.talk.reopening import ReopeningModel

T = TypeVar("T")


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


class Generator:
    """Asks the model, and looks at what it says."""

    def __init__(
        self, model: ReopeningModel, settings: BotSettings, moderator: Moderator, metrics: Metrics
    ):
        self._model = model
        self._moderator = moderator
        self._metrics = metrics
        self._params = SamplingParams(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
        )

    @property
    def sampling(self) -> dict[str, Any]:
        """How answers are drawn, as the store notes it."""
        return asdict(self._params)

    async def room(self, system: str) -> Room:
        """What a system text leaves of the model's context; raises `EngineError` and `ModelError`
        when the engine died twice or cannot be opened."""
        return await self._model.ask(
            lambda model: asyncio.to_thread(room_beside, model, system, self._params.max_tokens),
            answers=False,
        )

    def allows(self, text: str) -> bool:
        """Whether an answer may be shown as far as it is."""
        return self._moderator.after(text) is None

    async def answer(
        self, question: Question, systems: Sequence[str], over: Over, heard: Callable[[str], None]
    ) -> Finished:
        """One answer, `heard` as it grows; what there is of it where somebody stops it. Of
        `systems` it follows the first text that leaves room for a question.

        Raises `EngineError` and `ModelError` when the engine died twice or cannot be opened, and
        what `over` holds.
        """
        said = Finished("", "cancelled")

        def listen(model: OpenedModel, text: str) -> None:
            nonlocal said
            said = replace(said, text=text, version=model.version)
            heard(text)

        try:
            finished = await self._asked(
                question,
                systems,
                over,
                lambda model, ids: self._read(model, ids, partial(listen, model)),
            )
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
            ids = await asyncio.to_thread(question.ids, model, systems, self._params.max_tokens)
            return await read(model, ids)

        return await unless(over, self._model.ask(work))

    async def _read(
        self, model: OpenedModel, ids: list[int], heard: Callable[[str], None] | None = None
    ) -> Finished:
        async with aclosing(model.engine.generate(ids, self._params)) as chunks:
            text, stop = await _collected(chunks, heard)
        return Finished(text, stop, version=model.version)

    def _fit_to_show(self, finished: Finished) -> Finished:
        """With the moderation's sentence, or that there are no words, in the place of the text."""
        if verdict := self._moderator.after(finished.text):
            self._metrics.moderated.labels("after", verdict.rule).inc()
            return replace(finished, instead=verdict.say or say.NO_WORDS)
        if not finished.instead and answer_text(finished.text) == NOTHING_YET:
            return replace(finished, instead=say.NO_WORDS)
        return finished


async def _collected(
    chunks: AsyncIterator[Chunk], heard: Callable[[str], None] | None
) -> tuple[str, StopReason]:
    text = ""
    stop: StopReason = "cancelled"
    async for chunk in chunks:
        text += chunk.text
        stop = chunk.stop or stop
        if chunk.text and heard:
            heard(text)
    return text, stop
