"""DPO: the policy learns from comparisons directly; its own log-probabilities are the reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from guildgpt.data.examples import Example, Ranking
from guildgpt.network.hats import POLICY, Hats
from guildgpt.network.shared import SharedLayers
from guildgpt.network.trunk import Trunk, answer_logprobs, summed_loss
from guildgpt.train.config import DpoConfig
from guildgpt.train.demonstrations import Demonstrations, demonstrated
from guildgpt.train.loop import Job, Outcome, run_loop
from guildgpt.train.losses import dpo
from guildgpt.train.objective import ComparisonObjective, Counts, answers_of, by_pair
from guildgpt.train.schedule import Schedule


def train_dpo(
    hats: Hats,
    train: Sequence[Ranking],
    held_out: Mapping[str, Sequence[Ranking]],
    config: DpoConfig,
    job: Job,
    demonstrations: Sequence[Example] = (),
) -> Outcome:
    """Train the hat `policy`, which is put on here, on `train`, and on `demonstrations` as far as
    the configuration asks for it.

    Held-out rows are measured by how often the policy moves towards the better answer.
    """
    hats.add(POLICY, config.lora, seed=job.seed)
    schedule = Schedule.of(len(train), config, job.seed, job.world)
    objective = Dpo(
        hats.trunk(POLICY),
        train,
        config,
        schedule,
        held_out,
        reference=hats.trunk(None),
        shared=hats.shared,
        demonstrations=demonstrations if config.demonstrations.weight else (),
    )
    return run_loop(objective, hats.parameters(POLICY), config, job)


@dataclass
class Dpo(ComparisonObjective):
    """How far the policy moves from the reference for each pair (Rafailov et al. 2023, eq. 7)."""

    config: DpoConfig

    reference: Trunk = field(kw_only=True)
    shared: SharedLayers = field(kw_only=True)
    demonstrations: Sequence[Example] = field(kw_only=True, default=())
    right: list[Tensor] = field(default_factory=list, init=False)
    """Of this step's passes, the share of pairs in the right order."""
    shown: list[Tensor] = field(default_factory=list, init=False)
    """Of this step's passes, the summed -log p of the demonstrations, and of how many tokens."""

    def batches(self, step: int) -> list[Any]:
        """See `RowObjective.batches`."""
        self.right, self.shown = [], []
        shown = demonstrated(
            self.demonstrations,
            self.config.demonstrations,
            step,
            len(self.schedule.rows(step)),
            seed=self.schedule.seed,
            world=self.schedule.world,
            micro_tokens=self.config.micro_tokens,
            padded=self.trunk.padded,
        )
        return [*super().batches(step), *shown]

    def counts(self, batch: Sequence[Ranking] | Demonstrations) -> Counts:
        """The policy forward and backward, the reference forward; beside it demonstrations, which
        are no terms of the loss."""
        if isinstance(batch, Demonstrations):
            examples = batch.examples
            flops = self.shape.flops(examples, logits=sum(e.trained for e in examples))
            return Counts(0, sum(map(len, examples)), flops)
        examples = answers_of(batch)
        logits = sum(e.trained for e in examples)
        flops = self.shape.flops(examples, logits=logits)
        known = not self.trunk.padded  # the layers that policy and reference share: from the policy
        flops += self.shape.flops(examples, logits=logits, backward=False, upper_only=known)
        return Counts(len(batch), sum(map(len, batch)), flops)

    def loss(self, batch: Sequence[Ranking] | Demonstrations) -> Tensor:
        """The summed loss in nats, each prompt the mean of its pairs, and that of demonstrations
        (as Pang et al. 2024, arXiv 2404.19733, eq. 1, add that of the better answers)."""
        if isinstance(batch, Demonstrations):
            summed = summed_loss(self.trunk, batch.examples)
            trained = sum(example.trained for example in batch.examples)
            self.shown.append(torch.stack([summed.detach(), summed.new_tensor(trained)]))
            return batch.weight * summed
        losses, right = self.losses(batch)
        self.right.append(right.detach())
        return losses.sum()

    def losses(self, batch: Sequence[Ranking]) -> tuple[Tensor, Tensor]:
        """Each prompt's loss (P,), and the share of its pairs in the right order (P,)."""
        with self.shared.kept():
            with torch.no_grad():
                ref = by_pair(answer_logprobs(self.reference, answers_of(batch)), batch)
            ours = by_pair(answer_logprobs(self.trunk, answers_of(batch)), batch)
        losses, right = [], []
        for (better, worse), (ref_better, ref_worse) in zip(ours, ref, strict=True):
            sides = better, worse, ref_better, ref_worse
            losses.append(dpo(*sides, self.config.beta, self.config.smoothing).mean())
            moved = (better - ref_better) - (worse - ref_worse)
            right.append(((moved > 0).float() + 0.5 * (moved == 0).float()).mean())
        return torch.stack(losses), torch.stack(right)

    @torch.no_grad()
    def measure(self) -> dict[str, dict[str, float]]:
        """How often the policy moves towards the better answer."""
        figures = {}
        for name, rows in self.few.items():
            losses, right = zip(*map(self.losses, self.cut(rows)), strict=True)
            accuracy, loss = torch.cat(right).mean(), torch.cat(losses).mean()
            figures[name] = {"accuracy": float(accuracy), "loss": float(loss)}
        return figures

    def figures(self) -> Mapping[str, float]:
        """The share of the step's pairs that the policy already prefers rightly, and the mean of
        -log p over the trained tokens of demonstrations."""
        world = self.schedule.world
        right = torch.cat(self.right) if self.right else torch.zeros(0, device=world.device)
        figures = {"accuracy": float(world.sum(right.sum()) / world.sum(len(right)))}
        if self.demonstrations:
            nothing = torch.zeros(2, device=world.device)
            summed, trained = world.sum(torch.stack([nothing, *self.shown]).sum(0))
            figures["demonstration_loss"] = float(summed / trained)
        return figures
