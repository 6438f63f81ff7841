"""A model's answers to many prompts, by our own sampler: for what is judged or checked, where exact
weights and many rows at a time matter (`samples.py` asks the engine that people talk to)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guildgpt.chat import Message
from guildgpt.data.examples import Example, answering
from guildgpt.evaluate.samples import SampleMeasures, measure
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.network.sampler import Sampled, Sampling, sample
from guildgpt.network.trunk import Trunk

Floats = NDArray[np.float64]

PLACES = 16_384  # tokens that a batch has room for: 0.4 GB of keys and values with 135M weights


@dataclass(frozen=True, slots=True)
class Answers:
    """One model's answers to the prompts, in their order."""

    examples: tuple[Example, ...]  # prompt and answer, closed, of which the answer is predicted
    sampled: tuple[Sampled, ...]
    texts: tuple[str, ...]

    @property
    def measures(self) -> SampleMeasures:
        """Their figures without a judge."""
        return measure([one.answer for one in self.sampled], [one.ended for one in self.sampled])

    @property
    def lengths(self) -> Floats:
        """Tokens (N,) of each answer, its end of turn included."""
        return np.array([float(len(one)) for one in self.sampled])


def write(
    trunk: Trunk,
    chat: ChatTokenizer,
    prompts: Sequence[tuple[Message, ...]],
    sampling: Sampling,
    *,
    seed: int,
) -> Answers:
    """A model's answers, as many at a time as there is room for.

    A processor multiplies 128 rows in half the time that it takes for four times 32 (docs/log.md).
    """
    asked = [chat.template.prompt(messages, chat.tokenizer) for messages in prompts]
    longest = max(map(len, asked), default=0) + sampling.max_new_tokens
    rows = max(PLACES // longest, 1)
    sampled = sample(trunk, asked, sampling, eos_id=chat.eos_id, seed=seed, rows=rows)
    examples = (
        answering(ids, one.ids, "written", end=chat.eos_id)
        for ids, one in zip(asked, sampled, strict=True)
    )
    texts = tuple(chat.tokenizer.decode(one.answer) for one in sampled)
    return Answers(tuple(examples), tuple(sampled), texts)
