"""Constraints kept: shares, intervals, and what changed between two models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.evaluate.kept import (
    ConstrainedAnswer,
    kept_change,
    kept_figures,
    kept_sentence,
)


def answered(*kept: tuple[bool, ...]) -> list[ConstrainedAnswer]:
    return [
        ConstrainedAnswer(
            f"prompt {number}",
            "an answer",
            tuple(f"kind {place}" for place in range(len(some))),
            some,
            ended=True,
            looped=False,
            tokens=3,
        )
        for number, some in enumerate(kept)
    ]


def test_by_hand() -> None:
    figures = kept_figures(answered((True,), (True, False), (True, True), (False,)))
    assert (figures.prompts, figures.constraints) == (4, 6)
    assert figures.all_kept.rate == 0.5
    assert figures.each_kept.rate == pytest.approx(4 / 6)
    assert figures.by_kind == {"kind 0": 0.75, "kind 1": 0.5}


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=3).map(tuple), min_size=1))
def test_intervals_hold_the_shares(kept: list[tuple[bool, ...]]) -> None:
    figures = kept_figures(answered(*kept))
    for share in (figures.all_kept, figures.each_kept):
        assert 0 <= share.low <= share.rate + 1e-9
        assert share.rate <= share.high + 1e-9 <= 1 + 1e-6
    assert figures.all_kept.rate <= figures.each_kept.rate + 1e-9 or len(kept) > 1


def test_a_change_is_held_prompt_against_prompt() -> None:
    """Both keep half, but not of the same prompts: that is less certain than equal answers."""
    half = [(True,), (False,)] * 50
    same = kept_change(answered(*half), answered(*half))
    assert same
    assert (same.all_kept.rate, same.all_kept.low, same.all_kept.high) == (0, 0, 0)
    swapped = kept_change(answered(*half), answered(*half[1:], half[0]))
    assert swapped
    assert swapped.all_kept.low < -0.1 < swapped.all_kept.rate < 0.1 < swapped.all_kept.high
    better = kept_change(answered(*half), answered(*[(True,)] * 100))
    assert better
    assert better.all_kept.rate == better.each_kept.rate == 0.5
    assert better.all_kept.low > 0.3


def test_other_prompts_are_not_compared() -> None:
    assert kept_change(answered((True,)), answered((True,), (True,))) is None
    assert kept_change([], []) is None


def test_the_sentence_has_the_change() -> None:
    before, after = answered(*[(False,)] * 40), answered(*[(True,), (False,)] * 20)
    told = kept_sentence("known kinds", kept_figures(after), kept_change(before, after))
    assert told.startswith("Of 40 held-out prompts with constraints of known kinds, it kept all")
    assert "50.0%" in told
    assert "+50.0 points" in told
    assert "points" not in kept_sentence("known kinds", kept_figures(after))
