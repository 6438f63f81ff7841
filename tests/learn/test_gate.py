"""The gate of a turn, with a tiny model: passed, missed, switched off, killed, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import answered, ask, refused
from sqlalchemy import delete, update

from guildgpt.errors import GuildError
from guildgpt.feedback.records import Decision
from guildgpt.feedback.storage.schema import circle_log, decisions
from guildgpt.learn import gate, measuring
from guildgpt.learn.answering import Answered
from guildgpt.learn.turn import take_turn
from guildgpt.pipeline.folder import keep

from .conftest import Guild

NAMES = ["wins", "loops", "ends", "length", "kept", "bits", "kl", "safe", "facts"]


def bound(guild: Guild, **values: Any) -> None:
    """Other bounds in the guild's recipe."""
    text = guild.recipe.read_text(encoding="utf-8")
    for key, value in values.items():
        line = next(one for one in text.splitlines() if one.startswith(f"{key} = "))
        text = text.replace(line, f"{key} = {value}")
    guild.recipe.write_text(text, encoding="utf-8")


def serving(guild: Guild) -> list[float]:
    return [one.share for one in guild.do(lambda store: store.releases.current())]


def logged(guild: Guild) -> list[dict[str, Any]]:
    entries = guild.do(lambda store: store.log.entries())
    return [one.detail for one in entries if one.kind == "gate"]


def state_of(decision: Decision, name: str) -> str:
    assert decision.gate
    return str(next(one["state"] for one in decision.gate["measures"] if one["name"] == name))


def test_what_passes_is_tried_on_members(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 12))
    decision = take_turn(guild.options())
    assert decision.state == "canary"
    found = guild.do(lambda store: store.decisions.by_id(decision.id)).gate  # type: ignore[union-attr]
    assert found
    assert found == decision.gate
    assert found["passed"]
    assert found["candidate"] == decision.candidate_id
    assert found["serving"] == decision.baseline_id
    assert [one["name"] for one in found["measures"]] == NAMES
    assert state_of(decision, "wins") == "not measured"
    assert state_of(decision, "facts") == "not measured"  # so small a model knows none
    for name in ("loops", "ends", "length", "kept", "bits", "kl"):
        assert state_of(decision, name) == "passed"
    [entry] = logged(guild)
    assert (entry["passed"], entry["on"]) == (True, True)
    assert entry["not measured"] == ["wins", "safe", "facts"]


def test_what_fails_is_dropped_with_the_reason_and_the_next_turn_can_begin(guild: Guild) -> None:
    bound(guild, most_kl=0)
    guild.do(lambda store: guild.vote(store, 12))
    dropped = take_turn(guild.options())
    assert dropped.state == "dropped"
    assert dropped.why is not None
    assert "it did not pass the gate: away from the ancestor: " in dropped.why
    assert state_of(dropped, "kl") == "failed"
    assert serving(guild) == [1.0]  # no member saw it
    [entry] = logged(guild)
    assert (entry["passed"], entry["failed"]) == (False, ["kl"])
    bound(guild, most_kl=1e6)
    assert take_turn(guild.options()).state == "canary"


def test_without_a_gate_it_meets_members_unmeasured_and_that_is_noted(guild: Guild) -> None:
    bound(guild, most_kl=0)
    guild.do(lambda store: guild.vote(store, 12))
    decision = take_turn(replace(guild.options(), gate=False))
    assert decision.state == "canary"
    assert decision.gate is not None
    assert (decision.gate["on"], decision.gate["measures"]) == (False, [])
    assert [entry["on"] for entry in logged(guild)] == [False]


