"""`guildgpt learn`, as it is typed."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from commands import answered, ask
from typer.testing import CliRunner

from guildgpt.cli import app
from guildgpt.errors import GuildError
from guildgpt.learn.turn import begin

from .conftest import Guild

RUNNER = CliRunner()


def typed(guild: Guild, *words: str) -> str:
    options = ["--store", guild.url]
    if "status" not in words:
        options += ["--recipe", str(guild.recipe), "--out", str(guild.folder / "learn")]
    done = RUNNER.invoke(app, ["learn", *words, *options])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_a_dry_run_says_what_would_be_used_and_changes_nothing(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 3))
    said = typed(guild, "--dry-run")
    assert "would learn by dpo from 3 comparisons." in said
    assert "Too few: a turn takes 20 (--least)." in said
    assert json.loads(typed(guild, "--dry-run", "--json"))["comparisons"] == 3
    assert guild.do(lambda store: store.decisions.all()) == []


def test_a_dry_run_says_which_method_and_why(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 3))
    said = typed(guild, "--dry-run", "--method", "kto")
    assert "would learn by kto (answers called good or bad, directly; as you say)" in said
    told = json.loads(typed(guild, "--dry-run", "--json"))
    assert (told["method"], told["why"]) == (None, "as the recipe says")
    assert told["signals"] == {"votes": 3, "corrections": 0, "ratings": 0}
    with pytest.raises(GuildError, match="there is no method `dop`"):
        typed(guild, "--dry-run", "--method", "dop")


def test_the_switch_for_members_text_has_discords_rule_beside_it() -> None:
    said = RUNNER.invoke(app, ["learn", "--help"], env={"COLUMNS": "300"}).stdout
    assert "rule 21" in said


def test_too_few_votes(guild: Guild) -> None:
    with pytest.raises(GuildError, match="0 comparisons of the 20 that a turn takes"):
        typed(guild)


def test_the_status_before_and_within_a_turn(guild: Guild) -> None:
    said = typed(guild, "status")
    assert "To learn from: 0 comparisons" in said
    assert "No candidate: `guildgpt learn` begins a turn." in said
    guild.do(lambda store: guild.vote(store, 12))
    turned = typed(guild, "--least", "10")
    assert "canary." in turned
    said = typed(guild, "status")
    assert "To learn from: 12 comparisons" in said
    assert "(80%)" in said
    assert "No round has been counted yet." in said
    decision = guild.do(lambda store: store.decisions.current())
    assert decision is not None
    guild.do(lambda store: guild.vote(store, 10, decision, for_candidate=0.5))
    assert "10 rounds say 50% for the candidate" in typed(guild, "status")
    told = json.loads(typed(guild, "status", "--json"))
    assert told["decision"]["state"] == "canary"
    assert told["standing"]["rounds"] == 10


def test_a_candidate_is_given_up(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 12))
    begin(guild.options())
    assert "There is no candidate any more." in typed(guild, "--drop")
    [decision] = guild.do(lambda store: store.decisions.all())
    assert (decision.state, decision.why) == ("dropped", "given up by the operator")


def test_what_is_missing_is_said_before_a_turn_is_begun(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 12))
    text = guild.recipe.read_text()
    guild.recipe.write_text(text.replace(str(guild.ancestor), "runs/nowhere/at/all"))
    for words in (["--dry-run"], []):
        with pytest.raises(GuildError, match="there is no base `runs/nowhere/at/all`"):
            typed(guild, *words)
    guild.recipe.write_text(text.replace('["feedback"]', '["starter"]'))
    with pytest.raises(GuildError, match="does not learn from votes"):
        typed(guild)
    assert guild.do(lambda store: store.decisions.all()) == []
    assert "There was no candidate." in typed(guild, "--drop")


def test_help_names_everything() -> None:
    said = RUNNER.invoke(app, ["learn", "--help"]).stdout
    for word in ("--dry-run", "--again", "--drop", "--share", "status"):
        assert word in said


def test_the_text_of_a_help_page_is_wrapped_at_the_terminals_width_alone() -> None:
    """Not where its docstring has line ends, too."""
    for words in (["learn"], ["vote"], ["compare"], ["feedback", "export"]):
        said = RUNNER.invoke(app, [*words, "--help"], env={"COLUMNS": "80"}).stdout
        text = said.partition("╭")[0].splitlines()
        assert len(text) > 5
        for line, after in pairwise(text):
            if line.strip() and after.strip():
                assert len(line.rstrip()) + len(after.split()[0]) + 1 > 79, words


def test_the_status_says_what_the_last_night_came_to(guild: Guild) -> None:
    assert "Last night" not in typed(guild, "status")
    detail = {"night": "2026-12-02", "words": "too little to learn from"}
    guild.do(lambda store: store.log.add("too_little", detail))
    assert "Last night (2026-12-02): too little to learn from" in typed(guild, "status")


def test_the_report_is_a_page_and_says_where_it_is(guild: Guild) -> None:
    page = guild.folder / "pages" / "circle of June.html"
    said = ask("learn", "report", "--store", guild.url, "--out", str(page)).stdout
    assert page.resolve().as_uri() in said.replace("\n", "")
    assert "No turn has been taken yet" in page.read_text(encoding="utf-8")
    found = answered("learn", "report", "--store", guild.url, "--json")
    assert found["turns"] == []
    assert [one["share"] for one in found["serving"]] == [1.0]
