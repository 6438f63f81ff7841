"""The low-rank matrices behind a change of weights: what a merged adapter was."""

from __future__ import annotations

import torch
from torch import Tensor

MORE = 8  # directions than are wanted, so that none of those is missed


def rounding(weight: Tensor) -> float:
    """The Frobenius norm that storing `weight` in its format may have cost it, at most.

    Each entry is off by up to eps / 2 of itself; merging adds about as much.
    """
    return float(torch.finfo(weight.dtype).eps * weight.double().norm())


def factors(
    change: Tensor, rank: int, tolerance: float, *, least: int = 1
) -> tuple[Tensor, Tensor] | None:
    """`A` (r, n) and `B` (m, r) in float32 whose product is `change` (m, n), but for `tolerance` in
    the Frobenius norm; None where no such product takes less room than the matrix itself.

    r is as small as that allows, yet no less than `least`: in a coarse format the rounding hides
    the least of a change's directions, and their number is known. `rank` is a guess.

    The best product of a rank is the truncated singular value decomposition (Eckart and Young
    1936), found by random projection where that is smaller (Halko, Martinsson and Tropp 2011, arXiv
    0909.4061).
    """
    change = change.double()
    rows, columns = change.shape
    most = rows * columns // (rows + columns)
    total = float(change.square().sum())
    rank = max(min(rank, most), 1)
    while True:
        u, s, v = _decomposed(change, rank)
        left = total - s[:rank].square().cumsum(0)  # by how many directions are taken
        enough = (left <= tolerance**2).nonzero()
        if len(enough):
            rank = max(int(enough[0]) + 1, min(least, rank))
            root = s[:rank].sqrt()
            return (v[:, :rank] * root).T.float(), (u[:, :rank] * root).float()
        if rank >= most:
            return None
        rank = min(2 * rank, most)


def _decomposed(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """U, S and V with the `rank` largest singular values, and some more."""
    wanted = rank + MORE
    if 2 * wanted > min(matrix.shape):  # projected, it would hardly be smaller
        u, s, transposed = torch.linalg.svd(matrix, full_matrices=False)
        return u, s, transposed.T
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # What is beyond the rank is rounding alone: one iteration tells the two apart.
        return torch.svd_lowrank(matrix, q=wanted, niter=1)
