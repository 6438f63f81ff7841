"""What an answer is worth: the reward model's score, and whatever programmatic terms are on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from guildgpt.network.reward_model import RewardModel, closed
from guildgpt.rewards import combined
from guildgpt.rewards.config import RewardTerms
from guildgpt.train.advantages import Floats
from guildgpt.train.rollout import Answer


class Scoring:
    """weight · reward model + Σ terms; either may be missing, not both.

    RecipeError or SandboxError where a term cannot work here.
    """

    def __init__(self, model: RewardModel | None, weight: float, terms: RewardTerms, eos_id: int):
        self.model = model
        self.eos_id = eos_id
        self.weight = weight
        self.rewards = combined.Rewards(terms)
        if model is None and not self.rewards.names:
            raise ValueError("there is nothing to score by")

    def __call__(self, answers: Sequence[Answer]) -> tuple[Floats, Mapping[str, Floats]]:
        """See `Scorer`. A term that does not apply to an answer is NaN among its parts."""
        total = np.zeros(len(answers))
        parts: dict[str, Floats] = {}
        if self.model is not None:
            examples = [closed(answer.example, self.eos_id) for answer in answers]
            scores = self.model.scores(examples).double().numpy()
            total += self.weight * scores
            parts["model"] = scores
        if self.rewards.names:
            given = self.rewards(
                [combined.Answer(one.text, one.ids, one.sampled.ended) for one in answers],
                [one.prompt.wanted for one in answers],
            )
            total += np.array(given.totals)
            for name, values in given.values.items():
                parts[name] = np.array([np.nan if v is None else v for v in values])
        return total, parts
