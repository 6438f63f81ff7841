"""An engine that says what a test has written for it, at the test's pace."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence

from guildgpt.chat.tokenizer import Tokenizer
from guildgpt.engines.engine import Chunk, SamplingParams, StopReason
from guildgpt.errors import EngineDied

from ..slow import Slow


class Scripted(Slow):
    """Says the texts of `says` in turn, the last one again and again, a word or a line end at a
    time, and ends by `stop`; after `holds_after` pieces it goes on only once that is None again."""

    def __init__(self, tokenizer: Tokenizer, *says: str):
        super().__init__(tokenizer)
        self.says = list(says) or ["Hello."]
        self.asked: list[str] = []
        self.pause = 0.0
        self.holds_after: int | None = None
        self.stop: StopReason = "eos"

    async def generate(
        self, ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        self.asked.append(self.tokenizer.decode(ids))
        text = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        self.running += 1
        try:
            for number, piece in enumerate(re.findall(r"\S+|\s+", text)):
                await asyncio.sleep(self.pause)
                while self.holds_after is not None and number >= self.holds_after:
                    await asyncio.sleep(0.01)
                if number == self.dies_after:
                    self.dies_after = None
                    raise EngineDied("it is gone")
                yield Chunk((5,), piece)
            yield Chunk((), "", self.stop)
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise
        finally:
            self.running -= 1
