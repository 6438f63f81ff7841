"""Sequences end to end: every token is found again, and shared prompts are there once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.data.examples import Example
from guildgpt.network.attention import Layout, Segment, apart, lay_out


def example(prompt: Sequence[int], answer: Sequence[int]) -> Example:
    ids = np.array([*prompt, *answer], np.int32)
    return Example(ids, np.arange(len(ids)) >= len(prompt), 0, "test")


def tokens_before(layout: Layout, segment: Segment) -> list[int]:
    return layout.ids[segment.before].tolist()


def test_answers_to_one_prompt_share_it() -> None:
    layout = lay_out([example([1, 2, 3], [4, 5]), example([1, 2, 3], [6])], longest=99)
    assert layout.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert layout.places.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 5]
    prompt, one, other = layout.segments
    assert (prompt.first, prompt.length) == (0, 3)
    assert [tokens_before(layout, s) for s in (one, other)] == [[1, 2, 3], [1, 2, 3]]
    assert layout.attention_pairs == 3 * 3 + 2 * 5 + 1 * 4


def test_who_has_no_neighbour_with_its_prompt_is_left_whole() -> None:
    rows = [example([1, 2], [3]), example([1], [2, 3]), example([1, 2], [4])]
    layout = lay_out(rows, longest=99)
    assert layout.segments == apart([3, 3, 3])
    assert layout.places.tolist() == list(range(9))


def test_long_sequences_are_left_whole() -> None:
    rows = [example([1, 2], [3]), example([1, 2], [3, 4])]
    assert lay_out(rows, longest=3).segments == apart([3, 4])
    assert len(lay_out(rows, longest=4).segments) == 3


def test_what_is_predicted_from_its_first_token_on_has_no_prompt() -> None:
    rows = [example([], [3, 4]), example([], [3, 4])]
    assert lay_out(rows, longest=9).segments == apart([2, 2])
    nothing = [Example(np.array([5, 6], np.int32), np.zeros(2, bool), 0, "test")] * 2
    assert lay_out(nothing, longest=9).segments == apart([2, 2])


few = st.lists(st.integers(1, 2), max_size=3)


@given(st.lists(st.tuples(few, st.lists(st.integers(1, 9), min_size=1, max_size=4)), min_size=1))
def test_every_token_is_found_with_the_same_ones_before_it(
    rows: list[tuple[list[int], list[int]]],
) -> None:
    examples = [example(*row) for row in rows]
    layout = lay_out(examples, longest=5)
    assert layout.ids[layout.places].tolist() == [t for e in examples for t in e.ids.tolist()]
    whole = {
        row: [*tokens_before(layout, segment), *layout.ids[segment.rows][: offset + 1].tolist()]
        for segment in layout.segments
        for offset, row in enumerate(range(segment.rows.start, segment.rows.stop))
    }
    assert sorted(whole) == list(range(len(layout.ids)))  # each row belongs to one segment
    expected = [e.ids[: n + 1].tolist() for e in examples for n in range(len(e))]
    assert [whole[row] for row in layout.places.tolist()] == expected
