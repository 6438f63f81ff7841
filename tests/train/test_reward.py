"""The reward model's training: its loss by hand, and a planted rule that it finds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from guildgpt.bases.base import Base
from guildgpt.data.examples import Ranking
from guildgpt.errors import GuildError
from guildgpt.evaluate.preferences import measure_preferences
from guildgpt.model.config import AdapterConfig
from guildgpt.network.hats import Hats
from guildgpt.network.reward_model import RewardModel, scalar_head
from guildgpt.train.config import RewardConfig
from guildgpt.train.objective import ranking_batches
from guildgpt.train.reward import RankingObjective, TrainedReward, train_reward

from .comparisons import answered, planted, ranking
from .conftest import Remembering, example, job, order, tiny_llama
from .policies import outspoken

LORA = AdapterConfig(rank=4, alpha=8)


def trained(folder: Path, watcher: Remembering, **changes: Any) -> TrainedReward:
    settings = {
        "steps": 60,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "lora": LORA,
        "checkpoint_minutes": 0,
        "dtype": "float32",
        **changes,
    }
    return train_reward(
        Base(outspoken(), None, []),  # type: ignore[arg-type] - it has no words to read
        planted(128, seed=0),
        {"planted": planted(40, seed=1)},
        [example(9, seed) for seed in range(12)],
        RewardConfig(**settings),
        job(folder, watcher),
    )


def test_a_planted_rule_is_found(tmp_path: Path, watcher: Remembering) -> None:
    found = trained(tmp_path, watcher)
    figures = measure_preferences(found.model, {"fresh": planted(100, seed=2)})["fresh"]
    assert figures.accuracy > 0.9
    assert figures.low > 0.8
    assert figures.longer == 0.5  # length gives nothing away
    # What the held-out rows liked best was kept.
    accuracies = {step: row["planted"]["accuracy"] for step, row in watcher.evaluations if step}
    best = max(accuracies.values())
    assert accuracies[found.best_step] == best
    kept = measure_preferences(found.model, {"planted": planted(40, seed=1)[:32]})["planted"]
    assert kept.accuracy == pytest.approx(best)
    # Demonstrations score nothing on average, and scores stayed around zero before that shift.
    rows = [example(9, seed) for seed in range(12)]
    assert float(found.model.scores(rows).mean()) == pytest.approx(0, abs=1e-5)


def test_it_stops_when_nothing_is_gained(tmp_path: Path, watcher: Remembering) -> None:
    found = trained(tmp_path, watcher, learning_rate=1e-9, evaluations=10, patience=2, steps=40)
    assert found.outcome.steps == 12  # the first of ten measurements, and two without a gain
    assert found.best_step == 4


def test_without_measurements_the_last_weights_are_kept(
    tmp_path: Path, watcher: Remembering
) -> None:
    found = trained(tmp_path, watcher, evaluations=0, steps=2)
    assert (found.best_step, found.outcome.steps) == (None, 2)


def test_a_broken_base_ends_the_run(tmp_path: Path, watcher: Remembering) -> None:
    base = outspoken()
    with torch.no_grad():
        base.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(GuildError, match="the loss is nan"):
        train_reward(
            Base(base, None, []),  # type: ignore[arg-type]
            planted(8, seed=0),
            {},
            [],
            RewardConfig(lora=LORA, dtype="float32"),
            job(tmp_path, watcher),
        )


# --- the loss ------------------------------------------------------------------------------------


def objective(**changes: Any) -> RankingObjective:
    hats = Hats(tiny_llama(), torch.float32, torch.device("cpu"))
    hats.add("reward", LORA, seed=0)
    model = RewardModel(hats.trunk("reward"), scalar_head(hats.width, seed=1))
    config = RewardConfig(lora=LORA, steps=1, **changes)
    return RankingObjective(model.trunk, [], config, order([], config), model=model)


def by_hand(scores: list[float], row: Ranking, centring: float, margin: float) -> float:
    losses = []
    for (i, j), step in zip(row.pairs, row.steps, strict=True):
        losses.append(
            math.log1p(math.exp(-(scores[i] - scores[j] - margin * step)))
            + centring * (scores[i] + scores[j]) ** 2
        )
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("centring", "margin"), [(0.0, 0.0), (0.01, 0.0), (0.01, 0.5)])
def test_all_pairs_of_a_ranking_averaged_within_its_prompt(centring: float, margin: float) -> None:
    method = objective(centring=centring, margin=margin)
    rows = [*planted(1, 2, answers=3), *planted(1, 3, answers=4), *planted(2, 4)]
    assert [len(row.pairs) for row in rows] == [3, 6, 1, 1]
    expected = 0.0
    for row in rows:
        scores = method.model.scores(row.answers).tolist()
        expected += by_hand(scores, row, centring, margin)
    assert float(method.loss(rows).detach()) == pytest.approx(expected, rel=1e-5)
    assert method.counts(rows).terms == 4


def test_ties_make_no_pair_and_identical_answers_no_pull() -> None:
    method = objective()
    good, bad = answered([1, 2], [3, 4]), answered([1, 2], [5, 6])
    row = ranking([good, good, bad, bad], places=[0, 0, 1, 1])
    assert len(row.pairs) == 4
    both = method.loss([row]), method.loss([ranking([good, bad])])
    torch.testing.assert_close(*both)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("limit", [1, 60, 10_000])
def test_passes_keep_a_prompts_answers_together_within_the_limit(padded: bool, limit: int) -> None:
    rows = [row for k in (2, 3, 4) for row in planted(5, k, answers=k, length=3 * k)]
    groups = ranking_batches(rows, limit, padded=padded)
    assert sorted(id(row) for group in groups for row in group) == sorted(map(id, rows))
    for group in groups:
        answers = [answer for row in group for answer in row.answers]
        size = (
            max(map(len, answers)) * len(answers)
            if padded
            else sum(len(answer) for answer in answers)
        )
        assert size <= limit or len(group) == 1
