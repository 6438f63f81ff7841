"""A run's folder: claimed by one recipe and its data, noted whole or not at all, timed."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from rich.console import Console
from tiny import write_run

from guildgpt.data.provenance import Provenance
from guildgpt.errors import DataError, GuildError, ModelError, RecipeError
from guildgpt.pipeline.claims import as_begun, claim, claim_data, differences
from guildgpt.pipeline.folder import (
    Clock,
    alone_in,
    finished,
    read_json,
    read_outcome,
    write_json,
    write_outcome,
)
from guildgpt.pipeline.inputs import claim_inputs
from guildgpt.pipeline.run import run
from guildgpt.recipe import Recipe, load_recipe
from guildgpt.train.loop import Outcome

RECIPE = Recipe.model_validate({"name": "mine", "sft": {"steps": 3}})


def changed(**sections: object) -> Recipe:
    return Recipe.model_validate({"name": "mine", "sft": {"steps": 3}, **sections})


def train(folder: Path) -> None:
    """Something that took training."""
    (folder / "sft" / "checkpoints" / "step-0000001").mkdir(parents=True)


# --- claims --------------------------------------------------------------------------------------


def test_the_same_recipe_goes_on(tmp_path: Path) -> None:
    claim(tmp_path / "run", RECIPE)
    train(tmp_path / "run")
    claim(tmp_path / "run", changed(description="in other words", price_per_hour=2.0))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"sft": {"steps": 4}}, "`sft.steps` was 3 and is 4"),
        ({"sft": {}}, "`sft.steps` was 3 and is not set"),
        ({"seed": 1}, "`seed` was 0 and is 1"),
        ({"seed": 1, "model": {"context": 64}}, "`model.context` was 1024 and is 64 (and 1 more)"),
        ({"data": {"sources": ["dolly"]}}, "`data.sources` was [] and is "),
    ],
)
def test_another_recipe_is_refused_once_something_is_trained(
    other: dict[str, object], said: str, tmp_path: Path
) -> None:
    claim(tmp_path, RECIPE)
    train(tmp_path)
    with pytest.raises(RecipeError, match="run of another recipe") as raised:
        claim(tmp_path, changed(**other))
    assert said in raised.value.what
    assert "--out" in str(raised.value.remedy)
    claim(tmp_path, RECIPE)  # the claim still stands


def test_until_then_the_recipe_may_change(tmp_path: Path) -> None:
    """A recipe that was refused, or ended in an error at once, is corrected and run again."""
    claim(tmp_path, RECIPE)
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "before.json").write_text("measured with the other recipe")
    claim(tmp_path, changed(policy="open"))
    assert not (tmp_path / "sft").exists()
    train(tmp_path)
    with pytest.raises(RecipeError):
        claim(tmp_path, RECIPE)


def test_a_key_that_is_new_in_this_version_has_its_default(tmp_path: Path) -> None:
    claim(tmp_path, RECIPE)
    train(tmp_path)
    record = read_json(tmp_path / "recipe.json")
    del record["sft"]["tensorboard"]
    write_json(tmp_path / "recipe.json", record)
    claim(tmp_path, RECIPE)


def test_what_an_older_version_began_goes_on_in_chatml(tmp_path: Path) -> None:
    """It taught every base ChatML; the same command goes on so, each time it is given."""
    claim(tmp_path, RECIPE)
    record = read_json(tmp_path / "recipe.json")
    del record["model"]["template"]
    write_json(tmp_path / "recipe.json", record)
    assert as_begun(tmp_path, RECIPE).model.template == "own"  # nothing is trained yet
    train(tmp_path)
    own = changed(model={"template": "own"})
    assert as_begun(tmp_path, own) == own
    with pytest.raises(RecipeError, match=r'`model.template` was "chatml" and is "own"'):
        claim(tmp_path, own)
    for _ in range(2):
        recipe = as_begun(tmp_path, RECIPE)
        assert recipe.model.template == "chatml"
        claim(tmp_path, recipe)
        assert read_json(tmp_path / "recipe.json") == record


def test_a_template_counts_from_when_it_was_noted(tmp_path: Path) -> None:
    """Older versions noted none beside a base; from then on a changed one is refused."""
    base, place = tmp_path / "base", tmp_path / "run" / "sft"
    base.mkdir()
    files = [base / "config.json", base / "chat_template.jinja"]
    for file in files:
        file.write_text("{}")
    claim_inputs(place, {"base": files[:1]})
    train(place.parent)
    for _ in range(2):
        claim_inputs(place, {"base": files})
    files[1].write_text("{# another #}")
    with pytest.raises(ModelError, match=r"the base changed .*: chat_template\.jinja"):
        claim_inputs(place, {"base": files})


def test_a_file_that_is_no_recipe_belongs_to_nobody(tmp_path: Path) -> None:
    for text in ("", '{"name": "mi', "[]"):
        (tmp_path / "recipe.json").write_text(text)
        claim(tmp_path, RECIPE)


def test_changed_data_is_refused_once_something_is_trained(tmp_path: Path) -> None:
    base = Provenance("scratch", "base")
    rows, other = Provenance("rows", sha256="a" * 64), Provenance("other", sha256="b" * 64)
    claim_data(tmp_path, [base, rows])
    claim_data(tmp_path, [base, replace(rows, sha256="c" * 64)])  # nothing was trained yet
    claim_data(tmp_path, [base, rows])
    train(tmp_path)
    claim_data(tmp_path, [base, rows, other])  # a later stage brings its own
    claim_data(tmp_path, [other])
    with pytest.raises(DataError, match="rows changed since this run began") as raised:
        claim_data(tmp_path, [replace(rows, sha256="c" * 64), other])
    assert "Put the old data back" in str(raised.value.remedy)
    claim_data(tmp_path, [rows])


def test_differences() -> None:
    old = {"a": 1, "b": {"c": [1], "d": None}, "e": {"f": 1}}
    new = {"a": 1, "b": {"c": [2], "d": 0}, "g": 3}
    assert differences(old, new) == {
        "b.c": ([1], [2]),
        "b.d": (None, 0),
        "e": ({"f": 1}, None),
        "g": (None, 3),
    }
    assert differences(old, old) == {}


# --- what is finished ----------------------------------------------------------------------------


def test_an_outcome_counts_while_its_model_stands(tmp_path: Path) -> None:
    outcome = Outcome(5, 100, 2.5, 40.0, 1000, 2, tmp_path / "metrics.jsonl")
    assert read_outcome(tmp_path) is None
    write_outcome(tmp_path, outcome)
    assert read_outcome(tmp_path) is None
    (tmp_path / "model").mkdir()
    assert read_outcome(tmp_path) == outcome
    assert finished(tmp_path) is None  # the report is missing still
    (tmp_path / "model" / "report.json").write_text('{"title": "half')
    assert finished(tmp_path) is None


def test_a_note_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "note.json"
    write_json(file, {"a": 1})

    def full(self: Path, text: str, **_: object) -> None:
        with self.open("w") as half:
            half.write(text[: len(text) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(file, {"a": 2})
    assert read_json(file) == {"a": 1}


# --- time ----------------------------------------------------------------------------------------


class Seconds:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, clock: Clock, phase: str, seconds: float, ends_in: Any = None) -> None:
        with clock(phase):
            self.now += seconds
            if ends_in:
                raise ends_in


def test_seconds_add_up_over_interruptions(tmp_path: Path) -> None:
    seconds = Seconds()
    clock = Clock(tmp_path / "phases.json", seconds)
    seconds.pass_by(clock, "load", 3)
    with pytest.raises(KeyboardInterrupt):
        seconds.pass_by(clock, "train", 40, ends_in=KeyboardInterrupt)
    seconds.now += 1000  # until somebody starts it again

    clock = Clock(tmp_path / "phases.json", seconds)
    seconds.pass_by(clock, "load", 2)
    seconds.pass_by(clock, "train", 5)
    seconds.pass_by(clock, "save", 1)
    phases = [(phase.name, phase.seconds) for phase in clock.phases()]
    assert phases == [("load", 5.0), ("train", 45.0), ("save", 1.0)]
    assert json.loads((tmp_path / "phases.json").read_text()) == dict(phases)


def test_seconds_survive_a_kill(tmp_path: Path) -> None:
    """They are noted on the way, not only at a phase's end."""
    code = f"""
import os, signal, time
from pathlib import Path
from guildgpt.pipeline import folder as run_folder
run_folder.BEAT = 0.01
file = Path({str(tmp_path / "phases.json")!r})
with run_folder.Clock(file)("train"):
    while not file.exists() or run_folder.read_json(file)["train"] < 0.2:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert Forked(code).wait() == -signal.SIGKILL
    assert Clock(tmp_path / "phases.json").seconds["train"] >= 0.2


def test_no_thread_is_left(tmp_path: Path) -> None:
    before = threading.enumerate()
    with Clock(tmp_path / "phases.json")("train"):
        (beating,) = [thread for thread in threading.enumerate() if thread not in before]
    assert not beating.is_alive()


def test_a_full_disk_does_not_stop_the_clock(tmp_path: Path) -> None:
    seconds = Seconds()
    clock = Clock(tmp_path / "gone" / "phases.json", seconds)
    seconds.pass_by(clock, "train", 7)
    assert [(phase.name, phase.seconds) for phase in clock.phases()] == [("train", 7.0)]


# --- one at a time -------------------------------------------------------------------------------


def at_work_in(folder: Path) -> Forked:
    """A process that holds the folder until it is killed."""
    code = f"""
