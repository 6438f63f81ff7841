"""What repetition is: distinct n-grams, and loops told from what people write."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.chat.repetition import distinct_n, loops

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
