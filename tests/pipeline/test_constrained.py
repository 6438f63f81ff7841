"""A policy that is asked prompts with drawn constraints, and a report that says what it keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from guildgpt.errors import RecipeError
from guildgpt.recipe import load_recipe

from .road import Road, alone, train

TERMS = """group = 2
max_new_tokens = 8
max_prompt_tokens = 400
constrained_share = 0.5
terms.constraints = {weight = 1.0}
"""


def test_grpo_is_rewarded_for_constraints_and_the_report_has_them(
    road: Road, tmp_path: Path
) -> None:
    recipe = alone(road, tmp_path, "grpo", TERMS)
    report, printed = train(recipe, tmp_path / "run", overrides=["evaluate.constrained=3"])
    assert "4 prompts to answer" in printed  # two steps of two prompts
    metrics = report.stages[0].metrics
    kept = [one["reward_constraints"] for one in metrics if "reward_constraints" in one]
    assert kept
    assert all(value is not None and 0 <= value <= 1 for value in kept)
    assert [one.name for one in report.kept] == ["known kinds", "held-out kinds"]
    for one in report.kept:
        assert one.after
        assert one.after.prompts == 3
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "constraints of held-out kinds kept, all of a prompt" in page


def test_a_share_without_its_term_is_refused(road: Road, tmp_path: Path) -> None:
    more = TERMS.replace("terms.constraints = {weight = 1.0}", "")
    with pytest.raises(RecipeError, match=r"constrained_share needs terms\.constraints"):
        load_recipe(alone(road, tmp_path, "grpo", more))