def test_what_was_measured_is_not_measured_again(
    guild: Guild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two models' answers, and again after all was measured."""
    guild.do(lambda store: guild.vote(store, 12))
    asked: list[str] = []
    own = measuring.answers_of

    def stopping(model: str, *rest: Any) -> Any:
        asked.append(model)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return own(model, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(measuring, "answers_of", stopping)
        with pytest.raises(KeyboardInterrupt):
            take_turn(guild.options())
    current = guild.do(lambda store: store.decisions.current())
    assert current is not None
    assert (current.state, serving(guild)) == ("gate", [1.0])
    [answered] = (guild.folder / "learn" / "001" / "gate" / "candidate").glob("prompts.json")
    marked = [Answered("marked", (1, 2, 3), True)] * 6
    keep(answered, list[Answered], marked)

    def too_late(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(gate, "begin_canary", too_late)
        with pytest.raises(KeyboardInterrupt):
            take_turn(guild.options())
    measured = guild.do(lambda store: store.decisions.current())
    assert measured is not None
    assert measured.gate
    [length] = [one for one in measured.gate["measures"] if one["name"] == "length"]
    assert length["candidate"] == 3.0  # what was kept, not what the model would say

    with monkeypatch.context() as patched:
        patched.setattr(gate, "measure", too_late)
        decision = take_turn(guild.options())
    assert decision.state == "canary"
    assert decision.gate == measured.gate
    assert len(logged(guild)) == 1


def test_who_serves_lies_on_another_machine(guild: Guild) -> None:
    """The ancestor stands in for it."""
    guild.do(lambda store: guild.vote(store, 12))
    current = guild.do(lambda store: store.releases.current())
    known = guild.do(lambda store: store.versions.by_id(current[0].version_id))
    assert known is not None
    gone = Path(known.path)
    content = gone.read_bytes()
    gone.unlink()
    try:
        assert take_turn(guild.options()).state == "canary"
    finally:
        gone.write_bytes(content)


def test_votes_teach_a_judge_that_is_asked(guild: Guild) -> None:
    bound(guild, judge_share=0.5)
    text = guild.recipe.read_text(encoding="utf-8")
    reward = "[reward]\nepochs = 2\nbatch_size = 4\nlora = {rank = 4, alpha = 8}\n"
    reward += 'learning_rate = 1e-2\ncheckpoint_minutes = 0\ndtype = "float32"\n\n'
    guild.recipe.write_text(text.replace("[evaluate]", reward + "[evaluate]"), encoding="utf-8")
    guild.do(lambda store: guild.vote(store, 26))
    decision = take_turn(guild.options())
    assert decision.gate
    folder = guild.folder / "learn" / "001"
    rows = [(folder / name).read_text().count("\n") for name in ("feedback.jsonl", "judge.jsonl")]
    assert sum(rows) == 26
    assert min(rows) >= 8
    [wins] = [one for one in decision.gate["measures"] if one["name"] == "wins"]
    assert wins["count"] == 6
    assert wins["state"] in ("passed", "advisory")
    assert 0 <= wins["candidate"] <= 1
    # The judge's votes are noted, too: an erasure takes them out of the folder.
    lineage = guild.do(lambda store: store.versions.by_id(decision.candidate_id or ""))
    assert lineage is not None
    erased = guild.do(lambda store: store.privacy.erase(10**17))
    assert decision.candidate_id in erased.versions


def test_a_gate_by_hand_and_what_canary_says(guild: Guild) -> None:
    model, store = str(guild.ancestor), guild.url
    found = answered(
        *("learn", "gate", model, model, "--store", store, "--recipe", str(guild.recipe)),
        *("--out", str(guild.folder / "by-hand"), "--json"),
    )
    assert found["passed"]
    assert [one["name"] for one in found["measures"]] == NAMES
    assert [entry["passed"] for entry in logged(guild)] == [True]
    guild.do(lambda store: guild.vote(store, 12))
    decision = take_turn(guild.options())
    guild.do(lambda store: store.database.execute(delete(circle_log)))
    dropped = update(decisions).values(state="dropped")
    guild.do(lambda store: store.database.execute(dropped))
    canary = ("versions", "canary", decision.candidate_id or "", "--store", store)
    said = ask(*canary).stdout
    assert "No gate has measured it" in " ".join(said.split())


def test_an_ancestor_that_is_not_there_is_told_before_anything_is_measured(guild: Guild) -> None:
    model, nowhere = str(guild.ancestor), str(guild.folder / "nowhere")
    out = guild.folder / "by-hand"
    refused(
        GuildError,
        *("learn", "gate", model, model, "--store", guild.url, "--recipe", str(guild.recipe)),
        *("--set", f"model.base={nowhere}", "--out", str(out)),
    )
    assert not out.exists()


def test_the_table_for_people(guild: Guild) -> None:
    told = ask(
        *("learn", "gate", str(guild.ancestor), "--store", guild.url),
        *("--recipe", str(guild.recipe), "--out", str(guild.folder / "by-hand")),
    )
    said = " ".join(told.stdout.split())
    assert "runs into a loop" in said
    assert "not measured" in said
    assert "It passes." in said
