"""The chunked loss under a head equals torch's cross-entropy of the whole logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from guildgpt.model.losses import CHUNK, head_cross_entropy

VOCABULARY, WIDTH = 61, 24


def problem(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, head and targets."""
    generator = torch.Generator().manual_seed(count)
    hidden = torch.randn(count, WIDTH, generator=generator).to(dtype)
    head = torch.randn(VOCABULARY, WIDTH, generator=generator)
    targets = torch.randint(0, VOCABULARY, (count,), generator=generator)
    return hidden.requires_grad_(), head.requires_grad_(), targets


def plain(hidden: Tensor, head: Tensor, targets: Tensor, scale: float) -> Tensor:
    return F.cross_entropy(scale * (hidden @ head.t()), targets, reduction="sum")


@pytest.mark.parametrize("count", [1, 7, CHUNK, CHUNK + 1, 2 * CHUNK + 30])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_value_and_gradients(count: int, scale: float) -> None:
    hidden, head, targets = problem(count)
    loss = head_cross_entropy(hidden, head, targets, scale)
    assert loss.shape == ()
    got = torch.autograd.grad(loss, (hidden, head))
    expected_loss = plain(hidden.double(), head.double(), targets, scale)
    expected = torch.autograd.grad(expected_loss, (hidden, head))
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_a_factor_on_the_sum_reaches_the_gradients() -> None:
    hidden, head, targets = problem(CHUNK + 9)
    got = torch.autograd.grad(head_cross_entropy(hidden, head, targets) / 7, (hidden, head))
    expected = torch.autograd.grad(plain(hidden, head, targets, 1.0) / 7, (hidden, head))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_a_head_tied_to_the_embedding_gets_both_gradients() -> None:
    _, table, targets = problem(CHUNK + 9)
    ids = (targets * 7 + 3) % VOCABULARY

    def loss(head_loss: object) -> Tensor:
        (gradient,) = torch.autograd.grad(head_loss(table[ids].tanh(), table, targets, 1.0), table)
        return gradient

    torch.testing.assert_close(loss(head_cross_entropy), loss(plain), rtol=1e-4, atol=1e-5)


def test_only_what_is_trained_gets_a_gradient() -> None:
    hidden, head, targets = problem(9)
    head_cross_entropy(hidden, head.detach(), targets).backward()
    assert hidden.grad is not None
    other, head, targets = problem(9)
    head_cross_entropy(other.detach(), head, targets).backward()
    assert head.grad is not None
    expected = torch.autograd.grad(plain(other, head, targets, 1.0), head)[0]
    torch.testing.assert_close(head.grad, expected, rtol=1e-4, atol=1e-5)


def test_without_gradients() -> None:
    hidden, head, targets = problem(CHUNK + 9)
    with torch.no_grad():
        loss = head_cross_entropy(hidden, head, targets)
    assert not loss.requires_grad
    assert float(loss) == pytest.approx(float(plain(hidden, head, targets, 1.0)), rel=1e-5)


def test_bfloat16_hidden_states_under_a_float32_head() -> None:
    hidden, head, targets = problem(CHUNK + 9, torch.bfloat16)
    loss = head_cross_entropy(hidden, head, targets)
    got = torch.autograd.grad(loss, (hidden, head))
    exact = hidden.detach().float().requires_grad_()
    expected = torch.autograd.grad(plain(exact, head, targets, 1.0), (exact, head))
    assert loss.dtype == torch.float32
    assert [g.dtype for g in got] == [torch.bfloat16, torch.float32]
    assert float(loss) == pytest.approx(float(plain(exact, head, targets, 1.0)), rel=5e-3)
    for mine, other in zip(got, expected, strict=True):
        assert (mine.float() - other).norm() < 0.02 * other.norm()


def test_large_logits_do_not_overflow() -> None:
    hidden, head, targets = problem(5)
    loss = head_cross_entropy(hidden * 1e4, head, targets)
    assert torch.isfinite(loss)
    gradients = torch.autograd.grad(loss, (hidden, head))
    assert all(bool(torch.isfinite(g).all()) for g in gradients)


def test_no_rows_at_all() -> None:
    hidden, head, targets = problem(0)
    loss = head_cross_entropy(hidden, head, targets)
    loss.backward()
    assert float(loss) == 0
    assert float(head.grad.abs().max()) == 0
