"""Chunked losses and log-probabilities under a head equal torch's own of the whole logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from guildgpt.network.head import CHUNK, head_cross_entropy, head_logprobs

VOCABULARY, WIDTH = 61, 24


def problem(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, head and targets."""
    generator = torch.Generator().manual_seed(count)
    hidden = torch.randn(count, WIDTH, generator=generator).to(dtype)
    head = torch.randn(VOCABULARY, WIDTH, generator=generator)
    targets = torch.randint(0, VOCABULARY, (count,), generator=generator)
    return hidden.requires_grad_(), head.requires_grad_(), targets


def all_logits(hidden: Tensor, head: Tensor, scale: float, cap: float | None) -> Tensor:
    logits = scale * (hidden @ head.t())
    return logits if cap is None else cap * torch.tanh(logits / cap)


def plain(
    hidden: Tensor, head: Tensor, targets: Tensor, scale: float, cap: float | None = None
) -> Tensor:
    return F.cross_entropy(all_logits(hidden, head, scale, cap), targets, reduction="sum")


@pytest.mark.parametrize("count", [1, 7, CHUNK, CHUNK + 1, 2 * CHUNK + 30])
@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("cap", [None, 6.0])
def test_value_and_gradients(count: int, scale: float, cap: float | None) -> None:
    hidden, head, targets = problem(count)
    loss = head_cross_entropy(hidden, head, targets, scale, cap)
    assert loss.shape == ()
    got = torch.autograd.grad(loss, (hidden, head))
    expected_loss = plain(hidden.double(), head.double(), targets, scale, cap)
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
    assert loss.item() == pytest.approx(plain(hidden, head, targets, 1.0).item(), rel=1e-5)


def test_bfloat16_hidden_states_under_a_float32_head() -> None:
    hidden, head, targets = problem(CHUNK + 9, torch.bfloat16)
    loss = head_cross_entropy(hidden, head, targets)
    got = torch.autograd.grad(loss, (hidden, head))
    exact = hidden.detach().float().requires_grad_()
    expected = torch.autograd.grad(plain(exact, head, targets, 1.0), (exact, head))
    assert loss.dtype == torch.float32
    assert [g.dtype for g in got] == [torch.bfloat16, torch.float32]
    assert loss.item() == pytest.approx(plain(exact, head, targets, 1.0).item(), rel=5e-3)
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
    assert loss.item() == 0
    assert float(head.grad.abs().max()) == 0


# --- log-probabilities ---------------------------------------------------------------------------


def plain_logprobs(
    hidden: Tensor, head: Tensor, targets: Tensor, scale: float, cap: float | None = None
) -> Tensor:
    logits = all_logits(hidden, head, scale, cap)
    return torch.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0]


@pytest.mark.parametrize("count", [1, CHUNK, CHUNK + 1, 2 * CHUNK + 30])
@pytest.mark.parametrize("scale", [1.0, 0.25, 1 / 0.7])
@pytest.mark.parametrize("cap", [None, 6.0])
def test_log_probabilities_and_their_gradients(count: int, scale: float, cap: float | None) -> None:
    hidden, head, targets = problem(count)
    weights = torch.randn(count, generator=torch.Generator().manual_seed(1))
    found = head_logprobs(hidden, head.detach(), targets, scale, cap)
    (got,) = torch.autograd.grad((weights * found).sum(), hidden)
    exact = hidden.detach().double().requires_grad_()
    expected = plain_logprobs(exact, head.detach().double(), targets, scale, cap)
    (gradient,) = torch.autograd.grad((weights.double() * expected).sum(), exact)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.double(), gradient, rtol=1e-4, atol=1e-5)


def test_log_probabilities_in_bfloat16() -> None:
    hidden, head, targets = problem(CHUNK + 9, torch.bfloat16)
    found = head_logprobs(hidden, head.detach(), targets)
    (got,) = torch.autograd.grad(found.sum(), hidden)
    exact = hidden.detach().float().requires_grad_()
    expected = plain_logprobs(exact, head.detach(), targets, 1.0)
    (gradient,) = torch.autograd.grad(expected.sum(), exact)
    assert (found.dtype, got.dtype) == (torch.float32, torch.bfloat16)
    assert (found - expected).norm() < 0.01 * expected.norm()
    assert (got.float() - gradient).norm() < 0.02 * gradient.norm()


class Largest(TorchDispatchMode):
    """The most rows of logits that any operation gave."""

    rows = 0

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = call(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else (result,):
            if isinstance(one, Tensor) and one.ndim and one.shape[-1] == VOCABULARY:
                self.rows = max(self.rows, one.numel() // VOCABULARY)
        return result


def test_logits_never_exist_for_more_rows_than_a_chunk_has() -> None:
    hidden, head, targets = problem(5 * CHUNK + 3)
    with Largest() as ours:
        head_logprobs(hidden, head.detach(), targets).sum().backward()
    assert ours.rows == CHUNK
    with Largest() as theirs:
        plain_logprobs(hidden, head, targets, 1.0)
    assert theirs.rows == len(hidden)  # it would have been seen
