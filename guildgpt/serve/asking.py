"""A question on its way through the fair queue to a model, and its answers on their way back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from guildgpt.chat import Message
from guildgpt.engines.engine import Chunk, SamplingParams
from guildgpt.engines.server_link import KeyRefused, ServerBusy
from guildgpt.errors import EngineDied, EngineError
from guildgpt.serve.metrics import Counting, Metrics
from guildgpt.serve.problems import Problem, engine_died
from guildgpt.talk.fitting import keep_latest
from guildgpt.talk.fleet import Fleet, OpenedModel
from guildgpt.talk.waiting import FairQueue

DEFAULT = "guildgpt"  # a name for whoever serves


@dataclass(frozen=True, slots=True)
class Begun:
    """A model has begun to answer: its tokenizer, its version, and the prompt's tokens."""

    model: OpenedModel
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of one of the answers."""

    index: int
    chunk: Chunk


Prompts = Callable[[OpenedModel], Sequence[Sequence[int]]]
Params = Callable[[OpenedModel, int], SamplingParams]


@dataclass(frozen=True)
class Asking:
    """Asks the open models, each caller in turn."""

    fleet: Fleet
    queue: FairQueue
    metrics: Metrics = field(default_factory=Metrics)
    clock: Callable[[], float] = time.monotonic
    _on_their_way: set[asyncio.Queue[Begun | Piece | Problem | None]] = field(default_factory=set)

    def end(self) -> None:
        """End all answers that are on their way, each by an error."""
        for ready in self._on_their_way:
            ready.put_nowait(Problem(503, "the server is stopped: ask again"))

    def version(self, name: str | None) -> str | None:
        """The id of the version by that name, None for whoever serves. Raises `Problem`."""
        if name in (None, "", DEFAULT):
            return None
        there = self.fleet.open_versions
        if name in there:
            return name
        by_name = [id for id in there if id.partition("@")[0] == name]
        if by_name:
            return by_name[-1]
        raise unknown_model(name, there)

    async def context(self, version: str | None) -> int:
        """Tokens of a prompt and its answer at most; raises what opening the model raises."""

        async def look(model: OpenedModel) -> int:
            return model.engine.context

        return await self.fleet.ask(look, version=version, answers=False)

    async def answers(
        self,
        prompts: Prompts,
        params: Params,
        *,
        n: int,
        version: str | None,
        caller: str,
        conversation: str | None = None,
    ) -> AsyncGenerator[Begun | Piece, None]:
        """`n` answers to each of the prompts that `prompts` makes of a model, chunk by chunk as
        they come: those of the first prompt have the indices 0 to `n` - 1. Without a `version`,
        the release decides whose share the conversation of that id belongs to.

        Closing the generator stops the work. An engine that dies is asked once more if nothing
        was said yet. Raises `Busy`, `TooMany`, `Problem`, and what engines raise.
        """
        ready: asyncio.Queue[Begun | Piece | Problem | None] = asyncio.Queue()
        counting = Counting(self.metrics, self.clock)
        said = False

        async def write(index: int, begun: Begun, ids: Sequence[int]) -> None:
            nonlocal said
            engine, drawn = begun.model.engine, params(begun.model, len(ids))
            if drawn.seed is not None:  # each of several answers is another one
                drawn = replace(drawn, seed=drawn.seed + index % n)
            try:
                async with aclosing(engine.generate(ids, drawn)) as chunks:
                    async for chunk in chunks:
                        if not said:
                            ready.put_nowait(begun)
                        said = True
                        counting.chunk(index, chunk)
                        ready.put_nowait(Piece(index, chunk))
            except EngineError as error:
                if isinstance(error, (EngineDied, KeyRefused, ServerBusy)):
                    raise
                raise Problem(400, error.what) from error

        async def work(model: OpenedModel) -> None:
            if said:
                # To the fleet no death: its engine is a new one, in which others answer.
                raise engine_died()
            told = await asyncio.to_thread(prompts, model)
            begun = Begun(model, sum(map(len, told)))
            counting.begin(model.version.id, begun.prompt_tokens, len(told) * n)
            await _together(
                [write(i * n + k, begun, ids) for i, ids in enumerate(told) for k in range(n)]
            )

        async def ask() -> None:
            async with self.queue.turn(guild=None, user=caller):
                if version not in (None, *self.fleet.open_versions):  # retired meanwhile
                    raise unknown_model(version, self.fleet.open_versions)
                await self.fleet.ask(work, version=version, conversation=conversation)

        def over(asking: asyncio.Task[None]) -> None:
            counting.end("cancelled" if asking.cancelled() else "error")
            ready.put_nowait(None)

        # The turn ends with the model's work: who reads slowly keeps nobody else waiting.
        asking = asyncio.create_task(ask())
        asking.add_done_callback(over)
        self._on_their_way.add(ready)
        try:
            while (piece := await ready.get()) is not None:
                if isinstance(piece, Problem):
                    raise piece
                yield piece
            await asking
        finally:
            self._on_their_way.discard(ready)
            asking.cancel()
            await asyncio.wait({asking})


def unknown_model(name: str | None, there: Iterable[str]) -> Problem:
    """What who asks for a model that is not open is answered with."""
    listed = ", ".join([DEFAULT, *there])
    what = f"there is no model `{name}` here, but {listed}"
    return Problem(404, what, param="model", code="model_not_found")


def conversation_ids(
    model: OpenedModel,
    system: str,
    path: Sequence[Message],
    question: Message,
    limit: int | None,
) -> list[int]:
    """The ids that ask for an answer to the question, the earliest exchanges left out until there
    is room. Raises `Problem` where the question has none by itself."""
    room = model.room(limit or model.engine.context)
    fitted = keep_latest(path, question, system=system, count=model.count, room=room)
    ids = model.prompt(fitted.messages)
    if len(ids) >= model.engine.context or (fitted.dropped == len(path) and len(ids) > room):
        raise too_long(len(ids), model.engine.context)
    return ids


def too_long(tokens: int, context: int) -> Problem:
    """What a prompt that leaves no room is answered with."""
    return Problem(
        400,
        f"This model's maximum context length is {context} tokens, and the last message and the "
        f"system text take {tokens} of them by themselves.",
        param="messages",
        code="context_length_exceeded",
    )


async def _together(work: Sequence[Coroutine[object, object, None]]) -> None:
    """All of it, or none: the first failure ends the others."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
