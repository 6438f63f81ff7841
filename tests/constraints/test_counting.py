"""What is a word, a sentence, an item, a paragraph: by hand, and for any text."""

from __future__ import annotations

from time import process_time

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
        ("end.Start", 2),
        ("This,is,an,endless,answer", 5),
        ("1,000 3.14 12:30 24/7", 4),
        ("and/or", 2),
        ("e.g. at 5 p.m. in the U.S.", 7),
        ("यह हिन्दी है", 3),
        ("cafe\u0301 noir", 2),
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
        ("The answer is no. It is not.", 2),
        ("The answer is no. It was no. It will be no. That is all.", 4),
        ("No. 5 is alive.", 1),
        ("Take vitamin C. It helps.", 2),
        ("So do I. Then we left.", 2),
        ("It is etc. It was etc. It will be etc. That is all.", 4),
        ("it is etc. it was etc. that is all.", 3),
        ("Apples, pears, etc. are fruit.", 1),
        ("It is e.g. It was e.g. That is all.", 3),
        ("e.g. this one.", 1),
        ("I met him at 5 p.m. He left.", 2),
        ("We meet at 5 p.m. on Monday.", 1),
        ("Mr. Smith went.", 1),
        ("J. R. R. Tolkien wrote it.", 1),
        ("P.S. It is late.", 1),
        ("Am 3. Oktober feiern wir. Das ist schön.", 2),
        ("Im 19. Jahrhundert war es z. B. Mode.", 1),
        ("etc. " * 10, 2),
        ("One.Two.Three.", 3),
        ("He said \"No.\"Then he left.", 2),
        ("See example.com, or a Ph.D. thesis.", 1),
        ("यह है। वह है।", 2),
        ("[Old. Long. Wide.]\nThat is it.", 4),
        ("**Canals are old. They are long.**\nThat is it.", 3),
        ("[Why do cats purr?]\nThey like it.", 2),
        ("# 1. Introduction\nOne. Two.", 2),
        ('{"a": "One is here.", "b": "Two goes. There.", "c": [3]}', 4),
        ('```json\n["One is here.", "Two goes there."]\n```', 2),
        ("{}", 0),
    ],
)  # fmt: skip
def test_sentences(text: str, count: int) -> None:
    assert sentences(text) == count


def test_items_paragraphs_and_titles() -> None:
    text = "Intro\n- one\n* two\n• three\n-four\n1. five\n2) six\n3 seven"
    assert len(bullets(text)) == 3
    assert bullets("- a\n- .\n* *\n • b") == ["-", "•"]
    assert numbers("1. a\n2. .\n3. !") == [1]
    assert numbers(text) == [1, 2]
    assert paragraphs("a\n\nb\n \n\nc\n\n---") == 3
    assert paragraphs("[Title]\n\na\n\nb") == 2
    assert paragraphs("# Why?\n\na\n\nb") == 2
    assert paragraphs("**Bold first line**\n\nb") == 2
    assert paragraphs("[Old. Long.]\n\nb") == 2
    assert title("[Title]\nand more") == "[Title]"
    assert title("**Title**\n\nand more") == "**Title**"
    assert title("[Title]") == title("Title\nand more") == title("[a] b\nc") == ""
    assert title("[A] is older than [B]\nc") == title("[_]\nx") == title("[Title]\n.") == ""
    assert title("[Old. Long.]\nb") == ""
    assert without_title("[Title]\nand more").strip() == "and more"


def test_whole_words_in_whatever_case() -> None:
    assert has_word("The River, at last", "river")
    assert not has_word("rivers and driver", "river")
    assert times("so, SO and so-so; also", "so") == 4
    assert has_word("it is *here*, _there_", "here")
    assert has_word("it is *here*, _there_", "there")
    assert has_word("10€", "€")
    assert has_word("Wow!", "!")
    assert has_word("cafe\u0301", "café")
    assert not has_word("cafe\u0301", "cafe")
    assert not has_word("हिन्दी", "हिन")


@pytest.mark.parametrize(
    "text",
    ["etc. " * 8000, "Dr. " * 8000, "." * 40_000 + "x", '."' * 20_000, "etc." + " " * 40_000 + "b",
     "a-" * 20_000, "[" * 40_000, "\n \n" * 10_000],
    ids=lambda text: repr(text[:6]),
)  # fmt: skip
def test_long_texts_are_counted_at_once(text: str) -> None:
    """Each would take many seconds if the time grew with the square of the length."""
    begun = process_time()
    sentences(text)
    words(text)
    paragraphs(text)
    assert process_time() - begun < 2


@given(st.text(max_size=300))
def test_any_text_can_be_counted(text: str) -> None:
    assert sentences(text) >= (1 if words(without_title(text)) else 0)
    assert paragraphs(text) <= max(len(text), 1)
    assert 0 <= len(bullets(text)) <= len(text.splitlines())
    assert len(numbers(text)) <= len(text.splitlines())


@given(st.lists(st.sampled_from(["One is here", "two go", "A third one waits"]), max_size=9),
       st.sampled_from([". ", "! ", "?\n", ".\n\n"]))  # fmt: skip
def test_sentences_that_are_put_together_are_as_many(parts: list[str], mark: str) -> None:
    text = "".join(f"{part}{mark}" for part in parts)
    assert sentences(text) == len(parts)
    assert len(words(text)) == sum(len(part.split()) for part in parts)
