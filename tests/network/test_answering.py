"""Which tokens may be drawn, step by step as `SamplingParams` says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from guildgpt.network.answering import restrict

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_k": 2}, [0.625, 0.375, 0, 0]),
        ({"top_p": 0.5}, [1, 0, 0, 0]),
        ({"top_p": 0.51}, [0.625, 0.375, 0, 0]),
        ({"top_p": 0.625, "top_k": 2}, [1, 0, 0, 0]),  # of the two, not of all
        ({"min_p": 0.29}, [10 / 19, 6 / 19, 3 / 19, 0]),
        ({"temperature": 0.5}, [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]),
    ],
)
def test_restrictions(params: dict[str, Any], expected: list[float]) -> None:
    found = restrict(LOGITS, **params).softmax(-1)
    assert found == pytest.approx(torch.tensor(expected).numpy(), abs=1e-6)


def test_the_penalty_falls_on_what_was_said() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5])
    found = restrict(logits, repeat_penalty=2.0, last=torch.tensor([0, 1]))
    assert found.tolist() == [1.0, -2.0, 0.5]
    assert logits.tolist() == [2.0, -1.0, 0.5]


def test_greedy_restricts_nothing() -> None:
    assert restrict(LOGITS, temperature=0, top_k=1).tolist() == pytest.approx(LOGITS.tolist())
