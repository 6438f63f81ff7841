from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from letters import Letters

from guildgpt.chat import CHATML, Message
from guildgpt.engines.engine import Chunk, SamplingParams
from guildgpt.errors import EngineError
from guildgpt.evaluate.samples import measure, prompt_seed, sample

answers = st.lists(st.lists(st.integers(0, 9), max_size=60), max_size=6)


# --- measure ---


def test_measure() -> None:
    measures = measure([(1, 2, 3), (1, 2, 3, 4, 5), (7,) * 100], [True, True, False])
    assert measures.answers == 3
    assert measures.end_of_turn_rate == 2 / 3
    assert measures.loop_rate == 1 / 3
    assert measures.tokens_mean == 36
    assert measures.tokens_median == 5
    assert measures.tokens_p90 == pytest.approx(5 + 0.8 * 95)
    assert measures.distinct_1 == 6 / 108


@given(answers.filter(bool), st.data())
def test_measures_are_shares_and_do_not_depend_on_order(
    ids: list[list[int]], data: st.DataObject
) -> None:
    ended = [data.draw(st.booleans()) for _ in ids]
    measures = measure(ids, ended)
    rates = asdict(measures)
    assert all(0 <= rates[name] <= 1 for name in rates if not name.startswith(("answers", "tok")))
    assert measures.tokens_median <= measures.tokens_p90 <= max(map(len, ids))
    again = measure(ids[::-1], ended[::-1])
    assert asdict(again) == pytest.approx(rates)


# --- sample ---


class Scripted:
    """An engine whose answer is its seed; later prompts come back sooner."""

    tokenizer = Letters()
    context = 1000

    def __init__(self, fails_at: int | None = None) -> None:
        self.prompts: list[list[int]] = []
        self.finished = 0
        self.running = self.most = 0
        self.fails_at = fails_at

    async def generate(
        self, ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[Chunk, None]:
        number = len(self.prompts)
        self.prompts.append(list(ids))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.001 * (20 - number))
            if number == self.fails_at:
                raise EngineError("the engine died")
            text = f"{params.seed}"
            for letter in text:
                yield Chunk((ord(letter),), letter)
            yield Chunk((), "", "eos")
            self.finished += 1
        finally:
            self.running -= 1

    async def close(self) -> None: ...

    async def __aenter__(self) -> Scripted:
        return self

    async def __aexit__(self, *failure: object) -> None: ...


PROMPTS = [(Message("user", f"question {n}"),) for n in range(12)]


def test_sample_keeps_the_order_and_asks_what_the_template_writes() -> None:
    engine = Scripted()
    samples = asyncio.run(sample(engine, CHATML, PROMPTS, SamplingParams(), seed=3))
    assert [one.prompt for one in samples] == PROMPTS
    assert engine.prompts[0] == CHATML.prompt(PROMPTS[0], engine.tokenizer)
    assert {one.stop for one in samples} == {"eos"}
    assert [bytes(one.ids).decode() for one in samples] == [one.answer_text for one in samples]


@pytest.mark.parametrize("concurrency", [1, 3, 50])
def test_sample_draws_the_same_at_any_concurrency(concurrency: int) -> None:
    engine = Scripted()
    params = SamplingParams(seed=99)
    samples = asyncio.run(sample(engine, CHATML, PROMPTS, params, seed=3, concurrency=concurrency))
    assert [one.answer_text for one in samples] == [str(prompt_seed(3, n)) for n in range(12)]
    assert engine.most == min(concurrency, len(PROMPTS))


def test_seeds_differ_by_prompt_and_by_run_and_fit_every_engine() -> None:
    seeds = [prompt_seed(seed, index) for seed in range(20) for index in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert any(abs(a - b) > 2**24 for a, b in pairwise(seeds))


def test_a_failing_engine_ends_the_sampling_with_its_own_error() -> None:
    engine = Scripted(fails_at=5)
    with pytest.raises(EngineError, match="the engine died"):
        asyncio.run(sample(engine, CHATML, PROMPTS, SamplingParams(), seed=3, concurrency=6))
    assert engine.running == 0
    assert engine.finished < len(PROMPTS)


def test_no_prompts_give_no_samples() -> None:
    assert asyncio.run(sample(Scripted(), CHATML, [], SamplingParams(), seed=1)) == []
