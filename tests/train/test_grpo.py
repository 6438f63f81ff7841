"""GRPO and RLOO: groups by hand, and a known reward that both of them reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from guildgpt.errors import RecipeError
from guildgpt.network.sampler import Sampled
from guildgpt.train.config import GrpoConfig
from guildgpt.train.grpo import Grpo
from guildgpt.train.on_policy import Part
from guildgpt.train.rollout import Rollout

from .conftest import Remembering, example, job
from .policies import EOS, SETTINGS, Letters, asked, grpo, hats_of, outspoken, paid_for_one_token


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_known_reward_is_reached(
    tmp_path: Path, watcher: Remembering, seed: int, baseline: str
) -> None:
    grpo(tmp_path, watcher, seed, baseline=baseline, group=8, learning_rate=5e-3)
    rewards = [step["reward"] for step in watcher.steps]
    assert rewards[0] < 0.1
    assert np.mean(rewards[-3:]) > 0.6  # the frozen head allows 0.82 at most


def method(folder: Path, **changes: Any) -> Grpo:
    hats = hats_of(outspoken())
    config = GrpoConfig(**{**SETTINGS, "batch_size": 4, "group": 2, **changes})
    hats.add("policy", config.lora, seed=0)
    letters: Any = Letters()
    rest = (hats, asked(), paid_for_one_token, config, letters, EOS, job(folder, Remembering()))
    return Grpo(*rest)


def rollout(scores: list[float], kl: list[list[float]]) -> Rollout:
    """Answers of as many tokens as there are numbers in `kl`."""
    longest = max(map(len, kl))
    mask = np.arange(longest) < np.array([len(row) for row in kl])[:, None]
    logprobs = np.zeros(mask.shape)
    logprobs[mask] = np.concatenate([np.array(row) for row in kl])
    values = np.array(scores)
    return Rollout([], mask, logprobs, np.zeros(mask.shape), values, values, {})


def test_a_groups_advantage_by_hand(tmp_path: Path) -> None:
    written = rollout([1.0, 3.0, 5.0, 5.0], [[9.0], [9.0, 9.0], [9.0], [9.0, 9.0]])
    advantages, extra = method(tmp_path).advantages(written)
    one = 1 / (1 + 1e-4)
    np.testing.assert_allclose(advantages, [[-one, 0], [one, one], [0, 0], [0, 0]], atol=1e-12)
    assert not extra
    plain, _ = method(tmp_path, by_spread=False).advantages(written)
    np.testing.assert_allclose(plain, [[-1, 0], [1, 1], [0, 0], [0, 0]])


def test_leave_one_out_pays_for_the_divergence_in_the_score(tmp_path: Path) -> None:
    # Scores less 0.5 times the summed divergence: 1 - 0.5·2 = 0 and 3 - 0.5·(1 + 1) = 2; 4, 4.
    written = rollout([1.0, 3.0, 5.0, 4.5], [[2.0], [1.0, 1.0], [2.0], [1.0]])
    settings = {"baseline": "leave_one_out", "kl": {"beta": 0.5}}
    advantages, _ = method(tmp_path, **settings).advantages(written)
    np.testing.assert_allclose(advantages, [[-2, 0], [2, 2], [0, 0], [0, 0]], atol=1e-12)


@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
def test_the_divergence_is_paid_for_once(tmp_path: Path, baseline: str) -> None:
    """In the loss, as k3, or in the score: never in both."""
    objective = method(tmp_path, baseline=baseline, kl={"beta": 0.5})
    zeros = torch.zeros(3)
    part = Part([example(4)], zeros, torch.tensor([0.0, -1.0, 0.5]), zeros, {})
    found = float(objective.penalty(zeros, part))
    k3 = [np.exp(d) - 1 - d for d in (0.0, -1.0, 0.5)]
    assert found == pytest.approx(0.5 * sum(k3) if baseline == "group" else 0.0)


def test_a_group_answers_one_prompt(tmp_path: Path) -> None:
    objective = method(tmp_path, batch_size=12, group=3)
    written = objective.collect(0)
    prompts = [answer.prompt.ids for answer in written.answers]
    assert len(prompts) == 12
    assert all(len(set(prompts[n : n + 3])) == 1 for n in range(0, 12, 3))
    assert len(set(prompts)) == 4
    answers: list[Sampled] = [answer.sampled for answer in written.answers]
    assert len({tuple(one.ids.tolist()) for one in answers}) > 4  # not the same one thrice


def test_steps_follow_from_epochs(tmp_path: Path) -> None:
    assert method(tmp_path, steps=None, epochs=1.0, batch_size=8, group=2).steps == 4  # 16 prompts
    assert method(tmp_path, steps=None, epochs=2.5, batch_size=8, group=4).steps == 20


def test_a_batch_is_made_of_whole_groups(tmp_path: Path, watcher: Remembering) -> None:
    with pytest.raises(RecipeError, match="not made of groups of 3") as caught:
        grpo(tmp_path, watcher, batch_size=32, group=3)
    assert "grpo.batch_size" in str(caught.value)
