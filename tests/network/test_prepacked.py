"""Weights that stay: whatever layout they take, the products are the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from guildgpt.network import prepacked as module
from guildgpt.network.prepacked import Matrix, PrepackedMatrix, prepacked

DTYPES = [torch.float32, torch.bfloat16]


def made(plain: bool, dtype: torch.dtype, rows: int = 4) -> tuple[Matrix, Tensor]:
    weight = torch.randn(24, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    matrix = prepacked(weight, rows)
    if not plain and type(matrix) is Matrix:
        pytest.skip(f"oneDNN has no products in {dtype} on this processor")
    return Matrix(weight) if plain else matrix, weight


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "prepacked"])
@pytest.mark.parametrize("rows", [1, 4, 33])
def test_products_and_what_follows_them(plain: bool, dtype: torch.dtype, rows: int) -> None:
    matrix, weight = made(plain, dtype)
    x, other = torch.randn(rows, 40).to(dtype), torch.randn(rows, 24).to(dtype)
    product = x.float() @ weight.float().t()
    tolerance = 1e-4 if dtype == torch.float32 else 0.15
    for found, expected in (
        (matrix(x), product),
        (matrix.plus(x, other), product + other.float()),
        (matrix.times(x, other), product * other.float()),
        (matrix.silu(x), F.silu(product)),
    ):
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, rtol=tolerance / 5, atol=tolerance)


def test_a_view_of_a_larger_matrix_is_prepacked_alone() -> None:
    both = torch.randn(48, 40)
    lower = prepacked(both[24:], 4)
    x = torch.randn(4, 40)
    torch.testing.assert_close(lower(x), x @ both[24:].t(), rtol=1e-4, atol=1e-4)


def test_what_is_prepacked_is_a_copy_or_the_weights_themselves() -> None:
    weight = torch.randn(8, 8)
    matrix, x = prepacked(weight, 2), torch.eye(8)
    before = matrix(x)
    weight.add_(1)
    after = matrix(x)
    assert torch.equal(before, after) == isinstance(matrix, PrepackedMatrix)


def test_without_onednn_weights_stay_as_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.torch.backends.mkldnn, "is_available", lambda: False)
    assert type(prepacked(torch.randn(4, 4), 2)) is Matrix


def test_other_dtypes_stay_as_they_lie() -> None:
    assert type(prepacked(torch.randn(4, 4, dtype=torch.float64), 2)) is Matrix
