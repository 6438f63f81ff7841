"""A model that outlives its engine: asked once more, opened anew, when the engine died."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from guildgpt.chat import Message
from guildgpt.engines.engine import SamplingParams
from guildgpt.errors import EngineDied
from guildgpt.talk.opened import OpenedModel

T = TypeVar("T")
Opened = Callable[[OpenedModel, EngineDied | None], Awaitable[object]]


class ReopeningModel:
    """A model, opened where it is not open, and again when its engine died.

    `opened` is done with each model before it is asked anything: it is told how the engine before
    it died. `well` says whether answers come: not from the moment an engine is found dead, or does
    not open, until it has answered again.
    """

    def __init__(
        self,
        open_it: Callable[[], OpenedModel],
        *,
        now: OpenedModel | None = None,
        opened: Opened | None = None,
    ):
        """`now` is the model if it is open already; else `open_it` does that, in a thread."""
        self.well = True
        self._open = open_it
        self._opened = opened
        self._now = now
        self._opening: asyncio.Task[OpenedModel] | None = None
        self._death: EngineDied | None = None
        self._lock = asyncio.Lock()

    async def ask(self, work: Callable[[OpenedModel], Awaitable[T]], *, answers: bool = True) -> T:
        """What `work` makes of the model; done once more where the engine died meanwhile. It is
        an answer, and shows that they come, or `answers` is false.

        Raises what opening and `work` raise, `EngineDied` where it died twice.
        """
        for last_try in (False, True):
            model = None
            try:
                model = await self.get()
                result = await work(model)
            except EngineDied as death:
                self.well = False
                await self._bury(model, death)
                if last_try:
                    raise
            else:
                self.well = self.well or answers
                return result
        raise AssertionError("the loop above returns or raises")

    async def look(self) -> None:
        """See whether the engine lives, and opens and answers where it did not; raises what `ask`
        raises."""
        await self.ask(self._give_a_sign)

    async def get(self) -> OpenedModel:
        """The model, opened where it is not open. Raises what opening raises.

        Who does not want to wait may be cancelled: the opening goes on for the next.
        """
        async with self._lock:
            if self._now is None:
                self._opening = self._opening or asyncio.create_task(self._open_anew())
                try:
                    self._now = await asyncio.shield(self._opening)
                except Exception:
                    self.well = False
                    raise
                finally:
                    if self._opening.done():
                        self._opening = None
            return self._now

    async def close(self) -> None:
        """Close the engine, if it is open or about to be."""
        async with self._lock:
            if self._opening is not None:
                opening, self._opening = self._opening, None
                await asyncio.wait({opening})
                if not opening.cancelled() and not opening.exception():
                    self._now = opening.result()
            if self._now is not None:
                await self._now.engine.close()
                self._now = None

    async def _open_anew(self) -> OpenedModel:
        model = await asyncio.to_thread(self._open)
        if self._opened:
            try:
                await self._opened(model, self._death)
            except BaseException:
                await model.engine.close()
                raise
        self._death = None
        return model

    async def _bury(self, model: OpenedModel | None, death: EngineDied) -> None:
        """Close what is left of a model whose engine died: `get` opens it anew."""
        async with self._lock:
            if model is not None and self._now is model:
                self._now, self._death = None, death
                await model.engine.close()

    async def _give_a_sign(self, model: OpenedModel) -> None:
        if self.well:
            await model.engine.check()
            return
        ids = await asyncio.to_thread(model.prompt, [Message("user", "Hello")])
        async with aclosing(model.engine.generate(ids, SamplingParams(max_tokens=1))) as chunks:
            async for _ in chunks:
                pass
