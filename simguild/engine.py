"""`PacedEngine`: answers at a fixed pace, so that what is around it can be measured and broken."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Self

from guildgpt.chat import CHATML
from guildgpt.engines.engine import Chunk, Engine, SamplingParams, StopReason, check_prompt
from guildgpt.errors import EngineDied
from guildgpt.model.version import Version
from guildgpt.talk.fleet import OpenedModel

_PIECE = re.compile(r"\s?[^\s]{1,4}|\s")
_TICK = 0.05  # seconds between two chunks at least: a fast pace gives larger chunks
_FILLER = (
    " I am an engine without a model: I only keep a steady pace, word after word, so that you can"
    " watch how an answer grows, and can stop it, rate it, or ask for another one."
)


class PieceTokenizer:
    """Pieces of up to four characters and the control tokens; ids are given as pieces come up."""

    def __init__(self) -> None:
        self._pieces = list(CHATML.control_tokens)
        self._control = {piece: id for id, piece in enumerate(self._pieces)}
        self._ids: dict[str, int] = {}

    def encode(self, text: str, after: object = None, /) -> list[int]:
        """The ids of plain text, none of them a control token's."""
        return [self._id(piece) for piece in _PIECE.findall(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, control tokens left out."""
        return "".join(self._pieces[id] for id in ids if id >= len(self._control))

    def show(self, ids: Sequence[int]) -> str:
        """The text of `ids`, control tokens by their names."""
        return "".join(self._pieces[id] for id in ids)

    def token_id(self, token: str) -> int | None:
        """The id of a control token, or of a piece that came up."""
        return self._control.get(token, self._ids.get(token))

    def _id(self, piece: str) -> int:
        if piece not in self._ids:
            self._ids[piece] = len(self._pieces)
            self._pieces.append(piece)
        return self._ids[piece]


def echo(prompt: str) -> str:
    """The default answer: the last question again, and a sentence of filler."""
    start, end = CHATML.control_tokens
    asked = prompt.rpartition(f"{start}user\n")[2].partition(end)[0].strip()
    return f"You wrote: {asked[:400]}\n{_FILLER}"


class PacedEngine:
    """An `Engine` that streams what `answer` makes of a prompt's text (control tokens shown).

    `tokens_per_second` holds for each stream by itself, however many there are; a token is about
    four characters. For tests: `prompts` are the ids it was asked with, `active` the streams now
    running, `cancelled` those that were given up.
    """

    def __init__(
        self,
        tokens_per_second: float = 20.0,
        answer: Callable[[str], str] = echo,
        *,
        context: int = 4096,
    ):
        self._rate = tokens_per_second
        self._answer = answer
        self._tokenizer = PieceTokenizer()
        self._context = context
        self._dies_after: int | None = None
        self._closed = False
        self.prompts: list[tuple[int, ...]] = []
        self.active = 0
        self.cancelled = 0

    @property
    def tokenizer(self) -> PieceTokenizer:
        """See `Engine.tokenizer`."""
        return self._tokenizer

    @property
    def context(self) -> int:
        """See `Engine.context`."""
        return self._context

    def fail_after(self, tokens: int | None) -> None:
        """Die in every answer after that many tokens (0: at once); None heals it."""
        self._dies_after = tokens

    def prompt_text(self, index: int = -1) -> str:
        """A prompt it was asked with as text, control tokens by their names."""
        return self._tokenizer.show(self.prompts[index])

    async def generate(
        self, ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        """See `Engine.generate`."""
        check_prompt(ids, self._context)
        self._check_alive(0)
        self.prompts.append(tuple(ids))
        tokens = self._tokenizer.encode(self._answer(self._tokenizer.show(ids)))
        room = min(params.max_tokens, self._context - len(ids))
        stop: StopReason = "length" if len(tokens) > room else "eos"
        tokens = tokens[:room]
        loop = asyncio.get_running_loop()
        started, sent, finished = loop.time(), 0, False
        self.active += 1
        try:
            while sent < len(tokens):
                due = max(sent + 1, int((loop.time() - started + _TICK) * self._rate))
                due = min(due, len(tokens), self._dies_after or len(tokens))
                await asyncio.sleep(started + due / self._rate - loop.time())
                self._check_alive(sent)
                piece = tokens[sent:due]
                sent += len(piece)
                last = sent == len(tokens)
                yield Chunk(tuple(piece), self._tokenizer.decode(piece), stop if last else None)
            if not tokens:
                yield Chunk((), "", stop)
            finished = True
        except EngineDied:
            finished = True
            raise
        finally:
            self.active -= 1
            self.cancelled += not finished

    async def check(self) -> None:
        """See `Engine.check`."""
        self._check_alive(0)

    async def close(self) -> None:
        """See `Engine.close`."""
        self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()

    def _check_alive(self, sent: int) -> None:
        if self._closed:
            raise EngineDied("the engine was closed", remedy="Open it again.")
        if self._dies_after is not None and sent >= self._dies_after:
            raise EngineDied("the engine died", remedy="Start it again.")


def standing_in(engine: Engine) -> OpenedModel:
    """An engine as a bot takes it for its model."""
    version = Version("stand-in", "stand-in", "", "")
    return OpenedModel(engine, CHATML, lambda: version)
