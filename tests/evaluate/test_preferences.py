"""Accuracy, its interval, what length alone would give, and calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from guildgpt.data.examples import Example, Ranking
from guildgpt.errors import GuildError
from guildgpt.evaluate.preferences import PreferenceFigures, measure_preferences


class Telling:
    """A scorer whose scores are the first token of each example."""

    def __init__(self, scores: Sequence[float]):
        self.table = list(scores)

    def scores(self, examples: Sequence[Example]) -> torch.Tensor:
        return torch.tensor([self.table[int(example.ids[0])] for example in examples])


def ranking(
    first: int, lengths: Sequence[int], ties: Sequence[int] = (), tree: str = ""
) -> Ranking:
    """Answers of some lengths; their scores stand in the table from `first` on."""
    places = list(ties) or list(range(len(lengths)))
    answers = tuple(
        Example(
            np.array([first + n, *[9] * length], np.int32), np.arange(length + 1) > 0, 0, "made"
        )
        for n, length in enumerate(lengths)
    )
    count = range(len(lengths))
    pairs = [(i, j) for i in count for j in count if places[i] < places[j]]
    steps = tuple(places[j] - places[i] for i, j in pairs)
    return Ranking(answers, tuple(pairs), steps, "made", tree or str(first), frozenset())


def measured(scores: Sequence[float], *rows: Ranking) -> PreferenceFigures:
    return measure_preferences(Telling(scores), {"made": rows, "none": []})["made"]


def test_worked_out_by_hand() -> None:
    # Margins of the three pairs of the first: 3 - 1 = 2, 3 - 2 = 1, 1 - 2 = -1; of the second 0.
    found = measured([3, 1, 2, 5, 5], ranking(0, [4, 6, 2]), ranking(3, [3, 3]))
    assert (found.prompts, found.pairs) == (2, 4)
    assert found.accuracy == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    # Lengths of better less worse: -2, 2, 4 and 0.
    assert found.longer == found.by_length == pytest.approx(2.5 / 4)
    losses = [math.log1p(math.exp(-margin)) for margin in (2, 1, -1, 0)]
    assert found.log_loss == pytest.approx(sum(losses) / 4)


def test_length_alone_knows_its_own_direction() -> None:
    found = measured([0, 0, 0, 0], ranking(0, [1, 5]), ranking(2, [2, 9]))
    assert (found.longer, found.by_length, found.accuracy) == (0.0, 1.0, 0.5)
    assert found.log_loss == pytest.approx(math.log(2))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_refused(broken: float) -> None:
    with pytest.raises(GuildError, match="1 of 2 scores of the reward model are not numbers"):
        measured([0, broken], ranking(0, [1, 5]))


def test_sources_without_comparisons_are_left_out() -> None:
    assert list(measure_preferences(Telling([1, 0]), {"a": [ranking(0, [1, 2])], "b": []})) == ["a"]


def scored(margins: Sequence[float], trees: Sequence[str]) -> PreferenceFigures:
    """One pair a margin."""
    table = [value for margin in margins for value in (margin, 0.0)]
    rows = [ranking(2 * n, [1, 1], tree=tree) for n, tree in enumerate(trees)]
    return measured(table, *rows)


def test_a_model_that_knows_its_own_doubts_is_calibrated() -> None:
    """Margins drawn, and each pair right as often as its margin says."""
    generator = np.random.default_rng(0)
    size = np.abs(generator.normal(size=4000)) * 2
    right = generator.random(4000) < 1 / (1 + np.exp(-size))
    honest = scored(np.where(right, size, -size).tolist(), [str(n) for n in range(4000)])
    assert honest.calibration_error < 0.03
    assert [one.pairs for one in honest.bins] == [1000] * 4
    assert [one.margin for one in honest.bins] == sorted(one.margin for one in honest.bins)
    for one in honest.bins:
        assert one.accuracy == pytest.approx(one.expected, abs=0.05)
    boasting = scored((10 * np.where(right, size, -size)).tolist(), ["t"] * 4000)
    assert boasting.accuracy == honest.accuracy
    assert boasting.calibration_error > 0.15


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    trees = [str(n) for n in range(80)]
    covered = []
    for _ in range(100):
        right = generator.random(80) < 0.7
        found = scored(np.where(right, 1.0, -1.0).tolist(), trees)
        covered.append(found.low <= 0.7 <= found.high)
    assert 0.88 <= np.mean(covered) <= 1.0


def test_pairs_of_one_tree_are_no_independent_evidence() -> None:
    right = np.repeat(np.random.default_rng(2).random(20) < 0.7, 20)
    margins = np.where(right, 1.0, -1.0).tolist()
    apart = scored(margins, [str(n) for n in range(400)])
    together = scored(margins, [str(n // 20) for n in range(400)])
    assert apart.accuracy == together.accuracy
    assert together.high - together.low > 3 * (apart.high - apart.low)
    assert measured([1, 0], ranking(0, [1, 1])).low == 1.0


def test_no_bin_is_empty() -> None:
    found = measured([3, 1, 2], ranking(0, [4, 6, 2]))
    assert found.pairs == 3
    assert len(found.bins) == 3  # no bin is empty
