"""AdamW, and the norm that its gradients are held to."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from guildgpt.train.config import TrainConfig


def make_optimizer(
    parameters: Mapping[str, nn.Parameter],
    config: TrainConfig,
    lr_scale: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101); vectors and norms are never decayed.

    Each group has the `lr_scale` of its parameters, 1 where none is named.
    """
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        decay = config.weight_decay if parameter.ndim >= 2 else 0.0
        kinds.setdefault((decay, (lr_scale or {}).get(name, 1.0)), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": some, "weight_decay": decay, "lr_scale": factor}
            for (decay, factor), some in kinds.items()
        ],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )


def clip_gradients(optimizer: torch.optim.Optimizer, limit: float) -> float:
    """Hold the gradient's norm to `limit`; what it was before.

    Parameters of one `lr_scale` share a norm; so a value model has its own only where its pace is
    not the policy's.
    """
    scales: dict[float, list[nn.Parameter]] = {}
    for group in optimizer.param_groups:
        scales.setdefault(group["lr_scale"], []).extend(group["params"])
    return math.hypot(*(float(nn.utils.clip_grad_norm_(some, limit)) for some in scales.values()))
