"""`guildgpt vote` as whole processes: on a pipe and on a terminal, with real llama.cpp."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from terminals import PATIENCE, Terminal

from guildgpt.feedback.records import Ballots, Correction, Decision
from guildgpt.feedback.storage.location import KEY_VARIABLE, STORE_VARIABLE
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.pool import starter_pool
from guildgpt.model.locate import locate
from guildgpt.model.version import Version, version_of

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
    assert "The pool was empty: the starter pack's 210 prompts are in it now." in said
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


@pytest.mark.slow
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


def test_one_model_meets_itself_however_it_is_named(starter: Path) -> None:
    copied = Path("copied.gguf")
    copied.symlink_to(starter)
    assert len(played("starter", starter, "--rounds", 1, keys="a\n")["versions"]) == 1
    (known,) = opened(lambda store: store.versions.all())
    assert played(known.id, "--rounds", 1, keys="a\n")["versions"] == [known.id]
    Path("again.gguf").write_bytes(starter.read_bytes())
    assert "are the same model" in refused("starter", "again.gguf")
    assert "there is no version nobody@01234567" in refused("nobody@01234567")


def test_who_serves_is_asked(starter: Path, other: Path) -> None:
    serving = version_of(locate(str(other)))

    async def release(store: Store) -> None:
        await store.versions.register(serving)
        await store.releases.add({serving.id: 1.0}, "serve")

    opened(release)
    assert played("--rounds", 1, keys="a\n")["versions"] == [serving.id]
    other.write_bytes(starter.read_bytes())
    assert "this file is another version now" in refused()


def test_without_prompts_it_says_how_to_get_some(starter: Path) -> None:
    async def refuse_all(store: Store) -> None:
        await store.prompts.add(starter_pool())
        for one in await store.prompts.all():
            await store.prompts.judge(one.id, "refused")

    opened(refuse_all)
    said = refused("starter")
    assert "the pool has no prompt that is for learning" in said
    assert "guildgpt feedback prompts add oasst1" in said.replace("\n", " ")


class Voter(Terminal):
    """A person who votes."""

    def __init__(self, *arguments: object, **more: Any):
        super().__init__("vote", *arguments, *SHORT, **{"TERM": "xterm-256color", **more})

    def pair(self) -> str:
        """A pair that is shown, up to the last word of the keys below it."""
        return self.see(r"Round \d+.*quit")


Begin = Callable[..., Voter]


@pytest.fixture
def begin(starter: Path) -> Iterator[Begin]:
    """Begin sessions at terminals; what is left of them is killed."""
    begun: list[Voter] = []

    def at_terminal(*arguments: object, **options: Any) -> Voter:
        begun.append(Voter(*(arguments or ("starter",)), **options))
        return begun[-1]

    yield at_terminal
    for one in begun:
        one.close()


def test_a_session_on_a_terminal(begin: Begin) -> None:
    """One process for the whole story, as a person would use it."""
    terminal = begin(VISUAL="", EDITOR="")
    before = termios.tcgetattr(terminal.screen)
    assert "starter pack's 210 prompts" in terminal.pair()
    terminal.type("\x1b[C")  # right
    assert "B is better." in terminal.pair()
    terminal.type("u")
    assert "once more" in terminal.pair()
    terminal.type("\x1b[D")
    assert "A is better." in terminal.pair()
    terminal.type("t")
    terminal.pair()
    terminal.type("e")
    terminal.see(r"a or b\.")
    terminal.type("b")
    terminal.see("Ctrl-D too")
    terminal.type("Mine.\n.\n")
    terminal.see("yours better still")
    terminal.pair()
    terminal.type("q")
    assert "3 rounds: 2 preferred, 1 tied, 1 written better." in terminal.rest()
    assert termios.tcgetattr(terminal.screen)[3] == before[3]
    assert terminal.leave() == 0
    assert [one.votes[0].ranking for one in kept()] == [(0, 1), (), (1, 0)]
    assert [one.text for one in corrections()] == ["Mine."]
    assert len(kept("cancelled")) == 1


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_signal_ends_a_session_and_loses_no_verdict(
    begin: Begin, number: signal.Signals, status: int
) -> None:
    terminal = begin()
    terminal.pair()
    terminal.type("a")
    terminal.pair()
    engines = terminal.process.children()
    if number == signal.SIGINT:
        terminal.type("\x03")
    else:
        terminal.process.send_signal(number)
    said = terminal.rest()
    assert terminal.leave() == status
    assert "1 round: 1 preferred." in said
    assert "Traceback" not in said
    assert verdicts() == ["ranked"]
    assert len(kept("cancelled")) == 1
    for engine in engines:
        engine.wait(PATIENCE)


def test_a_session_that_is_killed_loses_no_verdict(begin: Begin) -> None:
    terminal = begin("starter", "--as", "anna")
    terminal.pair()
    terminal.type("a")
    terminal.pair()
    terminal.process.kill()
    terminal.leave()
    assert [len(one.votes) for one in kept("open")] == [1, 0]
    assert played("starter", "--as", "anna", keys="")["rounds"] == 0
    assert verdicts() == ["ranked"]
    assert [len(one.votes) for one in kept("open")] == [0]  # another person may look at it still


def test_a_terminal_of_forty_columns_without_colour(begin: Begin) -> None:
    terminal = begin(columns=40, NO_COLOR="1")
    terminal.pair()
    terminal.type("a")
    shown = terminal.pair().partition("Round 2")[2]
    assert max(map(len, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).splitlines())) <= 40
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|4[0-7]|9[0-7])m", shown)
    terminal.type("\x04")
    terminal.rest()
    assert terminal.leave() == 0


def test_answers_stand_side_by_side_where_there_is_room(begin: Begin) -> None:
    terminal = begin(columns=140)
    assert re.search(r"╭─.* A .*╮ *╭─.* B .*╮\n", terminal.pair())
    terminal.type("q")
    assert "No round was voted on." in terminal.rest()
    assert terminal.leave() == 0


@pytest.mark.slow
def test_an_engine_that_is_killed_in_a_round(begin: Begin) -> None:
    terminal = begin()
    for _ in range(3):
        terminal.pair()
        for engine in terminal.process.children():
            engine.kill()
        terminal.type("a")
    terminal.pair()
    terminal.type("q")
    terminal.rest()
    assert terminal.leave() == 0
    assert verdicts() == ["ranked"] * 3
