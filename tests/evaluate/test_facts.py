"""The questions of facts: whole, and an answer to them told right from wrong."""

from __future__ import annotations

import pytest

from guildgpt.data.split import normalised
from guildgpt.data.starter import Fact, starter_facts
from guildgpt.evaluate.facts import is_right, plain


def test_the_set_is_whole() -> None:
    facts = starter_facts()
    assert len(facts) == 100
    assert len({normalised(one.question) for one in facts}) == 100
    assert all(one.question.endswith("?") and one.answers and one.topic for one in facts)


@pytest.mark.parametrize("fact", starter_facts(), ids=lambda fact: fact.question)
def test_each_accepted_form_is_right_and_the_question_gives_none_away(fact: Fact) -> None:
    for form in fact.answers:
        assert is_right(f"It is {form}.", fact)
        assert is_right(form.upper(), fact)
    assert not is_right(fact.question, fact)
    assert not is_right("", fact)
    assert len(set(map(plain, fact.answers))) == len(fact.answers)


def fact(*answers: str) -> Fact:
    return Fact("?", list(answers), "tests")


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("The answer is **Wellington**, I think.", "Wellington", True),
        ("1,000 grams", "1000", True),
        ("It has 1\u202f000 of them", "1000", True),
        ("H₂O", "H2O", True),
        ("100°C", "100", True),
        ("Brontë", "Bronte", True),
        ("Auckland", "Au", False),
        ("1945", "45", False),
        ("twenty six", "twenty-six", True),
        ("ironic", "iron", False),
    ],
)
def test_whole_words_whatever_their_dress(answer: str, accepted: str, right: bool) -> None:
    assert is_right(answer, fact(accepted)) is right
