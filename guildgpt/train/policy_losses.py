"""What is minimised when a policy learns from its own answers: pure functions, a value a token.

All tensors have one shape, (K,): the tokens of some answers laid end to end. `old` is what was true
when the answers were written.
"""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_policy_loss(logprobs: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """max(-A ρ, -A clip(ρ, 1 - ε, 1 + ε)) with ρ = π / π_old, a value a token.

    Schulman et al. 2017 (PPO), arXiv 1707.06347, eq. 7.
    """
    ratio = torch.exp(logprobs - old)
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return torch.maximum(-advantages * ratio, -advantages * clipped)


def clipped_value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """½ max((V - G)², (clip(V, V_old ± ε) - G)²), a value a token.

    As in the code of Ziegler et al. 2019; Huang et al. 2024, arXiv 2403.17031, detail 21.
    """
    clipped = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())


def kl_k1(logprobs: Tensor, ref: Tensor) -> Tensor:
    """log π(a) - log π_ref(a) of each token, in nats.

    Summed over an answer that π wrote, its mean is the divergence of π from the reference.
    """
    return logprobs - ref


def kl_k3(logprobs: Tensor, ref: Tensor) -> Tensor:
    """e^{-k1} - 1 + k1: the same mean, never below 0, of smaller variance.

    Schulman 2020, "Approximating KL divergence".
    """
    difference = ref - logprobs
    return torch.exp(difference) - 1 - difference


def clip_fraction(logprobs: Tensor, old: Tensor, clip: float) -> Tensor:
    """The share of tokens whose ratio lies outside 1 ± ε, a scalar."""
    return ((torch.exp(logprobs - old) - 1).abs() > clip).float().mean()
