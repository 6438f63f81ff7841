"""KTO: the policy learns from answers that somebody called good or bad, no two of them compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from guildgpt.data.examples import Example
from guildgpt.data.rated import RatedExample, with_others_answers
from guildgpt.network.hats import POLICY, Hats
from guildgpt.network.shared import SharedLayers
from guildgpt.network.trunk import Trunk, answer_logprobs, length_groups, micro_batches
from guildgpt.train.config import KtoConfig
from guildgpt.train.loop import Job, Outcome, run_loop
from guildgpt.train.losses import kto, kto_reference_point
from guildgpt.train.objective import Counts, RowObjective
from guildgpt.train.schedule import Schedule, share


def train_kto(
    hats: Hats,
    train: Sequence[RatedExample],
    held_out: Mapping[str, Sequence[RatedExample]],
    config: KtoConfig,
    job: Job,
) -> Outcome:
    """Train the hat `policy`, which is put on here, on `train`.

    Held-out rows are measured by how often the policy moves towards good answers and away from bad
    ones, further than it moves at all.
    """
    hats.add(POLICY, config.lora, seed=job.seed)
    schedule = Schedule.of(len(train), config, job.seed, job.world)
    objective = Kto(
        hats.trunk(POLICY),
        train,
        config,
        schedule,
        held_out,
        reference=hats.trunk(None),
        shared=hats.shared,
    )
    return run_loop(objective, hats.parameters(POLICY), config, job)


def weights(rows: Sequence[RatedExample], config: KtoConfig) -> tuple[float, float]:
    """λ_U and λ_D: what a bad row counts, and what a good one does."""
    good = sum(row.good for row in rows)
    bad = len(rows) - good
    most = max(good, bad)
    if not config.balance or not good or not bad:
        return config.bad_weight, config.good_weight
    return config.bad_weight * most / bad, config.good_weight * most / good


@dataclass
class Kto(RowObjective):
    """How much more the policy likes good answers than it likes answers at all, and bad ones less
    (Ethayarajh et al. 2024, eq. 8)."""

    config: KtoConfig

    reference: Trunk = field(kw_only=True)
    shared: SharedLayers = field(kw_only=True)
    moved: Tensor = field(init=False)
    """z_0 of this step: how far the policy is from the reference, of all processes' rows."""
    right: list[Tensor] = field(default_factory=list, init=False)
    """Of this step's passes, which answers the policy has moved the right way."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.weights = torch.tensor(weights(self.rows, self.config))

    def batches(self, step: int) -> list[list[RatedExample]]:
        """See `RowObjective.batches`; the reference point is that of all the step's rows."""
        self.right = []
        chosen = [self.rows[index] for index in self.schedule.rows(step)]
        world = self.schedule.world
        own = share(with_others_answers(chosen, self.rows), world)
        mean = world.sum(self.ratios_apart(own).sum()) / len(chosen)
        self.moved = kto_reference_point(mean[None])
        return super().batches(step)

    def cut(self, rows: Sequence[RatedExample]) -> list[list[RatedExample]]:
        """Some rows as passes of similar lengths."""
        limit, padded = self.config.micro_tokens, self.trunk.padded
        groups = length_groups([len(row) for row in rows], limit, padded=padded)
        return [[rows[index] for index in group] for group in groups]

    def counts(self, batch: Sequence[RatedExample]) -> Counts:
        """The policy forward and backward, the reference forward, and both once more forward for
        other rows' answers."""
        examples = [row.example for row in batch]
        logits = sum(example.trained for example in examples)
        known = not self.trunk.padded  # the layers that policy and reference share: from the policy
        once = self.shape.flops(examples, logits=logits)
        forward = self.shape.flops(examples, logits=logits, backward=False)
        upper = self.shape.flops(examples, logits=logits, backward=False, upper_only=known)
        return Counts(len(batch), sum(map(len, batch)), once + forward + 2 * upper)

    def loss(self, batch: Sequence[RatedExample]) -> Tensor:
        """The summed loss, each answer's between 0 and its weight."""
        losses, right = self.losses(batch, self.moved)
        self.right.append(right.detach())
        return losses.sum()

    def losses(self, batch: Sequence[RatedExample], moved: Tensor) -> tuple[Tensor, Tensor]:
        """Each answer's loss (R,), and whether the policy has moved it the right way (R,)."""
        ratio = self.ratios([row.example for row in batch])
        good = torch.tensor([row.good for row in batch], device=ratio.device)
        weight = self.weights.to(ratio)[good.long()]
        above = torch.where(good, ratio - moved, moved - ratio)
        right = (above > 0).float() + 0.5 * (above == 0).float()
        return kto(ratio, good, moved, self.config.beta, weight), right

    def ratios(self, examples: Sequence[Example]) -> Tensor:
        """log π/π_ref of each answer, in nats: (R,)."""
        with self.shared.kept():
            with torch.no_grad():
                ref = answer_logprobs(self.reference, examples)
            return answer_logprobs(self.trunk, examples) - ref

    @torch.no_grad()
    def ratios_apart(self, examples: Sequence[Example]) -> Tensor:
        """The same without a gradient, of any number, in the order of their passes."""
        cut = micro_batches(examples, self.config.micro_tokens, padded=self.trunk.padded)
        parts = [self.ratios(some) for some in cut]
        return torch.cat(parts) if parts else torch.zeros(0, device=self.schedule.world.device)

    @torch.no_grad()
    def measure(self) -> dict[str, dict[str, float]]:
        """How often the policy has moved the right way, and the loss."""
        figures = {}
        for name, rows in self.few.items():
            moved = kto_reference_point(self.ratios_apart(with_others_answers(rows, rows)))
            parts = [self.losses(some, moved) for some in self.cut(rows)]
            losses, right = (torch.cat(some) for some in zip(*parts, strict=True))
            figures[name] = {"accuracy": float(right.mean()), "loss": float(losses.mean())}
        return figures

    def figures(self) -> Mapping[str, float]:
        """The share of the step's answers that the policy has moved the right way, and how far it
        has moved, in nats an answer."""
        world = self.schedule.world
        right = torch.cat(self.right) if self.right else torch.zeros(0, device=world.device)
        share = float(world.sum(right.sum()) / world.sum(len(right)))
        return {"accuracy": share, "reference_point": float(self.moved)}
