"""What a report says of its run: the recipe as it was run, figures that are there twice."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

from guildgpt.pipeline.report import publish, recipe_as_run
from guildgpt.recipe import Recipe, load_recipe
from guildgpt.report.report import HeldOut, read_report
from tests.report.conftest import EMPTY

TEXT = 'name = "mine"  # a note\n\n[sft]\nsteps = 3\n'


def test_the_recipe_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    assert recipe_as_run(load_recipe(path), TEXT) == TEXT
    assert recipe_as_run(load_recipe(path, ["sft.steps=3"]), TEXT) == TEXT
    assert recipe_as_run(load_recipe(path), f"\ufeff{TEXT}") == f"\ufeff{TEXT}"


def test_what_the_command_line_changed_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    recipe = load_recipe(path, ["sft.steps=5", "model.base=my/base", "sft.lora.rank=4"])
    said = recipe_as_run(recipe, TEXT)
    assert said == (
        f"{TEXT}\n# Set on the command line:\n"
        '# model.base = "my/base"\n# sft.lora.rank = 4\n# sft.steps = 5\n'
    )
    assert Recipe.model_validate(tomllib.loads(said)).sft.steps == 3  # comments, no more


def test_publishing_twice_is_publishing_once(tmp_path: Path) -> None:
    """As after a kill in the middle of it."""
    model = tmp_path / "sft" / "model"
    model.mkdir(parents=True)
    (model / "README.md").write_text("# mine\n\n## Figures\n\n- 100 tokens seen\n\n## Sources\n")
    report = replace(EMPTY, held_out=(HeldOut("rows", 3, 90, 2.0, 1.5, None, None),))
    publish(report, "sft", tmp_path)
    card = (model / "README.md").read_text()
    assert card == (
        "# mine\n\n## Figures\n\n- Held-out bits per byte fell from 2.000 to 1.500 on rows.\n"
        "- 100 tokens seen\n\n## Sources\n"
    )
    publish(report, "sft", tmp_path)
    assert (model / "README.md").read_text() == card
    assert read_report(model) == report
    assert (tmp_path / "report.html").read_text() == (model / "report.html").read_text()
