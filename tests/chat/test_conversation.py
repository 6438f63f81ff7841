"""Conversations and comparisons: what they say of themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guildgpt.chat import Comparison, Conversation, Message, Source

Q, A, B = Message("user", "Why?"), Message("assistant", "So."), Message("assistant", "Or.")
C = Message("assistant", "Nay.")


def test_the_prompt_is_what_stands_before_the_last_answer() -> None:
    row = Conversation((Q, A, Q, B))
    assert row.prompt == (Q, A, Q)
    # A question left open belongs to no answer.
    assert Conversation((Q, A, Q)).prompt == (Q,)
    assert Conversation((Q,)).prompt == (Q,)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (Source("dolly", "dolly.jsonl", 7), "dolly.jsonl:7"),
        (Source("dolly", row=7), "dolly:7"),
        (Source("dolly", "dolly.jsonl"), "dolly.jsonl"),
        (Source("dolly"), "dolly"),
    ],
)
def test_a_source_shows_file_and_row(source: Source, shown: str) -> None:
    assert str(source) == shown


def test_places_are_the_ranks_or_the_order() -> None:
    assert Comparison((Q,), (A, B)).places == (0, 1)
    assert Comparison((Q,), (A, B, C), ranks=(5, 2, 9)).places == (5, 2, 9)


def test_a_key_depends_on_roles_and_contents_alone() -> None:
    row = Conversation((Q, A), Source("dolly", "dolly.jsonl", 7, "tree"))
    assert row.key == Conversation((Q, A)).key
    assert row.key == Conversation((replace(Q, source=Source("oasst1")), A)).key
    assert len(row.key) == 32
    others = [
        (A, Q),
        (Q, B),
        (Q,),
        (Q, A, A),
        (Message("system", "Why?"), A),
        (Message("user", "Why?So."), Message("assistant", "")),
        (Message("user", "Why? "), A),
    ]
    keys = {Conversation(messages).key for messages in others}
    assert len(keys | {row.key}) == len(others) + 1


def test_a_key_is_the_same_tomorrow() -> None:
    """It decides splits, which must not move with a new version."""
    assert Conversation((Q, A)).key == "d1d25ab72345a7db3a4856b4e75ef1cc"


def test_a_comparisons_key_knows_the_order_of_the_answers() -> None:
    one, other = Comparison((Q,), (A, B)), Comparison((Q,), (B, A))
    assert one.key != other.key
    assert one.key == Comparison((Q,), (A, B), source=Source("oasst1", "x", 3)).key


def test_a_message_shows_as_chat_templates_have_it() -> None:
    assert Message("user", "Why?", Source("dolly")).as_dict() == {"role": "user", "content": "Why?"}


def test_a_lone_surrogate_has_a_key() -> None:
    assert Conversation((Message("user", "\ud800"),)).key
