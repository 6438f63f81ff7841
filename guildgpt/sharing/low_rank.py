"""The low-rank matrices behind a change of weights: what a merged adapter was."""

from __future__ import annotations

import torch
from torch import Tensor

MORE = 8  # directions than are wanted, so that none of those is missed


def rounding(weight: Tensor, dtype: torch.dtype) -> float:
    """The Frobenius norm of what rounding `weight` to `dtype` costs.

    An entry is off by at most half the distance u to its neighbour, all errors alike: u^2 / 12 is
    their mean square.
    """
    exponents = torch.frexp(weight.double())[1] - 1
    eps = torch.full_like(exponents, torch.finfo(dtype).eps, dtype=torch.float64)
    steps = torch.ldexp(eps, exponents)
    steps[weight == 0] = 0.0
    return float((steps.square() / 12).sum().sqrt())


def factors(
    change: Tensor, rank: int, tolerance: float, *, least: int = 1, most: int | None = None
) -> tuple[Tensor, Tensor] | None:
    """`A` (r, n) and `B` (m, r) in float32 whose product is `change` (m, n), but for `tolerance` in
    the Frobenius norm. None where r would be above `most`, or such a product would take no less
    room than the matrix itself.

    r is as small as that allows, yet no less than `least`: where the change was rounded coarsely,
    that hides the least of its directions, and their number is known. `rank` is a guess.

    The best product of a rank is the truncated singular value decomposition (Eckart and Young
    1936), found by random projection where that is smaller (Halko, Martinsson and Tropp 2011, arXiv
    0909.4061).
    """
    change = change.double()
    rows, columns = change.shape
    most = min(rows * columns // (rows + columns), most or rows)
    total = float(change.square().sum())
    rank = max(min(rank, most), 1)
    while True:
        u, s, v = _decomposed(change, rank, passes=1 if least == 1 else 3)
        left = total - s[:rank].square().cumsum(0)  # by how many directions are taken
        enough = (left <= tolerance**2).nonzero()
        if len(enough):
            rank = max(int(enough[0]) + 1, min(least, rank))
            root = s[:rank].sqrt()
            return (v[:, :rank] * root).T.float(), (u[:, :rank] * root).float()
        if rank >= most:
            return None
        rank = min(2 * rank, most)


def _decomposed(matrix: Tensor, rank: int, *, passes: int) -> tuple[Tensor, Tensor, Tensor]:
    """U, S and V with the `rank` largest singular values, and some more. The nearer the others come
    to these, the more `passes` it takes to tell them apart."""
    wanted = rank + MORE
    if 2 * wanted > min(matrix.shape):  # projected, it would hardly be smaller
        u, s, transposed = torch.linalg.svd(matrix, full_matrices=False)
        return u, s, transposed.T
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.svd_lowrank(matrix, q=wanted, niter=passes)
