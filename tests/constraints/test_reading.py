"""Constraints read from a row: what cannot be read or kept is refused and named."""

from __future__ import annotations

from typing import Any

import pytest

from guildgpt.constraints.drawing import witness
from guildgpt.constraints.reading import check, read
from guildgpt.errors import DataError

LOWER: dict[str, Any] = {"kind": "lower_case"}
UPPER: dict[str, Any] = {"kind": "upper_case"}
BEGINS: dict[str, Any] = {"kind": "begins", "phrase": "In short"}


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
    constraints = read(rows, "rows.jsonl:3")
    assert witness(constraints) is None
    with pytest.raises(DataError, match=r"rows\.jsonl:3: no answer was found that keeps"):
        check(constraints, None, "rows.jsonl:3")


def test_an_answer_of_its_own_says_that_there_is_one() -> None:
    """Also where the drafts know of none."""
    constraints = read([LOWER, {"kind": "begins", "phrase": "in short"}], "here")
    check(constraints, "in short, yes", "here")
    with pytest.raises(DataError, match="the row's own answer breaks its constraint `begins`"):
        check(constraints, "yes", "here")
    check((), None, "here")
    check((), "anything", "here")


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
        read(value, "rows.jsonl:7")
