"""What cannot be is told before anything is loaded."""

from __future__ import annotations

import os
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from guildgpt.errors import RecipeError
from guildgpt.pipeline.checks import check_names, check_room, wears_adapters
from guildgpt.pipeline.plan import dry_run
from guildgpt.pipeline.run import run
from guildgpt.recipe import Recipe, load_recipe

ODD = os.fsdecode(b"gr\xfc\xdfe")  # Latin-1, as old disks have it


def mine(**sections: Any) -> Recipe:
    return Recipe.model_validate({"name": "mine", **sections})


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"base": f"./{ODD}"}},
        {"model": {"base": "x", "adapter": "merge", "adapter_base": ODD}},
        {"data": {"sources": [f"jsonl:{ODD}.jsonl"]}},
        {"pretrain": {"documents": [ODD]}},
    ],
)
def test_a_name_that_is_no_text_is_refused(tmp_path: Path, sections: dict[str, Any]) -> None:
    """It could not be written into a report, and the run ended in a UnicodeEncodeError."""
    with pytest.raises(RecipeError, match="not written in UTF-8") as raised:
        check_names(mine(**sections), tmp_path)
    assert "gr\\udcfc\\udcdfe" in str(raised.value.where)
    str(raised.value).encode()  # itself it can be printed
    with pytest.raises(RecipeError, match="not written in UTF-8"):
        dry_run(mine(**sections), Console(file=StringIO()))


def test_and_so_is_that_of_the_run_or_of_a_document(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not written in UTF-8"):
        run(mine(), "", tmp_path / ODD, console=Console(file=StringIO()))
    try:
        (tmp_path / f"{ODD}.txt").write_text("a text")
    except OSError:
        pytest.skip("this disk takes only names in UTF-8")
    with pytest.raises(RecipeError, match="not written in UTF-8"):
        check_names(mine(pretrain={"documents": [str(tmp_path)]}), tmp_path)


def test_odd_names_that_are_text_are_names(tmp_path: Path) -> None:
    for name in ("grüße 🎉", "[red]x [b", "a'b\"c", "a{b}%s$HOME`ls`", "-rf", "<b>"):
        check_names(mine(data={"sources": [f"jsonl:{name}.jsonl"]}), tmp_path / name)


@pytest.mark.parametrize(
    "override",
    [
        "seed=4294967295",
        "sft.lora.rank=100000",
        "sft.lora.alpha=1e300",
        "sft.batch_size=100000000000",
        "sft.betas=[1.0, 0.9]",
        "dpo.betas=[0.9, -1]",
        "evaluate.judged_answers=1000000",
        "evaluate.concurrency=100000",
    ],
)
def test_numbers_beyond_all_use_are_refused(tmp_path: Path, override: str) -> None:
    """They ended in an error of torch's, in the system's killing the run, or never."""
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"')
    with pytest.raises(RecipeError) as raised:
        load_recipe(path, [override])
    assert override.partition("=")[0] in str(raised.value)


def test_answers_with_constraints_need_room_too() -> None:
    recipe = mine(model={"context": 128}, evaluate={"constrained": 1, "max_tokens": 128})
    with pytest.raises(RecipeError, match="leave no room") as raised:
        check_room("sft", recipe)
    assert raised.value.where == "evaluate.max_tokens"
    check_room("sft", mine(model={"context": 128}, evaluate={"max_tokens": 128}))


def test_who_wears_adapters() -> None:
    assert wears_adapters(["sft"], mine())
    assert not wears_adapters(["pretrain", "sft"], mine(sft={"adapter": "none"}))
    assert wears_adapters(["sft", "dpo"], mine(sft={"adapter": "none"}))
