"""The matrices behind a change of weights, found again."""

from __future__ import annotations

import warnings

import pytest
import torch

from guildgpt.sharing.low_rank import factors, rounding


def drawn(rows: int, columns: int, rank: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=generator)
    return left @ torch.randn(rank, columns, generator=generator) / rank


def test_rounding_says_nothing_on_the_screen() -> None:
    """torch warned of every shape, between the lines that `guildgpt export` prints."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rounding(torch.ones(24, 40), torch.float32) > 0


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (900, 700)], ids=str)
@pytest.mark.parametrize("guess", [1, 5, 9])
def test_the_product_is_the_change(shape: tuple[int, int], guess: int) -> None:
    """Whole and by projection, with a rank that was said too small, right or too large."""
    weight = drawn(*shape, rank=40)
    merged = weight + drawn(*shape, rank=5, seed=1)
    change = merged.double() - weight.double()
    found = factors(change, guess, 4 * rounding(merged, torch.float32))
    assert found is not None
    a, b = found
    assert (a.shape[1], b.shape[0]) == (shape[1], shape[0])
    assert len(a) == b.shape[1] == 5
    assert torch.allclose(b @ a, merged - weight, atol=2e-6)


@pytest.mark.parametrize("shape", [(40, 60), (600, 500)], ids=str)
def test_what_is_not_low_rank_has_none(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    change = torch.randn(shape, generator=generator)
    assert factors(change, 4, rounding(change, torch.float32)) is None


def test_rounding_does_not_count() -> None:
    """In bfloat16 the change is known to a hundredth: its rank is the one that is said."""
    weight, change = drawn(600, 700, rank=60), drawn(600, 700, rank=4, seed=1)
    merged = (weight + change).bfloat16()
    noise = 2 * rounding(merged, torch.bfloat16)
    found = factors(merged.double() - weight.double(), 4, noise, least=4)
    assert found is not None
    a, b = found
    assert len(a) == 4
    error = (b @ a - change).norm() / (merged.float() - weight - change).norm()
    assert error < 0.25  # most of the rounding is left out of it


def test_what_rounding_costs() -> None:
    weight = drawn(300, 300, rank=300)
    cost = float((weight.bfloat16().double() - weight.double()).norm())
    assert rounding(weight, torch.bfloat16) == pytest.approx(cost, rel=0.02)
    assert rounding(torch.zeros(2, 2), torch.bfloat16) == 0.0


def test_a_direction_that_rounding_cannot_be_is_not_lost() -> None:
    """Where the rank was said too small, also in a coarse format."""
    weight, change = drawn(600, 700, rank=60), drawn(600, 700, rank=4, seed=1)
    merged = (weight + change).bfloat16()
    noise = 2 * rounding(merged, torch.bfloat16)
    found = factors(merged.double() - weight.double(), 2, noise, least=2)
    assert found is not None
    assert len(found[0]) >= 4
