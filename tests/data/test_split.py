from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.chat import Comparison, Conversation, Message, Source
from guildgpt.data.split import fraction, side_of, split_side
from guildgpt.errors import DataError

NO_SOURCE = Source()
FIXED = 0.7964723832442182  # where the question below falls


def conversation(*contents: str, source: Source = NO_SOURCE) -> Conversation:
    roles = ("user", "assistant")
    turns = [Message(roles[i % 2], text) for i, text in enumerate(contents)]
    return Conversation(tuple(turns), source)


SHARE = st.floats(0, 0.99)


@given(st.text(), st.text(), st.text(), SHARE)
def test_a_tree_stays_together_whatever_the_form(opening, one, other, share) -> None:
    side = split_side(conversation(opening, one), share)
    assert split_side(conversation(opening, other, "and then?", one), share) == side
    prompt = (Message("user", opening),)
    answers = (Message("assistant", one), Message("assistant", other))
    assert split_side(Comparison(prompt, answers), share) == side
    asked = (Message("system", other), *prompt, Message("assistant", one))
    assert split_side(Conversation(asked, Source("x", "y.jsonl", 9)), share) == side


@given(st.text(), SHARE)
def test_case_and_spacing_do_not_matter(opening, share) -> None:
    spaced = "  " + "\n ".join(opening.split()) + "\t"
    assert split_side(conversation(opening), share) == split_side(conversation(spaced), share)


@given(st.text(min_size=1), st.lists(st.text(), min_size=2, max_size=2), SHARE)
def test_a_group_decides_where_there_is_one(group, openings, share) -> None:
    source = Source(group=group)
    one, other = (conversation(opening, "a", source=source) for opening in openings)
    assert split_side(one, share) == split_side(other, share)


@given(st.text(), SHARE, SHARE)
def test_a_larger_share_only_moves_rows_out_of_training(text, a, b) -> None:
    low, high = sorted((a, b))
    if side_of(text, low) == "held_out":
        assert side_of(text, high) == "held_out"


def test_the_share_is_kept() -> None:
    sides = [split_side(conversation(f"question {i}"), 0.05) for i in range(20_000)]
    assert 850 < sides.count("held_out") < 1150
    assert all(split_side(conversation(f"q {i}"), 0.0) == "train" for i in range(100))


def test_the_rule_never_changes() -> None:
    """Else yesterday's training rows would stand among tomorrow's held-out ones."""
    assert fraction("split", "why is the sky blue?") == pytest.approx(FIXED, abs=1e-9)
    item = conversation("Why is  the sky BLUE?", "Because.")
    assert split_side(item, FIXED + 1e-6) == "held_out"
    assert split_side(item, FIXED - 1e-6) == "train"
    grouped = replace(item, source=Source(group="why is the sky blue?"))
    assert split_side(grouped, FIXED - 1e-6) == "train"


@pytest.mark.parametrize("share", [-0.1, 1.0, 7, float("nan")])
def test_senseless_shares_are_refused(share) -> None:
    with pytest.raises(DataError, match="held-out share"):
        split_side(conversation("q"), share)
