"""The contract's own code: parameters, collecting, the prompt's length."""

from __future__ import annotations

import asyncio

import pytest

from guildgpt.engines.engine import Chunk, Completion, SamplingParams, check_prompt, complete
from guildgpt.errors import EngineError


class Scripted:
    """An engine that streams what it was given."""

    context = 8

    def __init__(self, *chunks: Chunk):
        self.chunks = chunks

    async def generate(self, ids, params):
        for chunk in self.chunks:
            yield chunk


def test_answer_joins_chunks() -> None:
    engine = Scripted(Chunk((1, 2), "a"), Chunk((), ""), Chunk((3,), "b", "length"))
    got = asyncio.run(complete(engine, [1], SamplingParams()))  # type: ignore[arg-type]
    assert got == Completion((1, 2, 3), "ab", "length")


def test_an_engine_that_just_ends_was_cancelled() -> None:
    got = asyncio.run(complete(Scripted(), [1], SamplingParams()))  # type: ignore[arg-type]
    assert got.stop == "cancelled"


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"top_k": -1},
        {"top_p": 0.0},
        {"min_p": 1.5},
        {"repeat_penalty": 0.0},
        {"max_tokens": 0},
        {"seed": -1},
        {"logprobs": -1},
        {"stop": ("",)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_params_that_no_engine_can_follow(wrong: dict) -> None:
    with pytest.raises(EngineError, match=next(iter(wrong))):
        SamplingParams(**wrong)


def test_prompt_must_leave_room() -> None:
    check_prompt([1] * 7, 8)
    with pytest.raises(EngineError, match="8 tokens long, and the engine's context holds 8"):
        check_prompt([1] * 8, 8)
    with pytest.raises(EngineError, match="empty"):
        check_prompt([], 8)
