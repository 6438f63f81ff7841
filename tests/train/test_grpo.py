"""GRPO and RLOO: groups by hand, and a known reward that both of them reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from guildgpt.network.sampler import Sampled
from guildgpt.train.config import GrpoConfig, PpoConfig, RolloutConfig
from guildgpt.train.grpo import Grpo
from guildgpt.train.on_policy import MicroBatch, OnPolicy
from guildgpt.train.rollout import PolicySampler, Rollout, Scores

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


def config(**changes: Any) -> GrpoConfig:
    return GrpoConfig(**{**SETTINGS, "batch_size": 4, "group": 2, **changes})


def objective(folder: Path, **changes: Any) -> OnPolicy:
    hats = hats_of(outspoken())
    settings = config(**changes)
    hats.add("policy", settings.lora, seed=0)
    sampler = PolicySampler(hats.trunk("policy"), settings, EOS)
    rest: tuple[Any, ...] = (paid_for_one_token, Letters(), EOS, job(folder, Remembering()))
    return OnPolicy(Grpo(settings), hats, asked(), sampler, *rest)


def rollout(
    scores: list[float], kl: list[list[float]], kept: tuple[int, ...] | None = None
) -> Rollout:
    """Answers of as many tokens as there are numbers in `kl`."""
    longest = max(map(len, kl))
    mask = np.arange(longest) < np.array([len(row) for row in kl])[:, None]
    logprobs = np.zeros(mask.shape)
    logprobs[mask] = np.concatenate([np.array(row) for row in kl])
    values = np.array(scores)
    left = np.ones(len(mask), bool) if kept is None else np.isin(np.arange(len(mask)), kept)
    return Rollout([], mask, logprobs, np.zeros(mask.shape), left, values, Scores(values, {}))


def test_a_groups_advantage_by_hand() -> None:
    written = rollout([1.0, 3.0, 5.0, 5.0], [[9.0], [9.0, 9.0], [9.0], [9.0, 9.0]])
    targets = Grpo(config()).advantages(written, 0.0)
    one = 1 / (1 + 1e-4)
    np.testing.assert_allclose(
        targets.advantages, [[-one, 0], [one, one], [0, 0], [0, 0]], atol=1e-12
    )
    assert not targets.extra
    plain = Grpo(config(by_spread=False)).advantages(written, 0.0).advantages
    np.testing.assert_allclose(plain, [[-1, 0], [1, 1], [0, 0], [0, 0]])


@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
def test_an_answer_that_is_left_out_counts_for_no_other(baseline: str) -> None:
    kl = [[0.0], [0.0, 0.0], [0.0], [0.0], [0.0, 0.0], [0.0], [0.0], [0.0], [0.0]]
    method = Grpo(config(baseline=baseline, batch_size=9, group=3, by_spread=False))
    written = rollout([1.0, 99.0, 3.0, 5.0, 99.0, 99.0, 99.0, 99.0, 99.0], kl, kept=(0, 2, 3))
    one = 1.0 if baseline == "group" else 2.0  # from the mean of both, or from the other
    found = method.advantages(written, 0.0).advantages
    np.testing.assert_allclose(found[:, 0], [-one, 0, one, 0, 0, 0, 0, 0, 0])
    assert not found[:, 1].any()


def test_leave_one_out_pays_for_the_divergence_in_the_score() -> None:
    # Scores less 0.5 times the summed divergence: 1 - 0.5·2 = 0 and 3 - 0.5·(1 + 1) = 2; 4, 4.
    written = rollout([1.0, 3.0, 5.0, 4.5], [[2.0], [1.0, 1.0], [2.0], [1.0]])
    advantages = Grpo(config(baseline="leave_one_out")).advantages(written, 0.5).advantages
    np.testing.assert_allclose(advantages, [[-2, 0], [2, 2], [0, 0], [0, 0]], atol=1e-12)


@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
def test_the_divergence_is_paid_for_once(baseline: str) -> None:
    """In the loss, as k3, or in the score: never in both."""
    zeros = torch.zeros(3)
    batch = MicroBatch([example(4)], zeros, torch.tensor([0.0, -1.0, 0.5]), zeros, {})
    method = Grpo(config(baseline=baseline))
    found = float(method.extra_loss(batch, zeros, 0.5)[0])
    k3 = [np.exp(d) - 1 - d for d in (0.0, -1.0, 0.5)]
    assert found == pytest.approx(0.5 * sum(k3) if baseline == "group" else 0.0)


def test_a_group_answers_one_prompt(tmp_path: Path) -> None:
    written = objective(tmp_path, batch_size=12, group=3).collect(0)
    prompts = [episode.prompt.ids for episode in written.episodes]
    assert len(prompts) == 12
    assert all(len(set(prompts[n : n + 3])) == 1 for n in range(0, 12, 3))
    assert len(set(prompts)) == 4
    answers: list[Sampled] = [episode.sampled for episode in written.episodes]
    assert len({tuple(one.ids.tolist()) for one in answers}) > 4  # not the same one thrice


def test_steps_follow_from_epochs(tmp_path: Path) -> None:
    assert (
        objective(tmp_path, steps=None, epochs=1.0, batch_size=8, group=2).steps == 4
    )  # 16 prompts
    assert objective(tmp_path, steps=None, epochs=2.5, batch_size=8, group=4).steps == 20


@pytest.mark.parametrize("kind", [GrpoConfig, PpoConfig])
def test_a_batch_is_made_of_whole_groups(kind: type[RolloutConfig]) -> None:
    with pytest.raises(ValidationError, match=r"batch_size \(32\) is not made of groups of 3"):
        kind(batch_size=32, group=3)


def test_recipes_may_still_name_how_held_out_rows_are_measured() -> None:
    """0.1.0 took these keys and read neither; any other key is refused."""
    older = {"evaluations": 3, "evaluation_rows": 8, "steps": 2}
    assert GrpoConfig.model_validate(older) == GrpoConfig(steps=2)
    with pytest.raises(ValidationError, match=r"evaluation_row\b"):
        GrpoConfig.model_validate({"evaluation_row": 8})
