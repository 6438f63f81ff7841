"""The head of the vocabulary: from final hidden states to logits, and to losses and
log-probabilities without ever holding all logits at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from guildgpt.network.lean import causal_model
from guildgpt.network.prepacked import prepacked

CHUNK = 256  # rows of logits that exist at one time

# What configurations call a bound on the logits. Gemma 2 (2024), arXiv 2408.00118, section 2.
CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")


class Head:
    """From final hidden states to logits: z = scale · (h Wᵀ + b), W (V, d); with a soft cap c it is
    c · tanh(z / c)."""

    def __init__(self, model: nn.Module):
        causal = causal_model(model)
        layer = causal.get_output_embeddings()
        self.weight: Tensor = layer.weight
        self.bias: Tensor | None = getattr(layer, "bias", None)
        # Only the models that apply a scale hold it; some configurations name one that is ignored.
        self.scale = float(getattr(causal, "logit_scale", None) or 1.0)
        self.scale *= float(getattr(causal.config, "lm_head_multiplier", None) or 1.0)  # Falcon-H1
        self.scale /= float(getattr(causal.config, "logits_scaling", None) or 1.0)  # Granite
        self.cap = cap_of(causal.config)

    def logits(self, hidden: Tensor) -> Tensor:
        """All logits (K, V) in float32 of a few hidden states (K, d)."""
        hidden, weight = self.folded(hidden)
        return _capped((hidden.float() @ weight.float().t()).mul_(self.scale), self.cap)

    def for_generation(self, dtype: torch.dtype, rows: int) -> Callable[[Tensor], Tensor]:
        """Logits (K, V) in float32 of hidden states (K, d) in `dtype`, for many steps of at most
        `rows` of them: each overwrites those of the step before."""
        product = prepacked(self.weight.detach().to(dtype), rows)
        room = torch.empty(rows, len(self.weight), device=self.weight.device)

        def logits(hidden: Tensor) -> Tensor:
            found = room[: len(hidden)].copy_(product(hidden))
            if self.bias is not None:
                found += self.bias
            return _capped(found.mul_(self.scale) if self.scale != 1 else found, self.cap)

        return logits

    def folded(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states and matrix with the bias, if any, as one more column, under a hidden state
        that is always 1."""
        if self.bias is None:
            return hidden, self.weight
        hidden = torch.cat([hidden, hidden.new_ones(len(hidden), 1)], dim=1)
        return hidden, torch.cat([self.weight, self.bias[:, None].to(self.weight.dtype)], dim=1)


def cap_of(config: Any) -> float | None:
    """The soft cap on the logits that a configuration tells of."""
    caps = (getattr(config, name, None) for name in CAPS)
    return next((float(cap) for cap in caps if cap), None)


def _capped(logits: Tensor, cap: float | None) -> Tensor:
    """c · tanh(z / c) in place; the logits themselves without a cap."""
    return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)


