"""Constraints together: read, drawn so that some answer keeps them, told, and checked."""

from __future__ import annotations

from random import Random
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guildgpt.constraints import drawing
from guildgpt.constraints.held_out import HELD_OUT
from guildgpt.constraints.known import KNOWN
from guildgpt.errors import DataError

LOWER: dict[str, Any] = {"kind": "lower_case"}
UPPER: dict[str, Any] = {"kind": "upper_case"}
BEGINS: dict[str, Any] = {"kind": "begins", "phrase": "In short"}


@given(st.integers(0, 10**6), st.sampled_from([KNOWN, HELD_OUT]))
@settings(max_examples=100)
def test_what_is_drawn_together_some_answer_keeps(seed: int, kinds: Any) -> None:
    constraints = drawing.draw(Random(seed), kinds)
    assert 1 <= len(constraints) <= 3
    assert len({one.kind for one in constraints}) == len(constraints)
    assert {type(one) for one in constraints} <= set(kinds)
    answer = drawing.witness(constraints)
    assert answer is not None
    assert drawing.broken(constraints, answer) == []
    prompt = drawing.ask("Why is it so?", constraints, Random(seed))
    assert "Why is it so?" in prompt
    assert prompt != "Why is it so?"


def test_the_same_seed_draws_the_same() -> None:
    def drawn(seed: int) -> list[Any]:
        random = Random(seed)
        return [drawing.draw(random) for _ in range(20)]

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize(
    "rows",
    [
        [LOWER, UPPER],
        [LOWER, BEGINS],
        [UPPER, BEGINS],
        [{"kind": "sentences", "relation": "at most", "count": 1},
         {"kind": "sentences", "relation": "at least", "count": 2}],
        [{"kind": "word", "word": "river"}, {"kind": "no_word", "word": "River"}],
        [{"kind": "one_line"}, {"kind": "paragraphs", "count": 2}],
        [{"kind": "json", "keys": ["a"]}, {"kind": "title", "brackets": "[]"}],
        [{"kind": "begins", "phrase": "Well"}, {"kind": "title", "brackets": "[]"}],
        [{"kind": "ends", "phrase": "a, b"}, {"kind": "no_commas"}],
    ],
)  # fmt: skip
def test_what_no_answer_can_keep_is_found(rows: list[dict[str, Any]]) -> None:
    constraints = drawing.read(rows, "rows.jsonl:3")
    assert drawing.witness(constraints) is None
    with pytest.raises(DataError, match=r"rows\.jsonl:3: no answer was found that keeps"):
        drawing.check(constraints, None, "rows.jsonl:3")


def test_an_answer_of_its_own_says_that_there_is_one() -> None:
    """Also where the drafts know of none."""
    constraints = drawing.read([LOWER, {"kind": "begins", "phrase": "in short"}], "here")
    drawing.check(constraints, "in short, yes", "here")
    with pytest.raises(DataError, match="the row's own answer breaks its constraint `begins`"):
        drawing.check(constraints, "yes", "here")
    drawing.check((), None, "here")
    drawing.check((), "anything", "here")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("lower_case", "no list of objects"),
        (["lower_case"], "no list of objects"),
        ({"kind": "lower_case"}, "no list of objects"),
        ([{}], "a constraint has no `kind`"),
        ([{"knid": "no_commas", "count": 2}], "has no `kind`; it has `knid`, `count`"),
        ([{"kind": None}], "no kind of constraint None"),
        ([{"kind": "bullets", "count": True}], "`bullets` cannot be read: count"),
        ([{"kind": "bullets", "count": "2"}], "`bullets` cannot be read: count"),
        ([{"kind": "words", "relation": "at least", "count": 10_001}], "less than or equal"),
        ([{"kind": "repeats", "word": "so", "count": 1}], "`repeats` cannot be read: count"),
        ([{"kind": "rhymes"}], "no kind of constraint 'rhymes'"),
        ([{"kind": ["words"]}], "no kind of constraint"),
        ([{"kind": "lower_case", "count": 2}], "`lower_case` cannot be read: count"),
        ([{"kind": "sentences", "count": 2}], "`sentences` cannot be read: relation"),
        ([{"kind": "words", "relation": "exactly", "count": 2}], "`words` cannot be read"),
        ([{"kind": "bullets", "count": 0}], "`bullets` cannot be read: count"),
        ([{"kind": "word", "word": " "}], "`word` cannot be read: word"),
        ([{"kind": "json", "keys": []}], "`json` cannot be read: keys"),
    ],
)
def test_what_cannot_be_read_is_named(value: Any, said: str) -> None:
    with pytest.raises(DataError, match=rf"rows\.jsonl:7: .*{said}"):
        drawing.read(value, "rows.jsonl:7")


def test_the_longest_answer_is_found_at_once() -> None:
    begun = process_time()
    rows: list[Any] = [{"kind": "words", "relation": "at least", "count": 10_000}]
    assert drawing.witness(drawing.read(rows, "here")) is not None
    assert process_time() - begun < 0.5


def test_sentences_are_shared_among_the_values_of_json() -> None:
    rows: list[dict[str, Any]] = [
        {"kind": "json", "keys": ["a", "b"]},
        {"kind": "sentences", "relation": "exactly", "count": 4},
    ]
    assert drawing.witness(drawing.read(rows, "here")) is not None
    assert drawing.witness(drawing.read([rows[0], {**rows[1], "count": 1}], "here")) is None
