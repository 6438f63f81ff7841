"""The terms together: weights, what does not apply, and errors with their row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from guildgpt.errors import DataError, RecipeError
from guildgpt.rewards import combined, sandbox
from guildgpt.rewards.combined import Rewards, Written
from guildgpt.rewards.config import RewardTerms
from guildgpt.rewards.sandbox import SandboxError
from guildgpt.rewards.wanted import Wanted
from guildgpt.text.words import built_in_words

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
    monkeypatch.setattr(combined, "level", lambda: "none")
    with pytest.raises(SandboxError, match="cannot confine"):
        rewards(verify={})
    assert rewards(verify={"weight": 0}).names == ()


def test_answers_and_rows_must_match() -> None:
    with pytest.raises(ValueError, match="1 answers and 2 rows"):
        rewards()([SHORT], [NOTHING] * 2)


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