def _softmax(
    h: Tensor, matrix: Tensor, targets: Tensor, scale: float, cap: float | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """log softmax(z)[target] (K,) of some rows, z = s h Wᵀ or c tanh(s h Wᵀ / c), and e^{z - max}
    (K, V) with its sums (K, 1), from which the probabilities follow; with a cap its slope
    1 - tanh² (K, V), too. In float32, as few passes over it as can be."""
    weights = (h @ matrix.t()).float()
    if scale != 1.0:
        weights.mul_(scale)
    slope = None
    if cap is not None:
        weights.div_(cap).tanh_()
        slope = 1 - weights.square()
        weights.mul_(cap)
    peak = weights.amax(-1, keepdim=True)
    wanted = weights.gather(1, targets[:, None]) - peak
    total = weights.sub_(peak).exp_().sum(-1, keepdim=True)
    return (wanted - total.log())[:, 0], weights, total, slope


class _HeadCrossEntropy(torch.autograd.Function):
    """-log softmax(h Wᵀ)[target], a chunk of rows at a time; gradients are made on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        targets: Tensor,
        scale: float,
        cap: float | None,
        learning: bool,
    ) -> Tensor:
        losses = h.new_empty(len(h), dtype=torch.float32)
        needs_h, needs_w = (learning and needed for needed in ctx.needs_input_grad[:2])
        grad_h = torch.empty_like(h) if needs_h else None
        grad_w = torch.zeros_like(weight, dtype=torch.float32) if needs_w else None
        matrix = weight.to(h.dtype)
        for start in range(0, len(h), CHUNK):
            rows = slice(start, start + CHUNK)
            logprobs, weights, total, slope = _softmax(h[rows], matrix, targets[rows], scale, cap)
            losses[rows] = -logprobs
            if grad_h is None and grad_w is None:
                continue
            grad = weights.mul_(scale / total)
            goal = targets[rows, None]
            grad.scatter_add_(1, goal, torch.full_like(goal, -scale, dtype=grad.dtype))
            grad = (grad if slope is None else grad.mul_(slope)).to(h.dtype)
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
            None,
        )


def head_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, scale: float = 1.0, cap: float | None = None
) -> Tensor:
    """The summed next-token loss in nats of rows `hidden` (K, d) under the head `weight` (V, d).

    -sum_k log softmax(z_k)[target_k], z_k = scale · h_k Wᵀ, or cap · tanh(scale · h_k Wᵀ / cap).
    Never holds more than `CHUNK` rows of logits, as the gradients of h and W are formed chunk by
    chunk in the forward pass (they are linear in the one number that backward brings).
    """
    # Inside `forward` gradients always count as switched off, so it is asked here.
    learning = torch.is_grad_enabled()
    return _HeadCrossEntropy.apply(hidden, weight, targets, scale, cap, learning)  # type: ignore[no-any-return,no-untyped-call]


class _HeadLogprobs(torch.autograd.Function):
    """log softmax(s h Wᵀ)[target] a chunk of rows at a time.

    Each row's value is one number, so its gradient s (W[target] - Σ_v p_v W_v) is formed while the
    chunk's logits exist, and multiplied by whatever backward brings. With a cap each row W_v has
    the cap's slope at its logit before it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        targets: Tensor,
        scale: float,
        cap: float | None,
        learning: bool,
    ) -> Tensor:
        logprobs = h.new_empty(len(h), dtype=torch.float32)
        grad_h = torch.empty_like(h) if learning and ctx.needs_input_grad[0] else None
        matrix = weight.to(h.dtype)
        for start in range(0, len(h), CHUNK):
            rows = slice(start, start + CHUNK)
            goal = targets[rows]
            logprobs[rows], weights, total, slope = _softmax(h[rows], matrix, goal, scale, cap)
            if grad_h is not None:
                share, wanted = weights.div_(total), matrix[goal]
                if slope is not None:
                    share.mul_(slope)
                    wanted = wanted * slope.gather(1, goal[:, None]).to(h.dtype)
                grad_h[rows] = (wanted - share.to(h.dtype) @ matrix).mul_(scale)
        ctx.grad_h = grad_h
        return logprobs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad_h, ctx.grad_h = ctx.grad_h, None
        grad = grads[0][:, None].to(grad_h.dtype)
        return grad_h.mul_(grad), None, None, None, None, None


def head_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, scale: float = 1.0, cap: float | None = None
) -> Tensor:
    """Log-probabilities (K,), in nats, of `targets` (K,) from rows `hidden` (K, d) under the frozen
    head `weight` (V, d).

    log softmax(z_k)[target_k], z_k as in `head_cross_entropy`. Never holds more than `CHUNK` rows
    of logits.
    """
    learning = torch.is_grad_enabled()
    return _HeadLogprobs.apply(hidden, weight, targets, scale, cap, learning)  # type: ignore[no-any-return,no-untyped-call]
