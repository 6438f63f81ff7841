"""A logistic regression finds what made the outcomes, and the ridge pulls it to nothing."""

from __future__ import annotations

import numpy as np
import pytest

from guildgpt.evaluate.logistic import fit, sigmoid

NONE = np.zeros(2)


def test_a_constant_alone_is_the_share_of_outcomes() -> None:
    weights = fit(np.ones((8, 1)), np.array([1.0, 1, 1, 1, 1, 0.5, 0.5, 0]), np.zeros(1))
    assert sigmoid(weights)[0] == pytest.approx(6 / 8)


def test_known_weights_are_found_again() -> None:
    design = np.stack([np.ones(200), np.linspace(-3, 3, 200)], axis=1)
    true = np.array([0.7, -1.3])
    outcomes = sigmoid(design @ true)
    assert fit(design, outcomes, NONE) == pytest.approx(true)
    pulled = fit(design, outcomes, np.array([20.0, 20.0]))
    # Where the fit ends nothing pulls any more.
    assert design.T @ (outcomes - sigmoid(design @ pulled)) == pytest.approx(20 * pulled)
    assert np.linalg.norm(pulled) < np.linalg.norm(true)
