"""What keeps length out of a reward model: balanced pairs, a term of the loss, several heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from guildgpt.data.examples import Ranking
from guildgpt.evaluate.preferences import measure_preferences
from guildgpt.model.config import AdapterConfig
from guildgpt.network.hats import Hats
from guildgpt.network.reward_model import RewardModel, mean_head, scalar_head
from guildgpt.network.world import World
from guildgpt.train.config import RewardConfig
from guildgpt.train.length import HEAVIEST, Balance, LengthWindow, gaps, spread_of
from guildgpt.train.reward import RankingObjective

from .comparisons import answered, planted, ranking
from .conftest import order, tiny_llama

LORA = AdapterConfig(rank=4, alpha=8)


def of_lengths(lengths: Sequence[int], tree: str = "") -> Ranking:
    return ranking([answered([1, 2], [3] * (length - 1) + [4]) for length in lengths], tree=tree)


def longer_wins(count: int, share: float) -> list[Ranking]:
    """Pairs of which the longer answer is the better one in some."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(count):
        short = int(generator.integers(3, 20))
        pair = (short + int(generator.integers(1, 20)), short)
        rows.append(of_lengths(pair if number < share * count else pair[::-1], tree=str(number)))
    return rows


def objective(rows: Sequence[Ranking] = (), **changes: object) -> RankingObjective:
    config = RewardConfig(lora=LORA, steps=2, **changes)  # type: ignore[arg-type]
    hats = Hats(tiny_llama(), torch.float32, torch.device("cpu"))
    hats.add("reward", LORA, seed=0)
    heads = scalar_head(hats.width, seed=1, heads=config.heads)
    model = RewardModel(hats.trunk("reward"), heads)
    return RankingObjective(model.trunk, rows, config, order(rows, config), model=model)


# --- balanced pairs ------------------------------------------------------------------------------


def test_balanced_pairs_say_nothing_of_length() -> None:
    rows = longer_wins(400, 0.75)
    balance = Balance(rows)
    weights = np.concatenate([balance.weights(row) for row in rows])
    signs = np.sign(np.concatenate([gaps(row)[:, 0] for row in rows]))
    assert weights.mean() == pytest.approx(1)
    assert signs.mean() == pytest.approx(0.5)
    assert (weights * signs).mean() == pytest.approx(0, abs=0.1)
    assert weights.max() / weights.min() <= 2 * HEAVIEST


def test_pairs_that_length_says_nothing_of_weigh_alike() -> None:
    for rows in ([of_lengths([5, 5])] * 3, longer_wins(400, 0.5)):
        balance = Balance(rows)
        for row in rows:
            assert balance.weights(row) == pytest.approx(np.ones(1), abs=0.35)


def test_one_pair_and_pairs_that_all_agree_stay_finite() -> None:
    for rows in ([of_lengths([9, 4])], longer_wins(50, 1.0)):
        weights = np.concatenate([Balance(rows).weights(row) for row in rows])
        assert np.isfinite(weights).all()
        assert weights.mean() == pytest.approx(1)


# --- the term ------------------------------------------------------------------------------------


def test_the_term_pulls_scores_from_length_and_no_further() -> None:
    """Free scores instead of a model's, length and something else: steps against the term's
    gradient take length out and leave the rest. (The window lags: larger steps make it swing.)"""
    rows = longer_wins(64, 1.0)
    window, world = LengthWindow(spread_of(rows)), World()
    shapes = np.concatenate([gaps(row) for row in rows])
    other = np.random.default_rng(0).normal(0, 0.5, len(rows))
    scores = torch.from_numpy(shapes[:, 0] / 10 + other).requires_grad_()
    found = []
    for _ in range(120):
        costs = [window.cost(scores[n : n + 1], row).mean() for n, row in enumerate(rows)]
        (gradient,) = torch.autograd.grad(torch.stack(costs).mean(), scores)
        found.append(window.close(world))
        with torch.no_grad():
            scores -= 2 * gradient
    assert found[0] > 0.8
    assert max(found[-20:]) < 0.1
    assert np.corrcoef(scores.detach().numpy(), other)[0, 1] > 0.9


