"""Linear layers that share an input, run as one matrix product, with their low-rank adapters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Gradients = tuple[Tensor | None, Sequence[Tensor]]


class Adapter(NamedTuple):
    """LoRA's A (r, in) and B (out, r), the scale s, the columns of y that they change, and those
    of x Aᵀ that are theirs."""

    down: nn.Parameter
    up: nn.Parameter
    scale: float
    columns: slice
    ranks: slice


class Projection:
    """Linear layers that share one input, run as one: y = x Wᵀ + s (x Aᵀ) Bᵀ, columns side by side.

    Built from `nn.Linear` or peft's LoRA layers, whose parameters it uses where they are: the
    weights become views of one fused matrix, so optimizers, peft and saving see them as before.
    Adapters are those that `Hats` puts on: without bias and dropout. TypeError for layers with a
    bias. LoRA: Hu et al. 2021, arXiv 2106.09685, eq. 3.
    """

    def __init__(self, layers: Sequence[Any], adapter: str | None):
        plain = [getattr(layer, "base_layer", layer) for layer in layers]
        if any(type(layer) is not nn.Linear or layer.bias is not None for layer in plain):
            raise TypeError(f"only plain linear layers without bias, not {plain}")
        weights = [layer.weight for layer in plain]
        self.sizes = [len(weight) for weight in weights]
        self.fused = fused(weights)
        self.adapters: list[Adapter] = []
        ends = accumulate(self.sizes)
        rank = 0
        for layer, size, end in zip(layers, self.sizes, ends, strict=True):
            if adapter in getattr(layer, "lora_A", ()):
                down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
                columns, ranks = slice(end - size, end), slice(rank, rank + len(down))
                scale = float(layer.scaling[adapter])
                self.adapters.append(Adapter(down, up, scale, columns, ranks))
                rank = ranks.stop
        # What is trained here, in the order in which `backward` returns gradients.
        self.trains_weights = any(weight.requires_grad for weight in weights)
        self.parameters = [weight for one in self.adapters for weight in (one.down, one.up)]
        if self.trains_weights:
            if self.adapters:
                raise TypeError("either weights are trained or their adapters")
            self.parameters = weights

    def prepare(self, dtype: torch.dtype) -> None:
        """Take the weights as they are now, in the dtype of the computation, for one pass."""
        self.matrix = self.fused.to(dtype)  # the same tensor where the dtype is
        if self.adapters:
            self.down = torch.cat([adapter.down.data for adapter in self.adapters]).to(dtype)

    def folded(self) -> Tensor:
        """The weights of one pass with their adapters folded in, (sum of outs, in); those that are
        there already where no adapter is worn. `prepare` must have been called."""
        if not self.adapters:
            return self.matrix
        whole = self.matrix.clone()
        for _, up, scale, columns, ranks in self.adapters:
            whole[columns].addmm_(up.to(whole.dtype), self.down[ranks], alpha=scale)
        return whole

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, in) to (N, sum of outs), and what `backward` reuses: x Aᵀ of all adapters."""
        y = x @ self.matrix.t()
        if not self.adapters:
            return y, None
        hidden = x @ self.down.t()
        for _, up, scale, columns, ranks in self.adapters:
            y[:, columns].addmm_(hidden[:, ranks], up.to(x.dtype).t(), alpha=scale)
        return y, hidden

    def backward(
        self, x: Tensor, hidden: Tensor | None, grad: Tensor, need_input: bool = True
    ) -> Gradients:
        """Gradients of the input (N, in) and of `parameters`, from that of the output."""
        inputs = grad @ self.matrix if need_input else None
        if self.trains_weights:
            whole = (grad.t() @ x).to(self.fused.dtype)
            return inputs, torch.split(whole, self.sizes)
        if hidden is None:
            return inputs, []
        grad_hidden = torch.empty_like(hidden)
        ups = []
        for _, up, scale, columns, ranks in self.adapters:
            part = grad[:, columns]
            grad_hidden[:, ranks] = (part @ up.to(x.dtype)).mul_(scale)
            ups.append((part.t() @ hidden[:, ranks]).mul_(scale).to(up.dtype))
        downs = (grad_hidden.t() @ x).to(self.adapters[0].down.dtype)
        if inputs is not None:
            inputs.addmm_(grad_hidden, self.down)
        pairs = zip(self.adapters, ups, strict=True)
        return inputs, [one for adapter, up in pairs for one in (downs[adapter.ranks], up)]


def fused(weights: Sequence[Tensor]) -> Tensor:
    """The matrices (out, in) one below the other, as one of which each becomes a view.

    Where they are that already, because another pass over the same model was here, nothing moves.
    """
    first = weights[0].data
    starts = accumulate((weight.nbytes for weight in weights), initial=first.data_ptr())
    in_order = all(
        weight.is_contiguous() and weight.data_ptr() == start
        for weight, start in zip(weights, starts, strict=False)
    )
    if in_order and len({weight.untyped_storage().data_ptr() for weight in weights}) == 1:
        return first.as_strided((sum(map(len, weights)), first.shape[1]), (first.shape[1], 1))
    whole = torch.cat([weight.data for weight in weights])
    for weight, part in zip(weights, torch.split(whole, [*map(len, weights)]), strict=True):
        weight.data = part
    return whole
