"""PPO on a model of two layers: it finds what it is paid for, whatever its value model is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from network.tiny import gpt_neox, mpt

from guildgpt.data.examples import answering
from guildgpt.errors import RecipeError
from guildgpt.model.config import AdapterConfig
from guildgpt.network.reward_model import RewardModel, scalar_head
from guildgpt.train.config import PpoConfig
from guildgpt.train.ppo import Ppo, value_model

from .conftest import Remembering
from .policies import hats_of, outspoken, paid_for_small_ids, ppo


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_known_reward_is_reached(tmp_path: Path, watcher: Remembering, seed: int) -> None:
    ppo(tmp_path, watcher, seed)
    rewards = [step["reward"] for step in watcher.steps]
    assert rewards[0] < 0.1
    assert np.mean(rewards[-3:]) > 0.6  # the frozen head allows 0.82 at most


def test_a_known_reward_is_reached_with_several_answers_to_a_prompt(
    tmp_path: Path, watcher: Remembering
) -> None:
    ppo(tmp_path, watcher, group=8)
    rewards = [step["reward"] for step in watcher.steps]
    assert rewards[0] < 0.1
    assert np.mean(rewards[-3:]) > 0.6


def test_a_score_counts_beside_those_of_the_other_answers(tmp_path: Path) -> None:
    """With λ and γ of 1 and a value model that knows nothing, it is each token's advantage."""
    hats = hats_of(outspoken())
    hats.add("policy", AdapterConfig(rank=4, alpha=8), seed=0)
    config = PpoConfig(group=2, lam=1.0, value_from="zero", whiten_advantages=False, batch_size=4)
    method = Ppo(config, value_model(hats, None, config, 0))
    mask = np.ones((4, 3), bool)
    kept = np.array([True, True, True, False])
    rollout: Any = SimpleNamespace(
        scores=np.array([5.0, 3.0, 7.0, 9.0]),
        mask=mask,
        kept=kept,
        learned=mask & kept[:, None],
        kl=np.zeros((4, 3)),
        episodes=[SimpleNamespace(example=answering((4, 5), (6, 7, 8), "test")) for _ in range(4)],
    )
    found = method.advantages(rollout, beta=0.0).advantages
    assert found.tolist() == [[2.0] * 3, [-2.0] * 3, [0.0] * 3, [0.0] * 3]


def test_a_known_reward_is_reached_by_the_upper_layers_alone(
    tmp_path: Path, watcher: Remembering
) -> None:
    lora = AdapterConfig(rank=8, alpha=16, layers=1)
    hats = ppo(tmp_path, watcher, lora=lora)
    assert hats.shared.depth == 1
    assert all(".1." in name for name in hats.parameters("policy"))
    rewards = [step["reward"] for step in watcher.steps]
    assert rewards[0] < 0.1
    assert np.mean(rewards[-3:]) > 0.5


@pytest.mark.parametrize("kind", [outspoken, mpt, gpt_neox])
def test_policy_and_value_model_are_both_trained(
    tmp_path: Path, watcher: Remembering, kind: Any
) -> None:
    """Also where adapters are taken on and off by peft, which freezes those that are off."""
    hats = ppo(
        tmp_path, watcher, hats=hats_of(kind()), scorer=paid_for_small_ids, steps=2, batch_size=8
    )
    for name in ("policy", "value"):
        ups = [p for key, p in hats.parameters(name).items() if key.endswith("lora_B")]
        assert all(float(p.detach().abs().max()) > 0 for p in ups)


@pytest.mark.parametrize("start", ["reward", "zero"])
def test_the_value_model_starts_as_the_recipe_says(start: str) -> None:
    hats = hats_of(outspoken())
    hats.add("reward", AdapterConfig(rank=4, alpha=8), seed=1)
    with torch.no_grad():
        for parameter in hats.parameters("reward").values():
            parameter.normal_(std=0.1)
    head = scalar_head(hats.width, seed=2)
    head.bias.data.fill_(0.5)
    reward = RewardModel(hats.trunk("reward"), head)
    value = value_model(hats, reward, PpoConfig(value_from=start), 0)  # type: ignore[arg-type]
    theirs, ours = hats.adapter_weights("reward"), hats.adapter_weights("value")
    if start == "reward":
        assert torch.equal(value.head.weight, head.weight)
        assert torch.equal(value.head.bias, head.bias)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    else:
        assert not value.head.weight.any()
        assert not any(ours[key].any() for key in ours if key.endswith("lora_B"))
    # Nothing is shared: what the value model learns, the reward model does not.
    with torch.no_grad():
        for parameter in value.parameters.values():
            parameter.add_(1.0)
    assert all(torch.equal(hats.adapter_weights("reward")[key], theirs[key]) for key in theirs)
    assert head.bias.tolist() == [0.5]


def test_a_head_on_the_reward_models_states_needs_a_reward_model() -> None:
    with pytest.raises(RecipeError, match="no reward model") as caught:
        value_model(hats_of(outspoken()), None, PpoConfig(value_trunk="reward"), 0)
    assert "ppo.value_trunk" in str(caught.value)
