"""Rows with rules of their own: from a JSON line to the reward."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import write_run

from guildgpt.errors import DataError
from guildgpt.pipeline.prepare import gather
from guildgpt.recipe import load_recipe
from guildgpt.rewards import terms
from guildgpt.rewards.confine import level
from guildgpt.rewards.verify import verify_all

from .road import Road, alone, train

GOOD = "```python\ndef add(a, b):\n    return a + b\n```"
TASKS = [
    {"prompt": f"Write `add` for house {number}.", "tests": ["assert add(1, 2) == 3"]}
    for number in range(8)
] + [{"prompt": f"Name the bell of house {number}.", "format": "words<=3"} for number in range(8)]
TERMS = """group = 2
batch_size = 64
[grpo.terms]
verify = {weight = 2.0}
format = {weight = 1.0}
"""


def recipe_for(road: Road, folder: Path, rows: list[dict[str, Any]], more: str = TERMS) -> Path:
    """GRPO, from the road's fine-tuned model, on tasks alone."""
    text = alone(road, folder, "grpo", more).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "pairs.jsonl" not in line]
    if "batch_size = 64" in more:
        lines.remove("batch_size = 4")
    path = folder / "tasks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = folder / "tasks.toml"
    text = "\n".join(lines).replace(str(folder / "rows.jsonl"), str(path))
    recipe.write_text(text.replace("held_out = 0.2", "held_out = 0", 1), encoding="utf-8")
    return recipe


def test_grpo_is_rewarded_by_the_rows_own_rules(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the tasks' answers are taken to be good, for so small a model writes no Python."""
    if level() != "full" and os.environ.get("CI") != "true":
        pytest.skip("this kernel cannot confine a process fully")
    asked: list[str] = []

    def verify(answers: Sequence[str], tests: Sequence[str], *more: Any, **named: Any) -> Any:
        asked.extend(named["where"])
        assert set(tests) == {"assert add(1, 2) == 3"}
        written = [GOOD if index % 2 else text for index, text in enumerate(answers)]
        return verify_all(written, tests, *more, **named)

    monkeypatch.setattr(terms, "verify_all", verify)
    report, printed = train(recipe_for(road, tmp_path, TASKS), tmp_path / "run")
    assert "16 prompts to answer" in printed
    assert set(asked) <= {f"tasks.jsonl:{number}" for number in range(1, 9)}
    assert len(set(asked)) > 1
    metrics = report.stages[0].metrics
    assert {one["reward_verify"] for one in metrics if "reward_verify" in one} == {0.5}
    assert all(0 <= one["reward_format"] <= 1 for one in metrics if "reward_format" in one)
    assert "reward_model" not in metrics[0]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tests": "add(1, 2)"}, "hold no assert"),
        ({"tests": {"assert": 1}}, "`tests` is neither a text nor a list"),
        ({"format": "yaml"}, "no rule 'yaml'"),
    ],
)
def test_rules_that_cannot_be_read_are_named_before_anything_is_trained(
    road: Road, tmp_path: Path, row: dict[str, Any], said: str
) -> None:
    recipe = recipe_for(road, tmp_path, [TASKS[0], {"prompt": "Add them.", **row}])
    with pytest.raises(DataError, match=rf"tasks\.jsonl:2: .*{said}"):
        train(recipe, tmp_path / "run")


def test_rules_that_nothing_goes_by_are_a_warning(road: Road, tmp_path: Path) -> None:
    """And are not read: a column of that name may be something else."""
    length = "group = 2\nsteps = 1\n[grpo.terms]\nlength = {weight = 1.0}\n"
    rows = [*TASKS, {"prompt": "Which is older?", "format": {"of": "a book"}}]
    recipe = recipe_for(road, tmp_path, rows, length)
    recipe.write_text(recipe.read_text().replace("steps = 2\n", "", 1))
    report, printed = train(recipe, tmp_path / "run")
    assert "8 rows with `tests`, which counts for nothing without the term `verify`" in printed
    assert "9 rows with `format`, which counts for nothing without the term `format`" in printed
    assert "reward_verify" not in report.stages[0].metrics[0]


def test_tasks_that_no_stage_asks_are_a_warning(tmp_path: Path) -> None:
    recipe = load_recipe(write_run(tmp_path))
    with (tmp_path / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in TASKS)
    data = gather(recipe, ["sft"], recipe.model)
    count = len(data.dataset.train_tasks)
    assert 0 < count <= len(TASKS)
    assert data.warnings == [
        f"{count} rows without an answer, which only `grpo` and `ppo` learn from"
    ]
