"""Next-token prediction on rows of examples: what pretraining and SFT have in common.

Prepare, step, measure, save: read `train_next_token` from top to bottom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from guildgpt.data.examples import Example, Row
from guildgpt.evaluate.bits import measure_all
from guildgpt.model.adapter import merged, trainable
from guildgpt.model.hardware import pick_device, pick_dtype
from guildgpt.model.trunk import Trunk, causal_model, micro_batches, summed_loss, trunk_for
from guildgpt.train.config import TrainConfig
from guildgpt.train.loop import Outcome, Watcher, run_loop


def train_next_token(
    model: Any,
    rows: Sequence[Row],
    held_out: Mapping[str, Sequence[Example]],
    config: TrainConfig,
    folder: Path,
    *,
    seed: int,
    watcher: Watcher,
) -> tuple[Any, Outcome]:
    """Train what is trainable in `model` on `rows`, with checkpoints and metrics in `folder`.

    Returns the model in plain transformers and float32, adapters folded in, on the CPU.
    """
    device = pick_device()
    dtype = pick_dtype(config.dtype, device)

    model.to(device).train()
    trunk = trunk_for(model, dtype)
    objective = NextToken(trunk, rows, config, seed)
    few = {name: rows[: config.evaluation_rows] for name, rows in held_out.items() if rows}

    def evaluate() -> dict[str, dict[str, float]]:
        measured = measure_all(trunk, few, config.micro_tokens)
        return {
            name: {"bits_per_byte": bits.bits_per_byte, "perplexity": bits.perplexity}
            for name, bits in measured.items()
        }

    outcome = run_loop(
        objective,
        trainable(model),
        config,
        folder,
        device=device,
        dtype=dtype,
        watcher=watcher,
        seed=seed,
        evaluate=evaluate if few else None,
    )
    return merged(model.to("cpu")), outcome


class NextToken:
    """-log p of every predicted token, summed; which rows come when depends on seed and step."""

    def __init__(self, trunk: Trunk, rows: Sequence[Row], config: TrainConfig, seed: int):
        self.trunk = trunk
        self.rows = rows
        self.config = config
        self.seed = seed
        self.steps, self.places = schedule(len(rows), config)
        self.epoch = -1  # whose order is in self.order
        self.order = np.arange(0)
        self.shape = _Shape(trunk)

    def batches(self, step: int) -> list[list[Example]]:
        """The step's rows, cut into passes of similar lengths."""
        first = step * self.config.batch_size
        places = range(first, min(first + self.config.batch_size, self.places))
        examples = [e for place in places for e in self.rows[self._row(place)]]
        return micro_batches(examples, self.config.micro_tokens, padded=self.trunk.padded)

    def weight(self, batch: list[Example]) -> int:
        """The number of predicted tokens."""
        return sum(example.trained for example in batch)

    def tokens(self, batch: list[Example]) -> int:
        """The number of tokens read."""
        return sum(map(len, batch))

    def flops(self, batch: list[Example]) -> float:
        """2 per weight and token forward, 2 for the gradient of what flows back, and 2 more where
        weights are trained; attention's products (4 L² d a layer forward, twice that backward)."""
        shape = self.shape
        per_weight = 6 if shape.all_trained else 4
        tokens = self.tokens(batch)
        attention = sum(len(e) ** 2 for e in batch) * shape.attention
        head = self.weight(batch) * shape.head
        return float(per_weight * (tokens * shape.body + head) + 3 * attention)

    def loss(self, batch: list[Example]) -> Tensor:
        """The summed loss in nats."""
        return summed_loss(self.trunk, batch)

    def _row(self, place: int) -> int:
        """Which row stands at a place in the endless stream of shuffled epochs."""
        epoch, index = divmod(place, len(self.rows))
        if epoch != self.epoch:
            generator = np.random.default_rng([self.seed, epoch])
            self.epoch, self.order = epoch, generator.permutation(len(self.rows))
        return int(self.order[index])


def schedule(rows: int, config: TrainConfig) -> tuple[int, int]:
    """How many optimizer steps a stage takes, and how many rows they see in all."""
    if config.steps:
        return config.steps, config.steps * config.batch_size
    places = math.ceil(round(config.epochs * rows, 6))  # 0.07 of 100 rows are 7, not 8
    return max(math.ceil(places / config.batch_size), 1), places


class _Shape:
    """Sizes that the count of operations needs."""

    def __init__(self, trunk: Trunk):
        causal = causal_model(trunk.model)
        config = causal.config
        head = causal.get_output_embeddings().weight
        tables = {id(m.weight): m.weight.numel() for m in (causal.get_input_embeddings(),
                  causal.get_output_embeddings())}  # fmt: skip
        frozen = [p for p in trunk.model.parameters() if not p.requires_grad]
        self.all_trained = not frozen
        whole = sum(p.numel() for p in trunk.model.parameters())
        self.body = whole - sum(tables.values())
        self.head = head.numel()
        layers = getattr(config, "num_hidden_layers", None) or config.n_layers
        self.attention = 4 * layers * head.shape[1]
