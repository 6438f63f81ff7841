"""Pretraining and supervised fine-tuning: next-token prediction, on plain text or on conversations.

Read `sft` from top to bottom: put on the hat, prepare the rows, train, fold the hat in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from guildgpt.bases.base import Base
from guildgpt.data.examples import Example, PackedRow, pack
from guildgpt.data.repeating import Repeating
from guildgpt.evaluate.bits import measure_all
from guildgpt.network.hats import SFT, Hats
from guildgpt.network.trunk import (
    Trunk,
    micro_batches,
    summed_loss,
    token_logprobs,
    trunk_for,
)
from guildgpt.train.config import PretrainConfig, RowsConfig, SftConfig
from guildgpt.train.loop import Job, Outcome, run_loop
from guildgpt.train.losses import unlikelihood
from guildgpt.train.objective import Counts, RowObjective
from guildgpt.train.schedule import Schedule


def pretrain(
    base: Base,
    train: Sequence[Example],
    held_out: Mapping[str, Sequence[Example]],
    config: PretrainConfig,
    job: Job,
    *,
    context: int,
) -> tuple[Any, Outcome]:
    """Train all of `base` on plain text; the trained model and figures.

    Rows are packed full of documents, none of which sees another: each keeps its own positions and
    its own attention.
    """
    return train_whole(base.model, pack(train, context, job.seed), held_out, config, job)


def sft(
    base: Base,
    train: Sequence[Example],
    held_out: Mapping[str, Sequence[Example]],
    config: SftConfig,
    job: Job,
) -> tuple[Any, Outcome]:
    """Fine-tune `base` on `train`; the trained model (plain transformers, float32) and figures.

    An adapter that the base brings is trained further, in place of a new one."""
    conversations = [[example] for example in train]
    if config.adapter == "none":
        return train_whole(base.model, conversations, held_out, config, job)
    rows = base.chat.control_ids if config.train_chat_tokens else base.chat.new_tokens
    hats = Hats(base.model, job.world.dtype(config.dtype), job.world.device)
    if base.adapter:
        hats.take_up(SFT, base.adapter, new_tokens=rows)
    else:
        hats.add(SFT, config.lora, seed=job.seed, new_tokens=rows)
    outcome = train_next_token(
        hats.trunk(SFT), hats.parameters(SFT), conversations, held_out, config, job
    )
    return hats.merged(SFT), outcome


def train_whole(
    model: Any,
    rows: Sequence[PackedRow],
    held_out: Mapping[str, Sequence[Example]],
    config: RowsConfig,
    job: Job,
) -> tuple[Any, Outcome]:
    """Train every weight of `model`; they stay in float32, whatever the computation uses."""
    model.to(job.world.device, torch.float32).requires_grad_(True).train()
    trunk = trunk_for(model, job.world.dtype(config.dtype))
    outcome = train_next_token(trunk, dict(model.named_parameters()), rows, held_out, config, job)
    return model.to("cpu"), outcome


def train_next_token(
    trunk: Trunk,
    parameters: Mapping[str, nn.Parameter],
    rows: Sequence[PackedRow],
    held_out: Mapping[str, Sequence[Example]],
    config: RowsConfig,
    job: Job,
) -> Outcome:
    """Train `parameters` of the trunk on `rows`."""
    objective = NextToken(
        trunk, rows, config, Schedule.of(len(rows), config, job.seed, job.world), held_out
    )
    return run_loop(objective, parameters, config, job)


class NextToken(RowObjective):
    """-log p of every predicted token, summed, or -log(1 - p) of one that repeats; a row is some
    examples."""

    def cut(self, rows: Sequence[PackedRow]) -> list[list[Example]]:
        """Some rows as passes of similar lengths."""
        examples = [example for row in rows for example in row]
        return micro_batches(examples, self.config.micro_tokens, padded=self.trunk.padded)

    def counts(self, batch: Sequence[Example]) -> Counts:
        """The products of trunk and head, which predicts tokens."""
        predicted = sum(example.trained for example in batch)
        return Counts(predicted, sum(map(len, batch)), self.shape.flops(batch, logits=predicted))

    def loss(self, batch: Sequence[Example]) -> Tensor:
        """The summed loss in nats."""
        repeating = [one for one in batch if isinstance(one, Repeating)]
        if not repeating:
            return summed_loss(self.trunk, batch)
        assert isinstance(self.config, SftConfig)
        again = unlikelihood(token_logprobs(self.trunk, repeating)).sum()
        others = [one for one in batch if not isinstance(one, Repeating)]
        return self.config.unlikelihood * again + (
            summed_loss(self.trunk, others) if others else 0.0
        )

    def measure(self) -> dict[str, dict[str, float]]:
        """See `Objective.measure`."""
        measured = measure_all(self.trunk, self.few, self.config.micro_tokens)
        return {
            name: {"bits_per_byte": bits.bits_per_byte, "perplexity": bits.perplexity}
            for name, bits in measured.items()
        }
