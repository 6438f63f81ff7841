"""`guildgpt vote` as whole processes: on a pipe and on a terminal, with real llama.cpp."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guildgpt.feedback.location import KEY_VARIABLE, STORE_VARIABLE
from guildgpt.feedback.pool import starter_pool
from guildgpt.feedback.records import Ballots, Correction, Decision
from guildgpt.feedback.store import Store
from guildgpt.model.locate import locate
from guildgpt.model.version import Version, version_of

PATIENCE = 240.0  # seconds until something counts as hung, however busy the machine is
KEY = bytes(range(32))
SHORT = ("--max-tokens", "8", "--temperature", "1", "--seed", "1")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own, a folder without runs, and no settings from outside."""
    for name in ("NO_COLOR", "VISUAL", "EDITOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(STORE_VARIABLE, f"sqlite:///{tmp_path / 'feedback.db'}")
    monkeypatch.setenv(KEY_VARIABLE, KEY.hex())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def other(starter: Path, tmp_path: Path) -> Path:
    """The same model with another word in its metadata, so another version."""
    path = tmp_path / "other.gguf"
    path.write_bytes(starter.read_bytes().replace(b"HuggingFaceTB", b"Another guild", 1))
    return path


def vote(*arguments: object, keys: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "guildgpt", "vote", *map(str, arguments)]
    return subprocess.run(command, input=keys, capture_output=True, text=True, timeout=PATIENCE)


def played(*arguments: object, keys: str) -> dict[str, Any]:
    """The summary of a session that ends well."""
    done = vote(*arguments, *SHORT, "--json", keys=keys)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(*arguments: object, keys: str = "a\n") -> str:
    """What is said by a command that cannot begin."""
    done = vote(*arguments, *SHORT, keys=keys)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def opened(work: Any) -> Any:
    """What `work` finds or does in the store."""

    async def run() -> Any:
        async with await Store.open(os.environ[STORE_VARIABLE], key=KEY) as store:
            return await work(store)

    return asyncio.run(run())


def kept(*states: str) -> list[Ballots]:
    wanted = states or ("closed",)
    found: list[Ballots] = opened(lambda store: store.rounds.ballots(states=wanted))
    return found


def corrections() -> list[Correction]:
    return list(opened(lambda store: store.snapshot()).corrections)


def verdicts() -> list[str]:
    """Those of the rounds that count."""
    return [vote.verdict for one in kept() for vote in one.votes]


def try_candidate(starter: Path, other: Path) -> tuple[Version, Version]:
    """Let the other one be tried against the starter."""
    versions = version_of(locate(str(starter))), version_of(locate(str(other)))

    async def begin(store: Store) -> Decision:
        await store.prompts.add(starter_pool())
        for one in versions:
            await store.versions.register(one)
        decision = await store.decisions.begin(
            candidate_id=versions[1].id, baseline_id=versions[0].id
        )
        return await store.decisions.change(decision.id, state="canary")

    opened(begin)
    return versions


def test_a_pipe_votes_a_letter_a_line(starter: Path) -> None:
    keys = "a\n\nB\nt\nx\nwhat\ns\nu\nt\n"
    done = vote("starter", *SHORT, keys=keys)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = done.stdout
    assert "The pool was empty: the starter pack's 60 prompts are in it now." in said
    assert re.search(r"Two answers by starter@\w{8} a round: votes to learn from\.", said)
    assert "The letters are: a A is better, b B is better, t tie" in said
    assert "Round 5, once more" in said
    assert "a ←   b →" not in said  # nobody is there to be told the keys with every round
    assert "5 rounds: 2 preferred, 2 tied, 1 both bad." in said
    assert verdicts() == ["ranked", "ranked", "tie", "both_bad", "tie"]
    assert {one.purpose for one in kept()} == {"train"}
    assert len(kept("cancelled")) == 1  # the sixth was shown
    assert kept("open") == []


def test_a_pipe_writes_an_answer_better(starter: Path) -> None:
    keys = "e\nb\nThis is\nhow I say it.\n.\ne\nq\ne\na\n.\nt\n"
    summary = played("starter", "--as", "anna", keys=keys)
    assert summary["verdicts"] == {"ranked": 1, "tie": 1}
    assert summary["corrections"] == 1
    assert summary["ended"] == "quit"
    (correction,) = corrections()
    assert correction.text == "This is\nhow I say it."
    assert kept()[0].votes[0].ranking == (1, 0)
    anna = opened(lambda store: store.members.of_account("terminal", "anna"))
    assert {vote.member_id for one in kept() for vote in one.votes} == {anna.id}


def test_two_models_meet_and_are_named_at_the_end(starter: Path, other: Path) -> None:
    done = vote("starter", other, "--rounds", 2, *SHORT, keys="a\nb\n")
    assert done.returncode == 0, done.stderr
    ids = {one.id for one in opened(lambda store: store.versions.all())}
    assert len(ids) == 2
    rounds, _, table = done.stdout.partition("2 rounds: 2 preferred.")
    assert all(id not in rounds.split("Round 1", 1)[1] for id in ids)
    assert all(id in table for id in ids)
    assert all(set(one.versions) == ids for one in kept())
    assert {one.purpose for one in kept()} == {"train"}


def test_in_a_canary_votes_decide_and_nothing_is_told(starter: Path, other: Path) -> None:
    old, new = try_candidate(starter, other)
    done = vote("--rounds", 2, *SHORT, keys="a\ns\n")
    assert done.returncode == 0, done.stderr
    _, _, summary = done.stdout.partition("2 rounds: 1 preferred, 1 skipped.")
    assert f"The decision on {new.id}: nothing is decided yet" in summary
    assert "advice" in summary
    assert old.id not in summary
    assert all(set(one.versions) == {old.id, new.id} for one in kept())
    assert {one.purpose for one in kept()} == {"decide"}
    assert None not in {one.round.decision_id for one in kept()}

    told = played("starter", other, "--rounds", 1, keys="a\n")  # the same two, by name
    assert "played" not in told
    told = played("--rounds", 1, keys="a\n")
    assert told["decision"]["state"] == "canary"
    assert "played" not in told
    assert "would meet itself while" in refused("starter", "starter")

    other.unlink()
    said = refused()
    assert f"the file of {new.id} is gone" in said
    assert "guildgpt vote MODEL_A MODEL_B" in said.replace("\n", " ")
