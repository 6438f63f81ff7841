"""Constraints together: drawn so that some answer keeps them, and told."""

from __future__ import annotations

from random import Random
from time import process_time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from guildgpt.constraints.drawing import ask, broken, draw, witness
from guildgpt.constraints.held_out import HELD_OUT
from guildgpt.constraints.reading import read
from guildgpt.constraints.trained import TRAINED


@given(st.integers(0, 10**6), st.sampled_from([TRAINED, HELD_OUT]))
@settings(max_examples=100)
def test_what_is_drawn_together_some_answer_keeps(seed: int, kinds: Any) -> None:
    constraints = draw(Random(seed), kinds)
    assert 1 <= len(constraints) <= 3
    assert len({one.kind for one in constraints}) == len(constraints)
    assert {type(one) for one in constraints} <= set(kinds)
    answer = witness(constraints)
    assert answer is not None
    assert broken(constraints, answer) == []
    prompt = ask("Why is it so?", constraints, Random(seed))
    assert "Why is it so?" in prompt
    assert prompt != "Why is it so?"


def test_the_same_seed_draws_the_same() -> None:
    def drawn(seed: int) -> list[Any]:
        random = Random(seed)
        return [draw(random) for _ in range(20)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_the_longest_answer_is_found_at_once() -> None:
    begun = process_time()
    rows: list[Any] = [{"kind": "words", "relation": "at least", "count": 10_000}]
    assert witness(read(rows, "here")) is not None
    assert process_time() - begun < 0.5


def test_sentences_are_shared_among_the_values_of_json() -> None:
    rows: list[dict[str, Any]] = [
        {"kind": "json", "keys": ["a", "b"]},
        {"kind": "sentences", "relation": "exactly", "count": 4},
    ]
    assert witness(read(rows, "here")) is not None
    assert witness(read([rows[0], {**rows[1], "count": 1}], "here")) is None
