"""Terms: ranges, meanings, and what moves them; and together: weights, errors with their row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from guildgpt.chat.repetition import loops
from guildgpt.constraints.reading import read
from guildgpt.errors import DataError, RecipeError
from guildgpt.rewards import sandbox, terms
from guildgpt.rewards.config import RewardTerms
from guildgpt.rewards.formats import rule
from guildgpt.rewards.sandbox import SandboxError
from guildgpt.rewards.terms import Rewards, Written
from guildgpt.rewards.wanted import Wanted
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


# --- form ---


@pytest.mark.parametrize(
    ("name", "kept", "broken"),
    [
        ("json", ['{"a": [1]}', " 3 ", "Here:\n```json\n[]\n```"], ["", "{a: 1}", "[" * 9999]),
        ("python", ["```python\nx = 1\n```", "a\n```py\nx\n```\nb"],
         ["x = 1", "```python\nx = 1", "```python\nx = \n```", "```sh\nx\n```"]),
        ("list", ["- a\n- b", "1. a\n\n2) b", "* a\n• b"], ["- a", "a\nb", "- a\nb", ""]),
        ("sentences<=2", ["One.", "One. Two!", "No end", "3.14 is pi. Yes", "一。二。",
          "Take a pen, e.g. this one. Write."],
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
    assert terms.form("x", [], True) is None


@given(st.text(), st.booleans())
def test_any_text_can_be_judged(text: str, ended: bool) -> None:
    rules = ["json", "python", "list", "ends", "sentences<=3", "words<=9", "lines<=2"]
    assert 0 <= terms.form(text, rules, ended) <= 1


# --- constraints ---


def test_constraints_are_worth_all_or_a_part_of_how_near_they_come() -> None:
    asked = read([{"kind": "lower_case"}, {"kind": "bullets", "count": 2}], "here")
    assert terms.constraints("- a\n- b", asked) == 1
    assert terms.constraints("- A\n- b", asked) == 0.5 * (1 / 2 + 1) / 2  # one capital letter
    assert terms.constraints("a", asked, partial=0.8) == 0.8 / 2
    assert terms.constraints("1", asked) == terms.constraints("", asked) == 0
    assert terms.constraints("a", ()) is None


def test_constraints_of_a_row_are_rewarded() -> None:
    config = RewardTerms.model_validate({"constraints": {"weight": 2.0}})
    assert config.reads == {"constraints"}
    rewards = Rewards(config)
    row = {"constraints": [{"kind": "no_commas"}, {"kind": "lower_case"}]}
    wanted = [Wanted.from_row(row, "here"), Wanted()]
    found = rewards([Written("so it is", (1,)), Written("so", (1,))], wanted)
    assert found.values == {"constraints": [1.0, None]}
    assert found.totals == [2.0, 0.0]
    assert wanted[0]
    assert not wanted[1]


def test_constraints_that_break_each_other_or_the_rows_answer_are_refused() -> None:
    row = {"constraints": [{"kind": "lower_case"}, {"kind": "upper_case"}]}
    with pytest.raises(DataError, match="here: no answer was found that keeps"):
        Wanted.from_row(row, "here")
    with pytest.raises(DataError, match="here: the row's own answer breaks"):
        Wanted.from_row({"constraints": [{"kind": "lower_case"}]}, "here", "No")


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


# --- together ---

SHORT = Written("Yes.", (1, 2))
LOOP = Written("no no no", (7,) * 60, ended=False)
CODE = Written("```python\ndef f(): return 1\n```", tuple(range(12)))
NOTHING = Wanted(where="rows.jsonl:1")


def rewards(**sections: Any) -> Rewards:
    return Rewards(RewardTerms.model_validate(sections))


def test_without_terms_nothing_is_rewarded() -> None:
    none = rewards()
    assert none.names == ()
    assert none([SHORT, LOOP], [NOTHING] * 2).totals == [0, 0]
    assert none([], []).totals == []


def test_a_total_is_the_weighted_sum() -> None:
    given = rewards(
        repetition={"weight": 2.0},
        length={"weight": 0.5, "shortest": 4, "longest": 50, "slack": 4},
        format={"weight": 3.0, "rules": ["ends", "words<=2"]},
    )
    assert given.names == ("repetition", "length", "format")
    result = given([SHORT, LOOP], [NOTHING] * 2)
    assert result.values == {"repetition": [0, -1], "length": [-0.5, -1], "format": [1, 0]}
    assert result.totals == [-0.25 + 3, -2 - 0.5]


def test_length_leaves_prompts_with_constraints_alone() -> None:
    asked = Wanted.from_row({"constraints": [{"kind": "no_commas"}]}, "here")
    found = rewards(length={"shortest": 4, "slack": 4})([SHORT] * 2, [NOTHING, asked])
    assert found.values["length"] == [-0.5, None]
    assert found.totals == [-0.5, 0]


def test_weight_zero_is_off() -> None:
    assert rewards(repetition={"weight": 0}, length={}).names == ("length",)


def test_a_row_s_rules_take_the_place_of_the_recipe_s() -> None:
    rows = [NOTHING, Wanted(format=("json",))]
    assert rewards(format={"rules": ["ends"]})([SHORT] * 2, rows).values["format"] == [1, 0]
    assert rewards(format={})([SHORT] * 2, rows).values["format"] == [None, 0]


def test_words_come_from_the_built_in_lists_and_a_file(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# ours\nweasel\n\nvile toad\n", encoding="utf-8")
    cruel = Written(built_in_words()["cruelty"][0], (1,))
    own = Written("a vile toad", (1,))
    given = rewards(words={"file": str(file)})
    assert given([cruel, own, SHORT], [NOTHING] * 3).totals == [-1, -1, 0]
    given = rewards(words={"lists": [], "file": str(file)})
    assert given([cruel, own], [NOTHING] * 2).totals == [0, -1]
    file.write_text("...\n")
    for path in (file, tmp_path / "none"):
        with pytest.raises(RecipeError, match="cannot be used"):
            rewards(words={"file": str(path)})


@pytest.mark.usefixtures("confined")
@pytest.mark.usefixtures("nothing_left")
def test_verify_applies_to_rows_with_tests() -> None:
    rows = [
        NOTHING,
        Wanted.from_row({"tests": ["assert f() == 1", "assert f() == 2"]}, "rows.jsonl:2"),
        Wanted.from_row({"tests": "assert f() == 1"}, "rows.jsonl:3"),
        Wanted(tests="assert f() == 1"),
    ]
    result = rewards(verify={"weight": 2, "partial": 0.8})([CODE, CODE, CODE, SHORT], rows)
    assert result.values["verify"] == [None, pytest.approx(0.4), 1, 0]
    assert result.totals == [0, pytest.approx(0.8), 2, 0]


def test_trouble_in_the_sandbox_is_an_error_with_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    given = rewards(verify={})
    monkeypatch.setattr(sandbox, "_START", "raise SystemExit('ill')")
    with pytest.raises(SandboxError, match=r"rows\.jsonl:9: .*ill"):
        given([SHORT, CODE], [NOTHING, Wanted(tests="assert f()", where="rows.jsonl:9")])


def test_verify_is_refused_where_nothing_can_be_confined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "level", lambda: "none")
    with pytest.raises(SandboxError, match="cannot confine"):
        rewards(verify={})
    assert rewards(verify={"weight": 0}).names == ()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tests": 3}, "`tests` is neither"),
        ({"tests": ["assert f()", 3]}, "`tests` is neither"),
        ({"tests": "f()"}, "hold no assert"),
        ({"tests": "assert ("}, "are no Python"),
        ({"format": {"json": True}}, "`format` is neither"),
        ({"format": "yaml"}, "no rule 'yaml'"),
    ],
)
def test_rows_that_ask_for_what_cannot_be_are_named(row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=rf"rows\.jsonl:5: .*{said}"):
        Wanted.from_row(row, "rows.jsonl:5")


def test_rows_that_ask_for_nothing() -> None:
    assert Wanted.from_row({"prompt": "Hello", "tests": None}, "a:1") == Wanted(where="a:1")
    assert Wanted.from_row({"tests": [], "format": "json"}, "a:1") == Wanted("", ("json",), "a:1")


@pytest.mark.parametrize(
    "section",
    [
        {"repetition": {"wieght": 1}},
        {"repetition": {"weight": -1}},
        {"repetition": {"weight": float("nan")}},
        {"length": {"shortest": 9, "longest": 3}},
        {"format": {"rules": ["yaml"]}},
        {"words": {"lists": ["despair"]}},
        {"verify": {"partial": 1.0}},
        {"verify": {"workers": 0}},
        {"speed": {}},
    ],
)
def test_what_a_recipe_may_not_say(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RewardTerms.model_validate(section)
