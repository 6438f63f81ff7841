"""What fine-tuning taught is shown again while a policy learns from its own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from guildgpt.network.hats import Hats
from guildgpt.network.trunk import summed_loss
from guildgpt.train.config import PpoConfig
from guildgpt.train.on_policy import Demonstrations, OnPolicy
from guildgpt.train.ppo import Ppo, value_model
from guildgpt.train.rollout import PolicySampler

from .conftest import Remembering, example, job
from .policies import (
    EOS,
    SETTINGS,
    Letters,
    asked,
    hats_of,
    outspoken,
    paid_for_one_token,
    paid_for_small_ids,
    ppo,
)

ROWS = [example(6 + index % 4, seed=index) for index in range(12)]
SHORT: dict[str, Any] = {"steps": 4, "batch_size": 8, "minibatches": 2, "passes": 2}


def known(hats: Hats) -> float:
    """The loss of the policy on the demonstrations, nats a token."""
    with torch.no_grad():
        loss = summed_loss(hats.trunk("policy"), ROWS)
    return float(loss) / sum(one.trained for one in ROWS)


def weights(hats: Hats) -> list[torch.Tensor]:
    return [one.detach().clone() for one in hats.parameters("policy").values()]


def objective(folder: Path, weight: float, rows: int) -> OnPolicy:
    hats = hats_of(outspoken())
    changes = {"micro_tokens": 20, "demonstrations": {"weight": weight, "rows": rows}}
    config = PpoConfig(**{**SETTINGS, **SHORT, **changes})
    hats.add("policy", config.lora, seed=0)
    method = Ppo(config, value_model(hats, None, config, 0))
    sampler = PolicySampler(hats.trunk("policy"), config, EOS)
    letters: Any = Letters()
    where = job(folder, Remembering())
    rest = (sampler, paid_for_one_token, letters, EOS, where, ROWS)
    return OnPolicy(method, hats, asked(), *rest)


def test_their_mean_loss_counts_by_its_weight_beside_the_mean_of_the_policy_s(
    tmp_path: Path,
) -> None:
    method = objective(tmp_path, weight=0.5, rows=5)
    for update in method.updates(0):
        shown = [one for one in update if isinstance(one, Demonstrations)]
        examples = [row for one in shown for row in one.examples]
        assert len(examples) == 5
        assert len(shown) > 1  # of at most `micro_tokens`
        terms = sum(method.counts(one).terms for one in update)
        assert terms == sum(len(one.old) for one in update if not isinstance(one, Demonstrations))
        part = float(sum(method.loss(one).item() for one in shown)) / terms
        mean = summed_loss(method.policy, examples).item() / sum(row.trained for row in examples)
        assert part == pytest.approx(0.5 * mean, rel=1e-5)


def test_all_rows_come_before_one_comes_again(tmp_path: Path) -> None:
    method = objective(tmp_path, weight=1.0, rows=3)
    seen = [row for step in (0,) for update in method.updates(step) for one in update
            if isinstance(one, Demonstrations) for row in one.examples]  # fmt: skip
    assert len(seen) == len({id(row) for row in seen}) == len(ROWS)


def test_what_they_show_is_not_forgotten(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"scorer": paid_for_small_ids, "steps": 15}
    alone = ppo(tmp_path / "alone", Remembering(), **settings)
    watcher = Remembering()
    beside = ppo(
        tmp_path / "beside",
        watcher,
        shown=ROWS,
        demonstrations={"weight": 1.0, "rows": 6},
        **settings,
    )
    assert known(beside) < known(alone) - 0.5
    assert watcher.steps[-1]["reward"] > watcher.steps[0]["reward"]
    losses = [step["demonstration_loss"] for step in watcher.steps]
    assert losses[-1] < losses[0] - 0.5


def test_without_a_weight_they_change_nothing(tmp_path: Path) -> None:
    watcher = Remembering()
    alone = ppo(tmp_path / "alone", Remembering(), **SHORT)
    beside = ppo(tmp_path / "beside", watcher, shown=ROWS, **SHORT)
    for one, other in zip(weights(alone), weights(beside), strict=True):
        assert torch.equal(one, other)
    assert "demonstration_loss" not in watcher.steps[0]


class Killed(Exception):
    pass


class Mortal(Remembering):
    def stepped(self, metrics: Any) -> None:
        super().stepped(metrics)
        if metrics["step"] == 3:
            raise Killed


def test_a_run_that_was_killed_sees_the_same_ones(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        **SHORT,
        "shown": ROWS,
        "demonstrations": {"weight": 0.5, "rows": 5},
    }
    whole = ppo(tmp_path / "whole", Remembering(), **settings)
    with pytest.raises(Killed):
        ppo(tmp_path / "cut", Mortal(), **settings)
    resumed = ppo(tmp_path / "cut", Remembering(), **settings)
    for one, other in zip(weights(whole), weights(resumed), strict=True):
        assert torch.equal(one, other)
