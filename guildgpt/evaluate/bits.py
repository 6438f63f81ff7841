"""How well a model predicts text it was not trained on: bits per byte and perplexity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from guildgpt.bases.base import Base
from guildgpt.data.examples import Example
from guildgpt.model.config import LARGE, Dtype
from guildgpt.network.trunk import Trunk, micro_batches, summed_loss, trunk_for
from guildgpt.network.world import World


@dataclass(frozen=True, slots=True)
class Bits:
    """A sum of losses over held-out rows: `nats` over `tokens` predicted tokens and `bytes`."""

    rows: int
    tokens: int
    bytes: int
    nats: float

    @property
    def bits_per_byte(self) -> float:
        """nats / (ln 2 · UTF-8 bytes): comparable between models with different tokenizers.

        The end-of-turn tokens' losses are counted, though no byte stands behind them.
        """
        return self.nats / math.log(2) / max(self.bytes, 1)

    @property
    def perplexity(self) -> float:
        """exp(nats / tokens), per predicted token."""
        return math.exp(min(self.nats / max(self.tokens, 1), 700))


def measure(trunk: Trunk, examples: Sequence[Example], micro_tokens: int = 2048) -> Bits:
    """Predict every masked token of `examples`, in evaluation mode and without gradients."""
    was_training = trunk.model.training
    trunk.model.eval()
    nats = 0.0
    try:
        with torch.no_grad():
            for group in micro_batches(examples, micro_tokens, padded=trunk.padded):
                nats += float(summed_loss(trunk, group))
    finally:
        trunk.model.train(was_training)
    return Bits(
        len(examples), sum(e.trained for e in examples), sum(e.bytes for e in examples), nats
    )


def measure_all(
    trunk: Trunk, by_source: Mapping[str, Sequence[Example]], micro_tokens: int = 2048
) -> dict[str, Bits]:
    """`measure` for each source that has held-out rows."""
    return {
        name: measure(trunk, examples, micro_tokens)
        for name, examples in by_source.items()
        if examples
    }


def measure_bits(
    base: Base, held_out: Mapping[str, Sequence[Example]], world: World, dtype: Dtype = "auto"
) -> dict[str, Bits]:
    """How well a model predicts held-out rows, by source; afterwards it is on the CPU again.

    A model in half precision is widened for it where the computation is wider, or the model so
    small that what is trained from it is saved in float32: both are measured alike, then.
    """
    wanted, model = world.dtype(dtype), base.model.to(world.device)
    if model.dtype != wanted or sum(p.numel() for p in model.parameters()) < LARGE:
        model.float()
    bits = measure_all(trunk_for(model, wanted), held_out)
    base.model.to("cpu")
    return bits
