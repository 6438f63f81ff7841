"""What is minimised: pure functions of log-probabilities, values and scores.

Where a policy learns from its own answers, all tensors have one shape, (K,): the tokens of some
answers laid end to end, and `old` is what was true when they were written. Where a model learns
from comparisons, tensors are (P,): a value a pair; where from single verdicts, (R,): one an answer.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# --- from text ----------------------------------------------------------------------------------


def unlikelihood(logprobs: Tensor) -> Tensor:
    """-log(1 - p) of each token (K,) that the model should not write, in nats.

    Welleck et al. 2020, arXiv 1908.04319: what its token-level loss adds. Where p is 1 but for
    rounding it is taken for 0.9999.
    """
    return -torch.log1p(-logprobs.exp().clamp(max=0.9999))


# --- from a policy's own answers -----------------------------------------------------------------


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


def kl_k3(logprobs: Tensor, ref: Tensor) -> Tensor:
    """e^{-k1} - 1 + k1 of each token, in nats, where k1 = log π(a) - log π_ref(a).

    Its mean is that of k1, the divergence of π from the reference where π wrote the tokens; it is
    never below 0, and its variance is smaller. Schulman 2020, "Approximating KL divergence".
    """
    difference = ref - logprobs
    return torch.exp(difference) - 1 - difference


def clip_fraction(logprobs: Tensor, old: Tensor, clip: float) -> Tensor:
    """The share of tokens whose ratio lies outside 1 ± ε, a scalar."""
    return ((torch.exp(logprobs - old) - 1).abs() > clip).float().mean()


# --- from comparisons ----------------------------------------------------------------------------


def bradley_terry(better: Tensor, worse: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """-log σ(r_better - r_worse - margin) of each pair (P,), in nats.

    The chance that `better` wins under Bradley & Terry's model; Ouyang et al. 2022 (InstructGPT,
    arXiv 2203.02155), eq. 1, with the margin of Touvron et al. 2023 (arXiv 2307.09288), eq. 2.
    """
    return -F.logsigmoid(better - worse - margin)


def centring(better: Tensor, worse: Tensor) -> Tensor:
    """(r_better + r_worse)² of each pair (P,): held small, scores stay around zero.

    Pairs fix differences alone, so without it all scores may drift together. Eisenstein et al.
    2023, arXiv 2312.09244, eq. 2.
    """
    return (better + worse).square()


def dpo(
    better: Tensor,
    worse: Tensor,
    ref_better: Tensor,
    ref_worse: Tensor,
    beta: float,
    smoothing: float = 0.0,
) -> Tensor:
    """-log σ(β h) of each pair (P,), h = (log π/π_ref)(better) - (log π/π_ref)(worse).

    Each argument is the summed log-probability (P,) of an answer's tokens in nats. Rafailov et al.
    2023, arXiv 2305.18290, eq. 7; `smoothing` is the share of labels taken to be wrong (Mitchell
    2023, conservative DPO): (1 - ε) (-log σ(β h)) + ε (-log σ(-β h)).
    """
    h = beta * ((better - ref_better) - (worse - ref_worse))
    return -(1 - smoothing) * F.logsigmoid(h) - smoothing * F.logsigmoid(-h)


# --- from verdicts on single answers -------------------------------------------------------------


def kto(
    ratio: Tensor, good: Tensor, reference_point: Tensor, beta: float, weight: Tensor
) -> Tensor:
    """λ_y - v of each answer (R,), which is λ_y σ(∓β (r - z_0)): minus for good ones, else plus.

    `ratio` is r = log π/π_ref of the whole answer in nats, `good` (R,) whether people called it so,
    `weight` (R,) is λ_y, and `reference_point` z_0, a scalar without a gradient. Ethayarajh et al.
    2024, arXiv 2402.01306, eq. 8: v = λ_D σ(β (r - z_0)) of a desirable answer, λ_U σ(β (z_0 - r))
    of an undesirable one.
    """
    above = beta * (ratio - reference_point)
    return weight * torch.sigmoid(torch.where(good, -above, above))


def kto_reference_point(ratios: Tensor) -> Tensor:
    """z_0 = max(0, mean of log π/π_ref), a scalar, of answers to other prompts (R,), in nats.

    What it estimates is the KL of π from π_ref, biased and cheap (there, section 4.1).
    """
    return ratios.detach().mean().clamp(min=0)
