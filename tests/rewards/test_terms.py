"""Terms: ranges, meanings, and what moves them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.chat.repetition import loops
from guildgpt.rewards import terms
from guildgpt.rewards.formats import rule
from guildgpt.text.words import WordMatcher, built_in_words

tokens = st.lists(st.integers(0, 9), max_size=200)


# --- repetition ---


@given(tokens, st.integers(1, 5))
def test_repetition_is_minus_a_share_and_minus_one_for_a_loop(ids: list[int], n: int) -> None:
    value = terms.repetition(ids, n)
    assert -1 <= value <= 0
    if loops(ids):
        assert value == -1
    else:
        grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
        repeated = sum(gram in grams[:i] for i, gram in enumerate(grams))
        assert value == pytest.approx(-repeated / max(1, len(grams)))


@given(st.lists(st.integers(), unique=True, max_size=100))
def test_what_never_repeats_loses_nothing(ids: list[int]) -> None:
    assert terms.repetition(ids) == 0


def test_a_loop_loses_all() -> None:
    assert terms.repetition([1, 2, 3] * 20) == -1
    assert terms.repetition([]) == terms.repetition([1, 1, 1]) == 0
    assert terms.repetition([1, 1, 1, 1, 1]) == -0.5  # two 4-grams, one of them for the second time


# --- length ---


@given(st.integers(0, 999), st.integers(0, 300), st.integers(0, 300), st.integers(1, 99))
def test_length_is_flat_inside_and_falls_outside(
    count: int, shortest: int, width: int, slack: int
) -> None:
    value = terms.length(count, shortest, shortest + width, slack)
    assert -1 <= value <= 0
    assert (value == 0) == (shortest <= count <= shortest + width)
    if count > shortest + width:
        assert terms.length(count + 1, shortest, shortest + width, slack) <= value
        assert value == -min(1, (count - shortest - width) / slack)


def test_length_by_hand() -> None:
    assert [terms.length(n, 10, 20, 5) for n in (4, 5, 8, 10, 20, 21, 25, 99)] == [
        *(-1, -1, -0.4, 0, 0, -0.2, -1, -1)
    ]
    for wrong in ((5, 10, 9, 1), (5, 1, 9, 0), (-1, 1, 9, 1)):
        with pytest.raises(ValueError, match="no band"):
            terms.length(*wrong)


# --- form ---


@pytest.mark.parametrize(
    ("name", "kept", "broken"),
    [
        ("json", ['{"a": [1]}', " 3 ", "Here:\n```json\n[]\n```"], ["", "{a: 1}", "[" * 9999]),
        ("python", ["```python\nx = 1\n```", "a\n```py\nx\n```\nb"],
         ["x = 1", "```python\nx = 1", "```python\nx = \n```", "```sh\nx\n```"]),
        ("list", ["- a\n- b", "1. a\n\n2) b", "* a\n• b"], ["- a", "a\nb", "- a\nb", ""]),
        ("sentences<=2", ["One.", "One. Two!", "No end", "3.14 is pi. Yes", "一。二。"],
         ["One. Two? Three", "", "...", "a\n\nb\n\nc"]),
        ("words<=2", ["a", "a b"], ["", "a b c"]),
        ("lines<=2", ["a", "a\n\nb"], ["", "a\nb\nc"]),
    ],
)  # fmt: skip
def test_rules(name: str, kept: list[str], broken: list[str]) -> None:
    assert [text for text in kept if not rule(name)(text, True)] == []
    assert [text for text in broken if rule(name)(text, True)] == []


@pytest.mark.parametrize("name", ["", "jsn", "sentences", "sentences<=0", "words<3", "words<=-1"])
def test_unknown_rules_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="known are ends, json"):
        rule(name)


def test_form_is_a_share() -> None:
    assert terms.form("[1]", ["json"], True) == 1
    assert terms.form("[1]", ["json", "ends"], False) == 0.5
    assert terms.form("no.", ["json", "list", "ends", "words<=3"], False) == 0.25
    with pytest.raises(ValueError, match="no rules"):
        terms.form("x", [], True)


@given(st.text(), st.booleans())
def test_any_text_can_be_judged(text: str, ended: bool) -> None:
    rules = ["json", "python", "list", "ends", "sentences<=3", "words<=9", "lines<=2"]
    assert 0 <= terms.form(text, rules, ended) <= 1


# --- words ---


def test_words_are_found_in_disguise_and_only_whole() -> None:
    unwanted = WordMatcher(["weasel", "vile toad"])
    for text in ("You weasel!", "w3asel", "VILE  toad", "ｗｅａｓｅｌ"):
        assert terms.words(text, unwanted) == -1
    for text in ("weaselly", "a toad", ""):
        assert terms.words(text, unwanted) == 0


def test_the_built_in_lists_are_found_by_themselves() -> None:
    for words in built_in_words().values():
        assert all(terms.words(f"so {word}.", WordMatcher(words)) == -1 for word in words)
