"""Logistic regression, fitted by Newton's method."""

from __future__ import annotations

import numpy as np

from guildgpt.evaluate.intervals import Floats

SETTLE = 12  # Newton steps
LONGEST = 2.0  # step of one weight: further away the curvature says nothing


def sigmoid(values: Floats) -> Floats:
    """σ(x) = 1 / (1 + e^-x)."""
    return np.asarray(1 / (1 + np.exp(-values)))


def fit(design: Floats, outcomes: Floats, ridge: Floats) -> Floats:
    """Weights w (k,) of P(outcome) = σ(design · w): maximum likelihood less Σ ridge w² / 2.

    `design` (N, k), `outcomes` (N,) in 0..1, `ridge` (k,).
    """
    weights = np.zeros(design.shape[1])
    for _ in range(SETTLE):
        expected = sigmoid(design @ weights)
        gradient = design.T @ (outcomes - expected) - ridge * weights
        curvature = design.T @ (design * (expected * (1 - expected))[:, None]) + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        weights = weights + np.clip(step, -LONGEST, LONGEST)
    return weights
