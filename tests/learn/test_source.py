"""A recipe that reads the store itself, without `guildgpt learn`."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from guildgpt.data import SourceSpec, load
from guildgpt.errors import DataError, GuildError, RecipeError
from guildgpt.model.lineage import read_lineage
from guildgpt.pipeline.feedback import with_feedback
from guildgpt.pipeline.plan import dry_run
from guildgpt.pipeline.run import run
from guildgpt.recipe import load_recipe

from .conftest import Guild


def naming_the_store(guild: Guild, path: str | None = None) -> Path:
    text = guild.recipe.read_text().replace(
        'sources = ["feedback"]', f'sources = ["feedback:{path or guild.folder / "feedback.db"}"]'
    )
    guild.recipe.write_text(text.replace('policy = "open"', 'policy = "strict"'))
    return guild.recipe


def quiet() -> Console:
    return Console(file=StringIO())


def test_a_run_takes_its_rows_once_with_where_they_come_from(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 10))
    recipe, folder = naming_the_store(guild), guild.folder / "run"
    assert dry_run(load_recipe(recipe), quiet())["stages"]["dpo"]["comparisons"] == 10
    run(load_recipe(recipe), recipe.read_text(), folder, console=quiet())
    model = folder / "dpo" / "model"
    learned = read_lineage(model)
    assert sum(kind == "vote" for kind, _ in learned) == 60
    items = json.loads((model / "provenance.json").read_text())
    [item] = [one for one in items["sources"] if one["name"] == "feedback"]
    assert (item["licence"], item["written_by"], item["rows"]) == ("own", "own model", 10)
    guild.do(lambda store: guild.vote(store, 5))  # which come too late for this run
    run(load_recipe(recipe), recipe.read_text(), folder, console=quiet())
    assert read_lineage(model) == learned


def test_two_stores_in_one_recipe(guild: Guild) -> None:
    recipe = guild.recipe
    recipe.write_text(recipe.read_text().replace('["feedback"]', '["feedback", "feedback:a.db"]'))
    with pytest.raises(RecipeError, match="one feedback store"):
        with_feedback(load_recipe(recipe), guild.folder / "run")


def test_a_store_without_a_vote(guild: Guild) -> None:
    with pytest.raises(RecipeError, match="nothing in the feedback store") as raised:
        dry_run(load_recipe(naming_the_store(guild)), quiet())
    assert "No vote" in str(raised.value)


def test_a_store_that_is_not_there(guild: Guild) -> None:
    recipe = naming_the_store(guild, str(guild.folder / "nowhere.db"))
    with pytest.raises(GuildError, match="there is no feedback store yet"):
        run(load_recipe(recipe), recipe.read_text(), guild.folder / "run", console=quiet())
    assert not (guild.folder / "nowhere.db").exists()


def test_commands_that_read_rows_say_how_to_see_a_stores() -> None:
    with pytest.raises(DataError, match="a feedback store is read by") as raised:
        load(SourceSpec.parse("feedback"))
    assert "guildgpt feedback export preference" in str(raised.value)
