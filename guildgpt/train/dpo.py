"""DPO: the policy learns from comparisons directly; its own log-probabilities are the reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from guildgpt.data.rankings import Ranking
from guildgpt.network.hats import Hats
from guildgpt.network.trunk import token_logprobs
from guildgpt.train.config import DpoConfig
from guildgpt.train.loop import Job, Outcome, run_loop
from guildgpt.train.losses import dpo
from guildgpt.train.objective import Objective
from guildgpt.train.on_policy import POLICY
from guildgpt.train.operations import Shape
from guildgpt.train.reward import ranking_batches
from guildgpt.train.schedule import Schedule


def train_dpo(
    hats: Hats,
    train: Sequence[Ranking],
    held_out: Mapping[str, Sequence[Ranking]],
    config: DpoConfig,
    job: Job,
) -> Outcome:
    """Train the hat `policy`, which is put on here, on `train`.

    Held-out rows are measured by how often the policy moves towards the better answer.
    """
    hats.add(POLICY, config.lora, seed=job.seed)
    objective = Dpo(hats, train, config, Schedule.of(len(train), config, job.seed, job.world))
    few = {name: rows[: config.evaluation_rows] for name, rows in held_out.items() if rows}

    def evaluate() -> dict[str, dict[str, float]]:
        return {name: objective.measured(rows) for name, rows in few.items()}

    return run_loop(
        objective,
        hats.parameters(POLICY),
        config,
        job,
        dtype=hats.dtype,
        evaluate=evaluate if few else None,
    )


class Dpo(Objective):
    """All pairs of each ranking, averaged within the prompt (Rafailov et al. 2023, eq. 7)."""

    def __init__(self, hats: Hats, rows: Sequence[Ranking], config: DpoConfig, schedule: Schedule):
        self.policy, self.reference = hats.trunk(POLICY), hats.trunk(None)
        self.rows = rows
        self.config = config
        self.schedule = schedule
        self.steps = schedule.steps
        self.shape = Shape(self.policy)
        self.right: list[Tensor] = []

    def batches(self, step: int) -> list[list[Ranking]]:
        """The step's prompts, cut into passes; a prompt's answers stay together."""
        self.right = []
        rows = [self.rows[index] for index in self.schedule.own_rows(step)]
        return ranking_batches(rows, self.config.micro_tokens, padded=self.policy.padded)

    def weight(self, batch: Any) -> float:
        """Prompts."""
        return len(batch)

    def tokens(self, batch: Any) -> int:
        """Tokens that the policy reads."""
        return sum(map(len, batch))

    def flops(self, batch: Any) -> float:
        """The policy forward and backward, the reference forward."""
        examples = [e for ranking in batch for e in ranking.answers]
        logits = sum(e.trained for e in examples)
        return self.shape.flops(examples, logits=logits) + self.shape.flops(
            examples, logits=logits, backward=False
        )

    def loss(self, batch: Any) -> Tensor:
        """The summed loss in nats, each prompt the mean of its pairs."""
        losses, right = self.losses(batch)
        self.right.append(right.detach())
        return losses.sum()

    def losses(self, batch: Sequence[Ranking]) -> tuple[Tensor, Tensor]:
        """Each prompt's loss (P,), and the share of its pairs in the right order (P,)."""
        with torch.no_grad():
            ref = self.sums(self.reference, batch)
        ours = self.sums(self.policy, batch)
        losses, right = [], []
        first = 0
        for ranking in batch:
            here = slice(first, first + len(ranking.answers))
            first += len(ranking.answers)
            better, worse = (
                [values[here][[pair[side] for pair in ranking.pairs]] for values in (ours, ref)]
                for side in (0, 1)
            )
            loss = dpo(
                better[0], worse[0], better[1], worse[1], self.config.beta, self.config.smoothing
            )
            losses.append(loss.mean())
            moved = (better[0] - better[1]) - (worse[0] - worse[1])
            right.append(((moved > 0).float() + 0.5 * (moved == 0).float()).mean())
        return torch.stack(losses), torch.stack(right)

    def sums(self, trunk: Any, batch: Sequence[Ranking]) -> Tensor:
        """Σ_t log p(a_t) of each answer, in nats: (answers of the batch,)."""
        examples = [e for ranking in batch for e in ranking.answers]
        logprobs = token_logprobs(trunk, examples)
        parts = torch.split(logprobs, [e.trained for e in examples])
        return torch.stack([part.sum() for part in parts])

    @torch.no_grad()
    def measured(self, rows: Sequence[Ranking]) -> dict[str, float]:
        """Held-out figures of some rankings."""
        losses, right = [], []
        for batch in ranking_batches(rows, self.config.micro_tokens, padded=self.policy.padded):
            found = self.losses(batch)
            losses.append(found[0])
            right.append(found[1])
        return {"accuracy": float(torch.cat(right).mean()), "loss": float(torch.cat(losses).mean())}

    def figures(self) -> Mapping[str, float]:
        """The share of the step's pairs that the policy already prefers rightly."""
        world = self.schedule.world
        right = torch.cat(self.right) if self.right else torch.zeros(0, device=world.device)
        return {"accuracy": float(world.sum(right.sum()) / world.sum(len(right)))}
