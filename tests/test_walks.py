"""A conversation goes the way that CONTRIBUTING.md says. A vote: `tests/bot/test_walk.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from old.samples import finished, here, unpacked
from typer.testing import CliRunner
from walks import PACKAGE, astray, footsteps, walk

from guildgpt.cli import app

__all__ = ["finished", "here", "unpacked"]


@pytest.mark.parametrize("heading", ["Follow one conversation", "Follow one vote"])
def test_every_file_on_the_way_is_there(heading: str) -> None:
    steps = walk(heading)
    assert len(steps) > 20
    for file, name in steps:
        assert f"def {name}(" in (PACKAGE / file).read_text(encoding="utf-8"), f"{file}:{name}"


def test_a_conversation_goes_this_way(finished: Path, here: Path) -> None:
    recipe = here / "one.toml"
    recipe.write_text(
        f'name = "one"\nmodel.base = "{finished / "sft" / "model"}"\nmodel.context = 512\n'
        'data.sources = [{ source = "jsonl:rows.jsonl", licence = "own", written_by = "people" }]\n'
        'sft = { steps = 1, dtype = "float32" }\nevaluate = { prompts = 0, max_tokens = 4 }\n'
    )
    with footsteps() as passed:
        result = CliRunner().invoke(app, ["train", str(recipe)])
    assert result.exit_code == 0, result.output
    assert astray(walk("Follow one conversation"), passed) is None
