"""Next-token prediction on rows of examples: what pretraining and SFT have in common.

Prepare, step, measure, save: read `train_next_token` from top to bottom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from guildgpt.data.examples import Example, PackedRow
from guildgpt.evaluate.bits import measure_all
from guildgpt.network.hardware import pick_dtype
from guildgpt.network.trunk import Trunk, micro_batches, summed_loss, trunk_for
from guildgpt.train.config import TrainConfig
from guildgpt.train.loop import Job, Outcome, run_loop
from guildgpt.train.objective import Objective
from guildgpt.train.operations import Shape
from guildgpt.train.schedule import Schedule


def train_whole(
    model: Any,
    rows: Sequence[PackedRow],
    held_out: Mapping[str, Sequence[Example]],
    config: TrainConfig,
    job: Job,
) -> tuple[Any, Outcome]:
    """Train every weight of `model`; they stay in float32, whatever the computation uses."""
    device = job.world.device
    model.to(device).requires_grad_(True).train()
    trunk = trunk_for(model, pick_dtype(config.dtype, device))
    parameters = dict(model.named_parameters())
    outcome = train_next_token(trunk, parameters, rows, held_out, config, job)
    return model.to("cpu"), outcome


def train_next_token(
    trunk: Trunk,
    parameters: Mapping[str, nn.Parameter],
    rows: Sequence[PackedRow],
    held_out: Mapping[str, Sequence[Example]],
    config: TrainConfig,
    job: Job,
) -> Outcome:
    """Train `parameters` of the trunk on `rows`."""
    objective = NextToken(trunk, rows, config, Schedule.of(len(rows), config, job.seed, job.world))
    few = {name: rows[: config.evaluation_rows] for name, rows in held_out.items() if rows}

    def evaluate() -> dict[str, dict[str, float]]:
        measured = measure_all(trunk, few, config.micro_tokens)
        return {
            name: {"bits_per_byte": bits.bits_per_byte, "perplexity": bits.perplexity}
            for name, bits in measured.items()
        }

    return run_loop(
        objective,
        parameters,
        config,
        job,
        dtype=trunk.dtype,
        evaluate=evaluate if few else None,
    )


class NextToken(Objective):
    """-log p of every predicted token, summed."""

    def __init__(
        self, trunk: Trunk, rows: Sequence[PackedRow], config: TrainConfig, schedule: Schedule
    ):
        self.trunk = trunk
        self.rows = rows
        self.config = config
        self.schedule = schedule
        self.steps = schedule.steps
        self.shape = Shape(trunk)

    def batches(self, step: int) -> list[list[Example]]:
        """The step's rows, cut into passes of similar lengths."""
        rows = self.schedule.own_rows(step)
        examples = [example for index in rows for example in self.rows[index]]
        return micro_batches(examples, self.config.micro_tokens, padded=self.trunk.padded)

    def weight(self, batch: list[Example]) -> int:
        """The number of predicted tokens."""
        return sum(example.trained for example in batch)

    def tokens(self, batch: list[Example]) -> int:
        """The number of tokens read."""
        return sum(map(len, batch))

    def flops(self, batch: list[Example]) -> float:
        """The products of trunk and head."""
        return self.shape.flops(batch, logits=self.weight(batch))

    def loss(self, batch: list[Example]) -> Tensor:
        """The summed loss in nats."""
        return summed_loss(self.trunk, batch)
