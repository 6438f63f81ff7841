"""What an answer is worth: a reward model's score and the terms, together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from network.tiny import llama

from guildgpt.network.reward_model import RewardModel, scalar_head
from guildgpt.network.sampler import Sampled
from guildgpt.rewards.config import RewardTerms
from guildgpt.rewards.terms import Rewards
from guildgpt.rewards.wanted import Wanted
from guildgpt.train.rollout import Episode, Scoring

from .policies import EOS, Letters, asked, hats_of

ONE_SENTENCE = Wanted.from_row(
    {"constraints": [{"kind": "sentences", "relation": "at most", "count": 1}]}, "here"
)


def episodes() -> list[Episode]:
    """Answers to two prompts, the first of which has a constraint that it keeps."""
    letters: Any = Letters()
    drawn = Sampled(np.array([7, 8, EOS], np.int32), np.zeros(3, np.float32), True)
    first, second = asked(2)
    prompts = [replace(first, wanted=ONE_SENTENCE), second]
    return [Episode.of(prompt, drawn, letters, EOS) for prompt in prompts]


def scoring(**constraints: Any) -> Scoring:
    hats = hats_of(llama())
    model = RewardModel(hats.trunk(None), scalar_head(hats.width, seed=1))
    terms = RewardTerms.model_validate({"constraints": {"weight": 2.0, **constraints}})
    return Scoring(model, 3.0, Rewards(terms))


def test_the_score_and_the_terms_are_added_by_their_weights() -> None:
    found = scoring()(episodes())
    model = found.parts["model"]
    assert np.isfinite(model).all()
    np.testing.assert_allclose(found.total, 3 * model + [2.0, 0.0])
    np.testing.assert_array_equal(found.parts["constraints"], [1.0, np.nan])


def test_the_model_can_leave_prompts_with_constraints_to_the_terms() -> None:
    found, both = scoring(without_model=True)(episodes()), scoring()(episodes())
    np.testing.assert_array_equal(found.parts["model"], [np.nan, both.parts["model"][1]])
    np.testing.assert_allclose(found.total, [2.0, both.total[1]])


@pytest.mark.parametrize("off", [{"weight": 0.0}, {"without_model": False}])
def test_constraints_that_reward_nothing_do_not_keep_the_model_away(off: dict[str, Any]) -> None:
    found = scoring(**{"without_model": True, **off})(episodes())
    assert np.isfinite(found.parts["model"]).all()
