"""GRPO and RLOO: several answers to one prompt are held against each other, so that no value model
is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from guildgpt.train.advantages import group_relative, leave_one_out
from guildgpt.train.config import GrpoConfig
from guildgpt.train.losses import kl_k3
from guildgpt.train.on_policy import Method, MicroBatch, Targets
from guildgpt.train.rollout import Rollout


@dataclass
class Grpo(Method):
    """An answer's advantage, the same for all its tokens, is its score beside its group's.

    With `baseline = "leave_one_out"` the KL is part of the score (Ahmadian et al. 2024, eq. 1);
    with `"group"` it is part of the loss, as k3 (Shao et al. 2024, eq. 3 and 4).
    """

    config: GrpoConfig

    def advantages(self, rollout: Rollout, beta: float) -> Targets:
        """Each answer's advantage on all of its tokens, (R, T)."""
        scores, kept = rollout.scores, rollout.kept.reshape(-1, self.config.group)
        if self.config.baseline == "leave_one_out":
            scores = scores - beta * rollout.kl.sum(1)
            relative = leave_one_out(scores.reshape(-1, self.config.group), kept)
        else:
            relative = group_relative(
                scores.reshape(-1, self.config.group), self.config.by_spread, kept
            )
        return Targets(np.where(rollout.mask, relative.reshape(-1, 1), 0.0))

    def extra_loss(
        self, batch: MicroBatch, logprobs: Tensor, beta: float
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """β k3 against the reference, where the KL is not in the score."""
        if self.config.baseline == "leave_one_out":
            return super().extra_loss(batch, logprobs, beta)
        return beta * kl_k3(logprobs, batch.ref).sum(), {}
