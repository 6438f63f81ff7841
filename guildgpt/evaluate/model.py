"""Measuring a whole model: held-out bits with torch, sampled answers with llama.cpp."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from guildgpt.bases.base import Base
from guildgpt.chat import Message
from guildgpt.data import starter_prompts
from guildgpt.data.examples import Example
from guildgpt.engines.engine import SamplingParams
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.evaluate.bits import Bits, measure_all
from guildgpt.evaluate.config import EvaluateConfig
from guildgpt.evaluate.probes import probes
from guildgpt.evaluate.samples import Sample, SampleMeasures, measure, sample
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.config import Dtype
from guildgpt.network.hardware import pick_dtype
from guildgpt.network.trunk import trunk_for
from guildgpt.network.world import World


@dataclass(frozen=True)
class Measured:
    """A model's figures: held-out bits per source, and its sampled answers."""

    bits: dict[str, Bits]
    samples: list[Sample]  # the probes first, then the starter pack's prompts

    @property
    def of_samples(self) -> SampleMeasures:
        """The figures of the sampled answers; there must be some."""
        ended = [one.stop == "eos" for one in self.samples]
        return measure([one.ids for one in self.samples], ended)


def measure_bits(
    base: Base, held_out: Mapping[str, Sequence[Example]], world: World, dtype: Dtype = "auto"
) -> dict[str, Bits]:
    """How well a model predicts held-out rows, by source; afterwards it is on the CPU again."""
    trunk = trunk_for(base.model.to(world.device), pick_dtype(dtype, world.device))
    bits = measure_all(trunk, held_out)
    base.model.to("cpu")
    return bits


def sample_answers(
    chat: ChatTokenizer, gguf: Path, config: EvaluateConfig, seed: int
) -> list[Sample]:
    """What the model in `gguf` answers to the probes and to the held-out prompts."""
    prompts = [probe.messages for probe in probes()]
    prompts += [(Message("user", p.prompt),) for p in starter_prompts()[: config.prompts]]
    params = SamplingParams(temperature=config.temperature, max_tokens=config.max_tokens)
    longest = max(len(chat.template.prompt(prompt, chat.tokenizer)) for prompt in prompts)

    async def all_of_them() -> list[Sample]:
        async with LlamaCppEngine(
            gguf,
            tokenizer=chat.tokenizer,
            context=longest + params.max_tokens + 16,
            slots=config.concurrency,
        ) as engine:
            return await sample(
                engine, chat.template, prompts, params, seed=seed, concurrency=config.concurrency
            )

    return asyncio.run(all_of_them())