import time
from pathlib import Path
from guildgpt.pipeline.folder import alone_in
with alone_in(Path({str(folder)!r})):
    print("at work", flush=True)
    time.sleep(600)
"""
    process = Forked(code)
    process.wait_for("at work")
    return process


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second is told whose it is; after `kill -9` of the first it is free, and nothing else."""
    folder = tmp_path / "runs" / "mine"
    first = at_work_in(folder)
    try:
        with pytest.raises(GuildError, match="another run is at work") as raised, alone_in(folder):
            pytest.fail("both are in")
        assert raised.value.where == str(folder)
        assert f"process {first.pid} on " in raised.value.what
        assert "--out" in str(raised.value.remedy)
        with alone_in(tmp_path / "runs" / "other"):
            pass
    finally:
        first.kill()
    with alone_in(folder):
        assert read_json(folder / ".lock.json")["process"] == os.getpid()
    at_work_in(folder).kill()  # whoever leaves lets the next one in


def test_the_command_refuses_a_folder_at_work(tmp_path: Path) -> None:
    """Before it reads data or touches what the other one has."""
    path = write_run(tmp_path)
    recipe = load_recipe(path)
    console = Console(file=StringIO())
    first = at_work_in(tmp_path / "run")
    try:
        with pytest.raises(GuildError, match="another run is at work"):
            run(recipe, path.read_text(), tmp_path / "run", console=console)
        assert {file.name for file in (tmp_path / "run").iterdir()} == {".lock", ".lock.json"}
    finally:
        first.kill()


@pytest.mark.parametrize("folder", ["a-file", "a-file/run", "n" * 300])
def test_a_place_where_no_folder_can_be(folder: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("mine")
    with (
        pytest.raises(GuildError, match="the run's folder cannot be made") as raised,
        alone_in(tmp_path / folder),
    ):
        pytest.fail("there is none")
    assert raised.value.where == str(tmp_path / folder)
    assert "--out" in str(raised.value.remedy)
    assert (tmp_path / "a-file").read_text() == "mine"
