"""What an answer is worth: the reward model's score, and whatever programmatic terms are on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from guildgpt.network.reward_model import RewardModel, closed
from guildgpt.rewards import combined
from guildgpt.rewards.config import RewardTerms
from guildgpt.train.advantages import Floats
from guildgpt.train.rollout import Episode, Scores


class Scoring:
    """weight · reward model + Σ terms; either may be missing, not both.

    With `states` it also gives the reward model's hidden states before each answer token, for a
    value head to read. RecipeError or SandboxError where a term cannot work here.
    """

    def __init__(
        self,
        model: RewardModel | None,
        weight: float,
        terms: RewardTerms,
        eos_id: int,
        *,
        states: bool = False,
    ):
        self.model = model
        self.eos_id = eos_id
        self.weight = weight
        self.states = states
        self.rewards = combined.Rewards(terms)
        if model is None and not self.rewards.names:
            raise ValueError("there is nothing to score by")

    def __call__(self, episodes: Sequence[Episode]) -> Scores:
        """See `Scorer`. A term that does not apply to an answer is NaN among its parts."""
        total = np.zeros(len(episodes))
        parts: dict[str, Floats] = {}
        states: list[Tensor] = []
        if self.model is not None:
            examples = [closed(episode.example, self.eos_id) for episode in episodes]
            if self.states:
                found, states = self.model.scores_and_states(examples)
            else:
                found = self.model.scores(examples)
            parts["model"] = found.double().numpy()
            total += self.weight * parts["model"]
        if self.rewards.names:
            given = self.rewards(
                [combined.Written(one.text, one.ids, one.sampled.ended) for one in episodes],
                [one.prompt.wanted for one in episodes],
            )
            total += np.array(given.totals)
            for name, values in given.values.items():
                parts[name] = np.array([np.nan if v is None else v for v in values])
        return Scores(total, parts, states)
