"""An engine whose pace a test sets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence

from guildgpt.chat.tokenizer import Tokenizer
from guildgpt.engines.engine import Chunk, SamplingParams
from guildgpt.errors import EngineDied


class Slow:
    """An engine that writes one word each time it is let, and counts who left."""

    context = 512

    def __init__(self, tokenizer: Tokenizer, words: int = 10**6):
        self.tokenizer = tokenizer
        self.words = words
        self.word = "word "
        self.running = self.left = self.closed = 0
        self.pause = 0.005
        self.dies_after: int | None = None
        self.dead = False

    async def generate(
        self, ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        self.running += 1
        try:
            for number in range(self.words):
                await asyncio.sleep(self.pause)
                if number == self.dies_after:
                    self.dies_after = None
                    raise EngineDied("it is gone")
                if self.dead and number:
                    raise EngineDied("it is gone")
                yield Chunk((5,), self.word)
            yield Chunk((), "", "eos")
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise
        finally:
            self.running -= 1

    async def check(self) -> None:
        pass

    async def close(self) -> None:
        self.closed += 1


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for what other threads do."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
