"""Sampling answers from an engine, and their figures without a judge.

Held-out loss says how well a model predicts people's text; it does not say whether the model ends
its turn, or repeats itself until it is cut off. These measures do, from token ids alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from guildgpt.chat import ChatTemplate, Message
from guildgpt.chat.repetition import distinct_n, loops
from guildgpt.data import starter_prompts
from guildgpt.engines.engine import Completion, Engine, SamplingParams, StopReason, complete
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.evaluate.bits import Bits
from guildgpt.evaluate.config import EvaluateConfig
from guildgpt.evaluate.kept import ConstrainedAnswer
from guildgpt.evaluate.probes import probes
from guildgpt.model.chat_tokenizer import ChatTokenizer


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt and what the model answered."""

    prompt: tuple[Message, ...]
    answer_text: str
    ids: tuple[int, ...]
    stop: StopReason
    looped: bool


@dataclass(frozen=True, slots=True)
class SampleMeasures:
    """The figures of one set of answers: rates and shares in 0..1, lengths in tokens."""

    answers: int
    end_of_turn_rate: float  # answers that the model ended itself; the others were cut
    loop_rate: float
    distinct_1: float
    distinct_2: float
    distinct_3: float
    tokens_mean: float
    tokens_median: float
    tokens_p90: float


@dataclass(frozen=True)
class Measured:
    """A model's figures: held-out bits per source, its sampled answers, and those to each set of
    prompts with constraints."""

    bits: dict[str, Bits]
    samples: list[Sample]  # the probes first, then the starter pack's prompts
    constrained: dict[str, list[ConstrainedAnswer]] = field(default_factory=dict)

    @property
    def of_samples(self) -> SampleMeasures:
        """The figures of the sampled answers; there must be some."""
        ended = [one.stop == "eos" for one in self.samples]
        return measure([one.ids for one in self.samples], ended)


def measure(answers: Sequence[Sequence[int]], ended: Sequence[bool]) -> SampleMeasures:
    """All figures of a set of answers: the ids of each without the end-of-turn token, and whether
    the model ended it itself."""
    lengths = np.array([len(ids) for ids in answers])
    return SampleMeasures(
        answers=len(answers),
        end_of_turn_rate=sum(ended) / len(answers),
        loop_rate=sum(map(loops, answers)) / len(answers),
        distinct_1=distinct_n(answers, 1),
        distinct_2=distinct_n(answers, 2),
        distinct_3=distinct_n(answers, 3),
        tokens_mean=float(lengths.mean()),
        tokens_median=float(np.median(lengths)),
        tokens_p90=float(np.percentile(lengths, 90)),
    )


def prompt_seed(seed: int, index: int) -> int:
    """The seed of the prompt at `index`: 31 bits, which every engine takes as they are."""
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


async def sample(
    engine: Engine,
    template: ChatTemplate,
    prompts: Sequence[tuple[Message, ...]],
    params: SamplingParams,
    *,
    seed: int,
    concurrency: int = 8,
) -> list[Sample]:
    """Answer every prompt, at most `concurrency` at a time; the results are in the prompts' order.

    Each prompt has a seed of its own, made from `seed` and its place in the list (`params.seed` is
    not used), so that what is drawn does not depend on which requests run side by side. The first
    failure cancels the rest and is raised.
    """
    asked = [template.prompt(prompt, engine.tokenizer) for prompt in prompts]
    found = await complete_all(engine, asked, params, seed=seed, concurrency=concurrency)
    return [
        Sample(prompt, one.text, one.ids, one.stop, loops(one.ids))
        for prompt, one in zip(prompts, found, strict=True)
    ]


async def complete_all(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    params: SamplingParams,
    *,
    seed: int,
    concurrency: int = 8,
) -> list[Completion]:
    """What `sample` does, for prompts of token ids."""
    gate = asyncio.Semaphore(concurrency)

    async def one(index: int, ids: Sequence[int]) -> Completion:
        async with gate:
            return await complete(engine, ids, replace(params, seed=prompt_seed(seed, index)))

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(index, ids)) for index, ids in enumerate(prompts)]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None  # the one message a person is meant to read
    return [task.result() for task in tasks]


def sampled_prompts(config: EvaluateConfig) -> list[tuple[Message, ...]]:
    """The probes, and as many of the starter pack's held-out prompts as are wanted."""
    prompts = [probe.messages for probe in probes()]
    return prompts + [(Message("user", p.prompt),) for p in starter_prompts()[: config.prompts]]


def sample_answers(
    chat: ChatTokenizer, gguf: Path, config: EvaluateConfig, seed: int
) -> list[Sample]:
    """What the model in `gguf` answers to the probes and to the held-out prompts. A prompt that
    leaves no room in what the model holds is left out; EngineError where all of them do."""
    prompts = sampled_prompts(config)
    longest = max(len(chat.template.prompt(prompt, chat.tokenizer)) for prompt in prompts)

    async def all_of_them() -> list[Sample]:
        async with LlamaCppEngine(
            gguf,
            tokenizer=chat.tokenizer,
            context=longest + config.max_tokens + 16,
            slots=config.concurrency,
        ) as engine:
            return await answers_of(engine, chat.template, config, seed)

    return asyncio.run(all_of_them())


async def answers_of(
    engine: Engine, template: ChatTemplate, config: EvaluateConfig, seed: int
) -> list[Sample]:
    """The same of a model that is open."""
    prompts = sampled_prompts(config)
    lengths = [len(template.prompt(prompt, engine.tokenizer)) for prompt in prompts]
    pairs = zip(prompts, lengths, strict=True)
    fitting = [prompt for prompt, length in pairs if length < engine.context]
    asked = fitting or prompts[:1]  # which is refused in the engine's words
    params = SamplingParams(temperature=config.temperature, max_tokens=config.max_tokens)
    return await sample(engine, template, asked, params, seed=seed, concurrency=config.concurrency)
