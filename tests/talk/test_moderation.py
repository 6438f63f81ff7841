"""Moderation: whole words in any disguise, and nothing that only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.talk.moderation import (
    CARE,
    REFUSAL,
    Decision,
    Moderator,
    Moderators,
    WordList,
    moderators,
)
from guildgpt.text.words import WordMatcher, built_in_words

LIST = WordMatcher(["weasel", "vile toad", "Straße"])


@pytest.mark.parametrize(
    "text",
    [
        "weasel",
        "You WEASEL!",
        'a (weasel), a "weasel", *weasel* and _weasel_',
        "weásél",
        "ｗｅａｓｅｌ",
        "we\u200bas\u00adel",
        "\u202eweasel",
        "we4sel",
        "w3@$el!",
        "we@5e1",
        "you vile   toad",
        "vile\ntoad",
        "vile-toad",
        "v1le t0ad",
        "vi'le toad",
        "STRASSE",
        "w\u0336easel",
    ],
)
def test_a_word_is_found_in_disguise(text: str) -> None:
    assert LIST.finds(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "weasels",
        "a weaseling",
        "toad vile",
        "vile",
        "vile old toad",
        "weaseI",
        "wease1s",
        "we asel",
        "!!!",
        "4532",
        "@everyone",
        "e-mail: we@asel.org",
    ],
)
def test_what_only_looks_like_it_is_not(text: str) -> None:
    assert not LIST.finds(text)


def test_numbers_are_no_words_and_l_is_i_only_in_disguise() -> None:
    assert not WordMatcher(["ass", "soil"]).finds("455 and 5011, and a soli")
    assert WordMatcher(["ass"]).finds("a55")


@given(st.text(), st.text(), st.sampled_from(["weasel", "WEASEL", "wéasel", "weas3l"]))
def test_no_text_hides_a_word_that_stands_alone(before: str, after: str, word: str) -> None:
    assert LIST.finds(f"{before} . {word} . {after}")


def test_a_word_without_letters_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no letters"):
        WordList(["good", "!!"], "r")


def test_each_side_is_looked_at_if_it_is_asked_for() -> None:
    one = WordList(["weasel"], "r", say="s", after=False)
    assert one.before("weasel") == Decision("r", "s")
    assert one.after("weasel") is None
    assert one.before("all well") is None
    both = WordList(["weasel"], "words")
    assert both.before("weasel") == both.after("weasel") == Decision("words", REFUSAL)


def test_the_first_of_several_speaks() -> None:
    first, second = WordList(["a"], "1"), WordList(["a", "b"], "2")
    both: Moderator = Moderators([first, second])
    assert (both.before("a") or Decision("", "")).rule == "1"
    assert (both.after("b") or Decision("", "")).rule == "2"
    assert both.before("c") is None
    assert Moderators([]).after("a") is None


def test_the_built_in_lists_are_short_and_spelled_to_be_found() -> None:
    lists = built_in_words()
    assert list(lists) == ["slurs", "cruelty", "despair"]
    for words in lists.values():
        assert words == sorted(set(words))
        assert len(words) <= 20
        assert all(word == word.lower() for word in words)
        assert all(WordMatcher([word]).finds(f"… {word}!") for word in words)


@pytest.mark.parametrize(
    "text", ["I want to die", "i’m suicidal", "I don't want to live any more", "gonna k1ll mys3lf"]
)
def test_a_person_in_danger_gets_care_and_no_refusal(text: str) -> None:
    standard = moderators()
    assert standard.before(text) == Decision("despair", CARE)
    assert standard.after(text) is None  # the model may speak of it
    assert "findahelpline.com" in CARE


@pytest.mark.parametrize(
    "text",
    [
        "How do I kill a process?", "The plant wants to die back in winter.", "Nigeria and Niger",
        "What does the word suicide come from?", "Snigger at the spick and span", "to die for",
        "My process dies by itself; should I kill it myself?",
    ],
)  # fmt: skip
def test_ordinary_questions_pass(text: str) -> None:
    assert moderators().before(text) is None
    assert moderators().after(text) is None


def test_the_operator_adds_words_and_can_switch_the_built_in_ones_off() -> None:
    own = moderators(False, ["weasel"])
    assert own.before("weasel") == Decision("operator", REFUSAL)
    assert own.before("kys") is None
    both = moderators(blocked=["weasel"])
    assert (both.after("kys") or Decision("", "")).rule == "cruelty"
    assert (both.after("weasel") or Decision("", "")).rule == "operator"
    assert moderators(False).before("kys") is None
