"""What is minimised when a model learns from comparisons: pure functions of scores."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


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
