"""Matrix products with few rows by a matrix that stays: generation multiplies by the same weights
at every step, so they are laid out once, as the processor's own library wants to read them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def prepacked(weight: Tensor, rows: int) -> Matrix:
    """A matrix for products with about `rows` rows of x.

    oneDNN's own layout where torch brings it for this processor and dtype: it spares laying the
    weights out again for every product, which is half the time of one with few rows.
    """
    return PrepackedMatrix(weight, rows) if _onednn_multiplies(weight) else Matrix(weight)


class Matrix:
    """W (outs, in), and what a layer does with x Wᵀ, x (N, in): on every device, in every dtype."""

    def __init__(self, weight: Tensor):
        self.weight = weight.t()

    def __call__(self, x: Tensor) -> Tensor:
        """x Wᵀ, (N, outs)."""
        return x @ self.weight

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """x Wᵀ + other."""
        return torch.addmm(other, x, self.weight)

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """x Wᵀ · other, element by element."""
        return (x @ self.weight).mul_(other)

    def silu(self, x: Tensor) -> Tensor:
        """silu(x Wᵀ)."""
        return F.silu(x @ self.weight)


class PrepackedMatrix(Matrix):
    """Weights in oneDNN's layout, which only its products can read; a copy."""

    def __init__(self, weight: Tensor, rows: int):
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)

    def __call__(self, x: Tensor) -> Tensor:
        """See `Matrix`."""
        return self._product(x, "none")

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """See `Matrix.plus`."""
        return self._with(x, other, "add")

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """See `Matrix.times`."""
        return self._with(x, other, "mul")

    def silu(self, x: Tensor) -> Tensor:
        """See `Matrix.silu`."""
        return self._product(x, "swish")

    def _product(self, x: Tensor, then: str) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, None, then, [], "")
        return y

    def _with(self, x: Tensor, other: Tensor, then: str) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, None, then)
        return y


def _onednn_multiplies(weight: Tensor) -> bool:
    """Whether torch has the products of `PrepackedMatrix` for such weights on this machine."""
    usable = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not usable or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32
