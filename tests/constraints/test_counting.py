"""What is a word, a sentence, an item, a paragraph: by hand, and for any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.constraints.counting import (
    bullets,
    has_word,
    numbers,
    paragraphs,
    sentences,
    times,
    title,
    without_title,
    words,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("- ! ...", 0),
        ("One.", 1),
        ("well-known don't 3.5 10:30", 4),
        ("- a\n- b", 2),
        ("1. first\n2. second", 4),
        ("Größe, naïve; 日本", 3),
        ("end.Start", 1),
    ],
)
def test_words(text: str, count: int) -> None:
    assert len(words(text)) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("No mark", 1),
        ("One. Two! Three?", 3),
        ("Really?! Yes...", 2),
        ("He said \"No.\" Then he left.", 2),
        ("It costs 3.50 in all.", 1),
        ("Dr. Smith met J. Doe, e.g. at noon.", 1),
        ("There were apples, pears, etc.", 1),
        ("A line\nthat goes on.", 1),
        ("One\n\nTwo", 2),
        ("Here:\n- one\n- two", 3),
        ("1. First thing. And more.\n2. Second thing.", 3),
        ("[A title]\nOne sentence.", 1),
        ("# A heading\n\nOne. Two.", 2),
        ("一。二。", 2),
        ("**bold.** next.", 2),
    ],
)  # fmt: skip
def test_sentences(text: str, count: int) -> None:
    assert sentences(text) == count


def test_items_paragraphs_and_titles() -> None:
    text = "Intro\n- one\n* two\n• three\n-four\n1. five\n2) six\n3 seven"
    assert bullets(text) == 3
    assert numbers(text) == [1, 2]
    assert paragraphs("a\n\nb\n \n\nc\n\n---") == 3
    assert paragraphs("[Title]\n\na\n\nb") == 2
    assert title("[Title]\nand more") == "[Title]"
    assert title("**Title**\n\nand more") == "**Title**"
    assert title("[Title]") == title("Title\nand more") == title("[a] b\nc") == ""
    assert without_title("[Title]\nand more").strip() == "and more"


def test_whole_words_in_whatever_case() -> None:
    assert has_word("The River, at last", "river")
    assert not has_word("rivers and driver", "river")
    assert times("so, SO and so-so; also", "so") == 4
    assert has_word("it is *here*", "here")


@given(st.text(max_size=300))
def test_any_text_can_be_counted(text: str) -> None:
    assert sentences(text) >= (1 if words(without_title(text)) else 0)
    assert paragraphs(text) <= max(len(text), 1)
    assert 0 <= bullets(text) <= len(text.splitlines())
    assert len(numbers(text)) <= len(text.splitlines())


@given(st.lists(st.sampled_from(["One is here", "two go", "A third one waits"]), max_size=9),
       st.sampled_from([". ", "! ", "?\n", ".\n\n"]))  # fmt: skip
def test_sentences_that_are_put_together_are_as_many(parts: list[str], mark: str) -> None:
    text = "".join(f"{part}{mark}" for part in parts)
    assert sentences(text) == len(parts)
    assert len(words(text)) == sum(len(part.split()) for part in parts)
