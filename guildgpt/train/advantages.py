"""Rewards and advantages: from a score for each answer to a number for each of its tokens.

Shapes: R answers, T tokens of the longest, right-padded; `mask` (R, T) is true where a token is.
Everything here is NumPy in double precision: it is small, and easily checked by hand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def token_rewards(scores: Floats, kl: Floats, beta: float, mask: Mask) -> Floats:
    """r_t = -β kl_t, and the answer's score added at its last token: (R, T).

    `scores` (R,), `kl` (R, T) is log π(a_t) - log π_ref(a_t) in nats. The last token is the
    end-of-turn token where there is one, never the last column. Ziegler et al. 2019, arXiv
    1909.08593, eq. 2.
    """
    rewards = np.where(mask, -beta * kl, 0.0)
    rewards[np.arange(len(scores)), mask.sum(1) - 1] += scores
    return rewards


def gae(
    rewards: Floats, values: Floats, mask: Mask, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Floats, Floats]:
    """Advantages and returns (R, T) from rewards and values (R, T).

    δ_t = r_t + γ V_{t+1} - V_t, A_t = δ_t + γ λ A_{t+1}, and A_t + V_t is the return; after the
    last token both V and A are 0. Schulman et al. 2016, arXiv 1506.02438, eq. 11 to 16.
    """
    values = np.where(mask, values, 0.0)
    advantages = np.zeros_like(values)
    following, next_value = np.zeros(len(values)), np.zeros(len(values))
    for t in range(values.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = np.where(mask[:, t], delta + gamma * lam * following, 0.0)
        advantages[:, t] = following
        next_value = values[:, t]
    return advantages, np.where(mask, advantages + values, 0.0)


def whiten(values: Floats, mask: Mask, keep_mean: bool = False) -> Floats:
    """Mean 0 and variance 1 over what the mask holds, 0 elsewhere; `keep_mean` only rescales."""
    inside = values[mask]
    mean = inside.mean()
    spread = np.sqrt(inside.var() + 1e-8)
    whitened = (values - mean) / spread + (mean if keep_mean else 0.0)
    return np.where(mask, whitened, 0.0)


def leave_one_out(scores: Floats, kept: Mask | None = None) -> Floats:
    """Each score less the mean of the others in its group: (prompts, K) to (prompts, K).

    RLOO: Ahmadian et al. 2024, arXiv 2402.14740, eq. 8; K is 2 at least. Those that are not `kept`
    count nowhere and get 0, as does the only one of its group that is.
    """
    kept = np.ones(scores.shape, bool) if kept is None else kept
    there = np.where(kept, scores, 0.0)
    others = kept.sum(1, keepdims=True) - kept
    mean = (there.sum(1, keepdims=True) - there) / np.maximum(others, 1)
    return np.where(kept & (others > 0), scores - mean, 0.0)


def group_relative(scores: Floats, by_spread: bool = True, kept: Mask | None = None) -> Floats:
    """Each score less its group's mean, over its group's spread: (prompts, K) to (prompts, K).

    GRPO: Shao et al. 2024, arXiv 2402.03300, section 4.1.2; without `by_spread` the division is
    left out (Liu et al. 2025, arXiv 2503.20783). A group whose answers all score alike gives 0.
    Those that are not `kept` count nowhere and get 0.
    """
    kept = np.ones(scores.shape, bool) if kept is None else kept
    some = kept | ~kept.any(1, keepdims=True)  # no mean of nothing
    centred: Floats = scores - scores.mean(1, keepdims=True, where=some)
    if by_spread:
        centred = centred / (scores.std(1, keepdims=True, where=some) + 1e-4)
    return np.where(kept, centred, 0.0)