def test_the_first_step_costs_nothing_and_equal_lengths_never_do() -> None:
    window = LengthWindow(spread_of([of_lengths([5, 5])]))
    for _ in range(3):
        cost = window.cost(torch.tensor([2.0]), of_lengths([5, 5]))
        assert cost.tolist() == [0.0]
        assert window.close(World()) == 0.0
    window = LengthWindow(spread_of([of_lengths([9, 5])]))
    assert window.cost(torch.tensor([2.0]), of_lengths([9, 5])).tolist() == [0.0]
    assert window.close(World()) == pytest.approx(1)
    assert float(window.cost(torch.tensor([2.0]), of_lengths([9, 5]))[0]) > 0
    window.close(World())
    other = LengthWindow(window.spread)
    other.restore(window.state())
    assert other.correlations.tolist() == window.correlations.tolist()


def test_a_pass_may_be_cut_anywhere() -> None:
    rows = [*longer_wins(6, 0.5), of_lengths([3, 8, 20])]
    whole, parts = (objective(rows, length_weight=0.5, balance_length=True) for _ in range(2))
    for _ in range(2):
        at_once = float(whole.loss(rows).detach())
        in_parts = sum(float(parts.loss([row]).detach()) for row in rows)
        assert in_parts == pytest.approx(at_once, rel=1e-5)
        first, second = whole.figures(), parts.figures()
        assert first["length_correlation"] == pytest.approx(second["length_correlation"], rel=1e-5)
    assert objective(rows).figures() == objective(rows).state() == {}


# --- heads ---------------------------------------------------------------------------------------


def test_each_head_learns_from_its_own_prompts() -> None:
    method = objective(heads=3)
    rows = planted(30, 5)
    left_out = set()
    for row in rows:
        method.model.heads.weight.grad = None
        method.loss([row]).backward()  # type: ignore[no-untyped-call]
        gradient = method.model.heads.weight.grad
        assert gradient is not None
        moved = (gradient.abs().sum(1) > 0).tolist()
        assert sum(moved) == 2
        left_out.add(moved.index(False))
    assert left_out == {0, 1, 2}


def test_the_score_is_the_mean_of_the_heads() -> None:
    model = objective(heads=3).model
    rows = [answer for row in planted(4, 6) for answer in row.answers]
    torch.testing.assert_close(model.scores(rows), model.scores_by_head(rows).mean(1))
    single = RewardModel(model.trunk, mean_head(model.heads))
    torch.testing.assert_close(single.scores(rows), model.scores(rows))
    assert mean_head(single.heads) is single.heads


def test_heads_that_disagree_about_everything_are_told_of() -> None:
    model = objective(heads=2).model
    with torch.no_grad():
        model.heads.weight[1] = -model.heads.weight[0]
    found = measure_preferences(model, {"planted": planted(20, 7)})["planted"].ensemble
    assert found
    assert (found.members, found.disagreement) == (2, 1.0)
    assert (found.agreed, found.agreed_share) == (None, 0.0)
    assert "agree on no pair" in found.words
    with torch.no_grad():
        model.heads.weight[1] = model.heads.weight[0]
    figures = measure_preferences(model, {"planted": planted(20, 7)})["planted"]
    assert figures.ensemble
    assert figures.ensemble.agreed
    assert (figures.ensemble.disagreement, figures.ensemble.agreed_share) == (0.0, 1.0)
    assert figures.ensemble.agreed.accuracy == figures.accuracy
    assert "agree on 100.0% of pairs" in figures.further


def test_the_best_weights_may_be_told_at_equal_length() -> None:
    method = objective(best_by="equal_length")
    method.few = {"many": planted(30, 8), "few": planted(2, 9)}
    figures = method.measure()
    assert figures["few"]["equal_length"] == figures["few"]["accuracy"]
    assert method.too_few() == ["few"]
    assert figures["many"]["equal_length"] == figures["many"]["accuracy"]  # all are equally long
