"""Losses as pure functions of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 256  # rows of logits that exist at one time


class _HeadCrossEntropy(torch.autograd.Function):
    """-log softmax(h Wᵀ)[target], a chunk of rows at a time; gradients are made on the way."""

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, weight: Tensor, targets: Tensor, scale: float, learning: bool
    ) -> Tensor:
        losses = h.new_empty(len(h), dtype=torch.float32)
        needs_h, needs_w = (learning and needed for needed in ctx.needs_input_grad[:2])
        grad_h = torch.empty_like(h) if needs_h else None
        grad_w = torch.zeros_like(weight, dtype=torch.float32) if needs_w else None
        matrix = weight.to(h.dtype)
        for start in range(0, len(h), CHUNK):
            rows = slice(start, start + CHUNK)
            goal = targets[rows, None]
            logits = h[rows] @ matrix.t()
            if scale != 1.0:
                logits.mul_(scale)
            logprobs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
            losses[rows] = -logprobs.gather(1, goal)[:, 0]
            if grad_h is None and grad_w is None:
                continue
            grad = logprobs.exp_()
            grad.scatter_add_(1, goal, torch.full_like(goal, -1, dtype=grad.dtype))
            grad = grad.mul_(scale).to(h.dtype) if scale != 1.0 else grad.to(h.dtype)
            if grad_h is not None:
                torch.mm(grad, matrix, out=grad_h[rows])
            if grad_w is not None:
                grad_w += grad.t() @ h[rows]
        ctx.gradients = grad_h, grad_w
        # The gradients are of the plain sum, so each row's loss must reach the result with one
        # weight: the sum is taken here.
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        grad_h, grad_w = ctx.gradients
        ctx.gradients = None
        return (
            None if grad_h is None else grad_h.mul_(grad.to(grad_h.dtype)),
            None if grad_w is None else grad_w.mul_(grad),
            None,
            None,
            None,
        )


def head_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, scale: float = 1.0
) -> Tensor:
    """The summed next-token loss in nats of rows `hidden` (K, d) under the head `weight` (V, d).

    -sum_k log softmax(scale · h_k Wᵀ)[target_k]. Never holds more than `CHUNK` rows of logits, as
    the gradients of h and W are formed chunk by chunk in the forward pass (they are linear in the
    one number that backward brings).
    """
    # Inside `forward` gradients always count as switched off, so it is asked here.
    learning = torch.is_grad_enabled()
    return _HeadCrossEntropy.apply(hidden, weight, targets, scale, learning)  # type: ignore[no-any-return,no-untyped-call]


class _HeadLogprobs(torch.autograd.Function):
    """log softmax(s h Wᵀ)[target] a chunk of rows at a time.

    Each row's value is one number, so its gradient s (W[target] - Σ_v p_v W_v) is formed while the
    chunk's logits exist, and multiplied by whatever backward brings.
    """

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, weight: Tensor, targets: Tensor, scale: float, learning: bool
    ) -> tuple[Tensor, Tensor]:
        logprobs = h.new_empty(len(h), dtype=torch.float32)
        entropies = torch.empty_like(logprobs)
        grad_h = torch.empty_like(h) if learning and ctx.needs_input_grad[0] else None
        matrix = weight.to(h.dtype)
        for start in range(0, len(h), CHUNK):
            rows = slice(start, start + CHUNK)
            logits = (h[rows] @ matrix.t()).float()
            if scale != 1.0:
                logits.mul_(scale)
            norm = torch.logsumexp(logits, dim=-1)
            logprobs[rows] = logits.gather(1, targets[rows, None])[:, 0] - norm
            probabilities = torch.softmax(logits, dim=-1)
            entropies[rows] = norm - torch.linalg.vecdot(probabilities, logits)
            if grad_h is not None:
                mean = probabilities.to(h.dtype) @ matrix
                grad_h[rows] = (matrix[targets[rows]] - mean).mul_(scale)
        ctx.grad_h = grad_h
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad_h, ctx.grad_h = ctx.grad_h, None
        grad = grads[0][:, None].to(grad_h.dtype)
        return grad_h.mul_(grad), None, None, None, None


def head_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (K,) of `targets` (K,) and entropies (K,), in nats, of rows `hidden`
    (K, d) under the frozen head `weight` (V, d).

    log softmax(scale · h_k Wᵀ)[target_k]; the entropies carry no gradient. Never holds more than
    `CHUNK` rows of logits.
    """
    if weight.requires_grad:
        raise ValueError("the head is frozen here: detach its weight")
    learning = torch.is_grad_enabled()
    return _HeadLogprobs.apply(hidden, weight, targets, scale, learning)  # type: ignore[no-any-return,no-untyped-call]
