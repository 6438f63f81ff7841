"""The contract of every engine: token ids in, token ids and text out, streamed.

Chat, evaluation, API and bot know nothing else of an engine. Prompts are ids that the chat
template wrote, so that no member's text can reach an engine as a control token.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, Protocol

from guildgpt.chat.tokenizer import Tokenizer
from guildgpt.errors import EngineError

StopReason = Literal["eos", "stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen.

    In this order: `repeat_penalty` (1 = off) divides the odds of the last 64 tokens, the logits
    are divided by `temperature` (0 = greedy), then the `top_k` most probable tokens are kept
    (0 = all), of these the fewest that hold `top_p` of the probability, of these the ones at
    least `min_p` times as probable as the first. `max_tokens` bounds the answer; the room left in
    the engine's context bounds it too. The same `seed` repeats an answer on the same machine
    where the engine computes alone; None draws anew.

    An answer ends before the first of the `stop` texts. `logprobs` asks for the log-probability of
    each token, and of that many of the most probable ones in its place (0 = of none of them).
    """

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    max_tokens: int = 512
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        """Raise `EngineError` on a value that no engine can follow."""
        rules = {
            "temperature": (self.temperature >= 0, "0 or more (0 is greedy)"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1 (1 is all tokens)"),
            "min_p": (0 <= self.min_p <= 1, "from 0 to 1"),
            "repeat_penalty": (self.repeat_penalty > 0, "above 0 (1 is none)"),
            "max_tokens": (self.max_tokens >= 1, "1 or more"),
            "seed": (self.seed is None or self.seed >= 0, "0 or more"),
            "logprobs": (self.logprobs is None or self.logprobs >= 0, "0 or more"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise EngineError(
                    f"{name} is {getattr(self, name)}", remedy=f"Give a number {rule}."
                )
        if "" in self.stop:
            raise EngineError("a stop text is empty", remedy="Give texts of one character or more.")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The log-probability in nats of a token of an answer, and of the most probable tokens in its
    place, all under the model's own distribution: before temperature, penalty and cuts."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer, as it comes.

    `text` may be shown at once: a character split over several tokens is held back until it is
    whole, and what may be the beginning of a stop text until it is none. `ids` are the tokens that
    came with it, without the end-of-turn token: of that one, `stop == "eos"` tells. The last of
    them may reach into the stop text. `stop` is None but in the last chunk. `logprobs` has, where
    asked for, an entry for each token of `ids`; of a character split over several tokens an engine
    may know the last one's alone.
    """

    ids: tuple[int, ...]
    text: str
    stop: StopReason | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: its ids without the end of turn, its text, why it ended, and what `Chunk`
    says of log-probabilities."""

    ids: tuple[int, ...]
    text: str
    stop: StopReason
    logprobs: tuple[TokenLogprob, ...] = ()


class Engine(Protocol):
    """A loaded model that answers several prompts at once."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What turns text into this model's ids and back."""

    @property
    def context(self) -> int:
        """Tokens that one prompt and its answer can take together."""

    def generate(self, ids: Sequence[int], params: SamplingParams) -> AsyncGenerator[Chunk, None]:
        """Stream the answer to a prompt of token ids.

        Call it as often as needed at the same time. Closing the iterator or cancelling the task
        that reads it stops the work in the engine. Raises `EngineError` when the prompt leaves
        no room for an answer, and `EngineDied` when the engine is gone.
        """

    async def check(self) -> None:
        """Raise `EngineDied` where the engine is gone, or gives no sign of life."""

    async def close(self) -> None:
        """Give back memory, threads and connections; closing twice does no harm."""


async def complete(
    engine: Engine,
    ids: Sequence[int],
    params: SamplingParams,
    on_text: Callable[[str], object] = lambda text: None,
) -> Completion:
    """The whole answer to a prompt; `on_text` gets it as it grows. Raises what `Engine.generate`
    raises."""
    tokens: list[int] = []
    logprobs: list[TokenLogprob] = []
    text = ""
    stop: StopReason = "cancelled"  # an engine that ends without a word was stopped
    async with aclosing(engine.generate(ids, params)) as chunks:
        async for chunk in chunks:
            tokens += chunk.ids
            logprobs += chunk.logprobs
            text += chunk.text
            stop = chunk.stop or stop
            if chunk.text:
                on_text(text)
    return Completion(tuple(tokens), text, stop, tuple(logprobs))


def check_prompt(ids: Sequence[int], context: int) -> None:
    """Raise `EngineError` for a prompt that is empty or leaves no room for one token more."""
    if not ids:
        raise EngineError("the prompt is empty", remedy="Give at least one token.")
    if len(ids) >= context:
        raise EngineError(
            f"the prompt is {len(ids)} tokens long, and the engine's context holds {context}, "
            "answer included",
            remedy="Shorten the conversation, or open the engine with a larger context.",
        )
