"""GRPO and RLOO: several answers to one prompt are held against each other, so that no value model
is needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from guildgpt.chat import FileTokenizer
from guildgpt.errors import RecipeError
from guildgpt.network.hats import Hats
from guildgpt.train.advantages import Floats, group_relative, leave_one_out
from guildgpt.train.config import GrpoConfig
from guildgpt.train.loop import Job, Outcome, run_loop
from guildgpt.train.on_policy import POLICY, OnPolicy, Part
from guildgpt.train.policy_losses import kl_k3
from guildgpt.train.rollout import Prompt, Rollout, Scorer


def train_grpo(
    hats: Hats,
    prompts: Sequence[Prompt],
    scorer: Scorer,
    config: GrpoConfig,
    tokenizer: FileTokenizer,
    eos_id: int,
    job: Job,
) -> Outcome:
    """Train the hat `policy`, which is put on here, on groups of answers to `prompts`."""
    if config.batch_size % config.group:
        raise RecipeError(
            f"{config.batch_size} answers are not made of groups of {config.group}",
            where="grpo.batch_size",
            remedy=f"Set it to a multiple of {config.group}.",
        )
    hats.add(POLICY, config.lora, seed=job.seed)
    objective = Grpo(hats, prompts, scorer, config, tokenizer, eos_id, job)
    return run_loop(
        objective,
        hats.parameters(POLICY),
        config,
        job,
        dtype=hats.dtype,
    )


class Grpo(OnPolicy):
    """An answer's advantage, the same for all its tokens, is its score beside its group's.

    With `baseline = "leave_one_out"` the KL is part of the score (Ahmadian et al. 2024, eq. 1);
    with `"group"` it is part of the loss, as k3 (Shao et al. 2024, eq. 3 and 4).
    """

    config: GrpoConfig

    @property
    def group(self) -> int:  # type: ignore[override]
        """Answers to each prompt."""
        return self.config.group

    def advantages(self, rollout: Rollout) -> tuple[Floats, dict[str, Floats]]:
        """Each answer's advantage on all of its tokens, (R, T)."""
        scores = rollout.scores
        if self.config.baseline == "leave_one_out":
            scores = scores - self.kl.beta * rollout.kl.sum(1)
            relative = leave_one_out(scores.reshape(-1, self.group))
        else:
            relative = group_relative(scores.reshape(-1, self.group), self.config.by_spread)
        return np.where(rollout.mask, relative.reshape(-1, 1), 0.0), {}

    def penalty(self, logprobs: Tensor, batch: Part) -> Tensor:
        """β k3 against the reference, where the KL is not in the score."""
        if self.config.baseline == "leave_one_out":
            return super().penalty(logprobs, batch)
        return self.kl.beta * kl_k3(logprobs, batch.ref).sum()
