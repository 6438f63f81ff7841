from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.chat import CHATML, Message
from guildgpt.engines.engine import Answer, Chunk, SamplingParams
from guildgpt.errors import EngineError
from guildgpt.evaluate.samples import (
    SampleMeasures,
    distinct_n,
    end_of_turn_rate,
    loops,
    measure,
    prompt_seed,
    sample,
)

answers = st.lists(st.lists(st.integers(0, 9), max_size=60), max_size=6)


def tokens(text: str) -> list[int]:
    """Words, marks and spaces as ids, near enough to what a tokenizer makes of a text."""
    names: dict[str, int] = {}
    return [names.setdefault(part, len(names)) for part in re.findall(r" ?\w+|\s|[^\w\s]", text)]


# --- distinct_n ---


def test_distinct_n_counts_over_all_answers_together() -> None:
    assert distinct_n(["a b a b", "a b"], 1) == 2 / 6
    assert distinct_n(["a b a b", "a b"], 2) == 2 / 4  # no pair runs from one answer to the next
    assert distinct_n([[1, 2], [3, 4]], 2) == 1.0
    assert distinct_n([], 1) == distinct_n(["one"], 2) == 0.0


@given(answers, st.integers(1, 4))
def test_distinct_n_is_a_share_that_repetition_lowers(answers: list[list[int]], n: int) -> None:
    share = distinct_n(answers, n)
    assert 0 <= share <= 1
    assert distinct_n(answers * 2, n) == share / 2
    assert distinct_n(answers[::-1], n) == share


def test_distinct_n_refuses_n_below_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        distinct_n(["a"], 0)


# --- loops: what is one ---

# Answers that the starter's Q4_1 file gave to two of the probes at temperature 0, in its own ids:
# the first goes round in near repetitions until it stops, the second repeats one sentence.
STARTER = json.loads((Path(__file__).parent / "starter_greedy.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("said", STARTER, ids=lambda said: said["prompt"])
def test_the_starters_greedy_answers_on_rust_and_the_story_are_loops(said: Any) -> None:
    assert loops(said["ids"])
    assert not loops(said["ids"][:100])


@given(
    st.lists(st.integers(0, 999), max_size=300),
    st.lists(st.integers(0, 999), min_size=1, max_size=40),
    st.integers(0, 39),
)
def test_a_span_repeated_to_the_end_is_a_loop_wherever_it_is_cut(
    before: list[int], span: list[int], cut: int
) -> None:
    repeated = span * (4 + 32 // len(span))
    assert loops(before + repeated[: len(repeated) - cut % len(span)])


def test_a_loop_that_counts_as_it_goes_is_one_too() -> None:
    lines = [f"{n}. The owner of a value is the variable that owns the value." for n in range(20)]
    assert loops(tokens("\n".join(lines)))


# --- loops: what is none ---

LIST = """Here are some ideas:

- Play a board game
- Play a card game
- Bake a cake
- Bake some bread
- Watch a film
- Watch the rain
- Read a book
- Read a poem aloud
- Write a letter
- Write a list of things you have wanted to do
- Call a friend
- Call your grandmother"""

CODE = """```python
import argparse

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--input", type=str, default="in.txt", help="where to read from")
    parser.add_argument("--output", type=str, default="out.txt", help="where to write to")
    parser.add_argument("--seed", type=int, default=0, help="for the generator")
    parser.add_argument("--steps", type=int, default=100, help="how long to train")
    args = parser.parse_args()
    for step in range(args.steps):
        for index in range(step):
            if index % 2 == 0:
                print(step, index)
            else:
                print(index, step)

if __name__ == "__main__":
    main()
```"""

POEM = """The harbour sleeps, the lamps are low,
  and the tide comes in, and the tide goes out.
The fishers mend, the mothers sew,
  and the tide comes in, and the tide goes out.
A letter came from Trondheim's shore,
  and the tide comes in, and the tide goes out.
It said he would return no more,
  and the tide comes in, and the tide goes out.
She put it in the kitchen drawer
  and the tide comes in, and the tide goes out.
And set two plates down as before,
  and the tide comes in, and the tide goes out,
  and the tide comes in, and the tide goes out."""

TABLE = "| number | square | cube |\n| --- | --- | --- |\n" + "\n".join(
    f"| {n} | {n * n} | {n**3} |" for n in range(1, 21)
)


@pytest.mark.parametrize("text", [LIST, CODE, POEM, TABLE, "", "no no no no no no no no!"])
def test_what_people_write_is_no_loop(text: str) -> None:
    assert not loops(tokens(text))


def test_counting_and_a_row_of_dashes_are_no_loops() -> None:
    assert not loops(tokens(", ".join(map(str, range(1, 200)))))
    assert not loops(tokens("A heading\n" + "-" * 20))


@given(st.lists(st.integers(0, 10**6), max_size=400, unique=True))
def test_an_answer_that_never_repeats_a_token_is_no_loop(ids: list[int]) -> None:
    assert not loops(ids)


# --- measure ---


def test_measure() -> None:
    given = [
        Answer((1, 2, 3), "", "eos"),
        Answer((1, 2, 3, 4, 5), "", "eos"),
        Answer((7,) * 100, "", "length"),
    ]
    measures = measure(given)
    assert measures.answers == 3
    assert measures.end_of_turn_rate == end_of_turn_rate(given) == 2 / 3
    assert measures.loop_rate == 1 / 3
    assert measures.tokens_mean == 36
    assert measures.tokens_median == 5
    assert measures.tokens_p90 == pytest.approx(5 + 0.8 * 95)
    assert measures.distinct_1 == 6 / 108
    assert SampleMeasures.from_dict(json.loads(json.dumps(measures.as_dict()))) == measures


@given(answers.filter(bool), st.data())
def test_measures_are_shares_and_do_not_depend_on_order(
    ids: list[list[int]], data: st.DataObject
) -> None:
    stops = st.sampled_from(["eos", "length", "cancelled"])
    given = [Answer(tuple(one), "", data.draw(stops)) for one in ids]
    measures = measure(given)
    rates = measures.as_dict()
    assert all(0 <= rates[name] <= 1 for name in rates if not name.startswith(("answers", "tok")))
    assert measures.tokens_median <= measures.tokens_p90 <= max(map(len, ids))
    again = measure(given[::-1])
    assert again.as_dict() == pytest.approx(rates)


def test_there_must_be_something_to_measure() -> None:
    with pytest.raises(ValueError, match="no answers"):
        measure([])


# --- sample ---


class Letters:
    """A tokenizer with one id for each character."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def token_id(self, token: str) -> int | None:
        return {"<|im_start|>": 0x110000, "<|im_end|>": 0x110001}.get(token)


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
    engine, done = Scripted(), []
    samples = asyncio.run(
        sample(engine, CHATML, PROMPTS, SamplingParams(), seed=3, on_done=done.append)
    )
    assert [one.prompt for one in samples] == PROMPTS
    assert engine.prompts[0] == CHATML.prompt(PROMPTS[0], engine.tokenizer)
    assert {one.stop for one in samples} == {"eos"}
    assert [bytes(one.ids).decode() for one in samples] == [one.answer_text for one in samples]
    assert done != samples
    assert sorted(done, key=samples.index) == samples
    assert measure(samples).end_of_turn_rate == 1


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
