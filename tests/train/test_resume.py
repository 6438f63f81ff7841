"""Killed with SIGKILL and started again by the same command: equal, bit for bit, to no kill."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import PATIENCE, Forked
from ignoring import IGNORE
from rich.console import Console
from tiny import RECIPE, write_run

from guildgpt.pipeline import run as pipeline
from guildgpt.recipe import load_recipe
from guildgpt.report.report import Report
from guildgpt.train import loop

# No answers are sampled: this is about training.
QUIET = RECIPE.replace('gguf = ["Q8_0"]', "gguf = []")
TUNE = """\
name = "tuned"

[model]
base = "BASE"
context = 512

[data]
sources = [{source = "jsonl:rows.jsonl", licence = "own", written_by = "people"}]
held_out = 0.2

[sft]
adapter = "lora"
steps = 9
batch_size = 8
evaluations = 3
checkpoint_minutes = 0

[export]
gguf = []
"""


# The number of threads as in this process.
SAME = """
import torch
torch.set_num_threads({threads})
"""


def start(*arguments: object, before: str = "") -> Forked:
    """`guildgpt train …` in a process of its own; `before` is run in it first."""
    same = SAME.format(threads=torch.get_num_threads())
    words = ["train", *map(str, arguments)]
    return Forked(f"{same}\n{before}\nfrom guildgpt.cli import main\nmain({words!r})")


# However busy the machine is, it is not over before something happens to it.
HOLD = """
import time
from guildgpt.train.log import MetricsLog
write = MetricsLog.write
def hold(log, row):
    write(log, row)
    while str(log.path) == {log!r} and row["step"] >= {step}:
        time.sleep(0.01)
MetricsLog.write = hold
"""


def held_at(step: int, log: Path, *arguments: object, before: str = "") -> Forked:
    """Start the command, and wait until the log says that the step is done: it goes no further."""
    process = start(*arguments, before=before + HOLD.format(log=str(log), step=step))
    until = time.monotonic() + PATIENCE
    while not any(row["step"] >= step for row in steps(log)):
        process.check()
        assert time.monotonic() < until, process.output()
        time.sleep(0.002)
    return process


def kill_at(step: int, log: Path, *arguments: object) -> None:
    """Start the command, and SIGKILL at that step."""
    held_at(step, log, *arguments).kill()
    assert steps(log)[-1]["step"] == step


def steps(log: Path) -> list[dict[str, Any]]:
    """The rows of training in a log that may be missing or end in half a line."""
    rows = []
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            assert line == log.read_text().splitlines()[-1]
    return [row for row in rows if "source" not in row]


def numbers(log: Path) -> list[dict[str, Any]]:
    """All that training computed: everything in the log but times and memory."""
    varying = ("tokens_per_second", "flops_per_second", "memory_bytes", "seconds")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [{key: row[key] for key in row if key not in varying} for row in rows]


def assert_equal_stages(one: Path, other: Path) -> None:
    assert numbers(one / "metrics.jsonl") == numbers(other / "metrics.jsonl")
    weights = "model/model.safetensors"
    assert (one / weights).read_bytes() == (other / weights).read_bytes()
    assert (one / "after.json").read_text() == (other / "after.json").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, and in `whole` its run from scratch, pretraining and fine-tuning, uninterrupted."""
    folder = tmp_path_factory.mktemp("resume")
    train_here(write_run(folder, QUIET), folder / "whole")
    return folder


def train_here(recipe: Path, folder: Path) -> Report:
    """The same as the command, in this process."""
    console = Console(file=StringIO())
    return pipeline.run(load_recipe(recipe), recipe.read_text(), folder, console=console)


# What a process does before it starts: it sees to its own end at a place of our choice.
DIE = """
import os, signal
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
"""
WRITING_THE_MODEL = f"{DIE}\nfrom guildgpt.model import folder\nfolder._replace = die"
BEFORE_THE_STAGE_IS_NOTED = f"{DIE}\nfrom guildgpt.pipeline import run\nrun.write_outcome = die"
BETWEEN_STAGES = f"""{DIE}
from guildgpt.pipeline import run as pipeline
stage = pipeline.run_stage
pipeline.run_stage = lambda run: die() if run.stage == "sft" else stage(run)
"""


def killed(arguments: Sequence[object], where: str) -> None:
    process = start(*arguments, before=where)
    assert process.wait() == -signal.SIGKILL, process.output()


@pytest.mark.slow
def test_killed_wherever_it_hurts(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run, pretraining and fine-tuning of all weights, killed five times."""
    command = (whole / "tiny.toml", "--out", tmp_path)
    pretrain, sft = tmp_path / "pretrain", tmp_path / "sft"

    kill_at(9, pretrain / "metrics.jsonl", *command)
    before = os.stat(pretrain / "before.json")
    assert json.loads((tmp_path / "phases.json").read_text())["pretrain: measure before"] > 0

    killed(command, WRITING_THE_MODEL)
    trained = (pretrain / "metrics.jsonl").read_text()
    assert len(steps(pretrain / "metrics.jsonl")) == 24
    assert (pretrain / ".model.writing").is_dir()
    assert not (pretrain / "model").exists()

    killed(command, BEFORE_THE_STAGE_IS_NOTED)
    assert (pretrain / "model").is_dir()
    assert not (pretrain / ".model.writing").exists()
    assert not (pretrain / "done.json").exists()

    killed(command, BETWEEN_STAGES)
    assert (pretrain / "done.json").is_file()
    assert not (pretrain / "checkpoints").exists()  # of no more use

    kill_at(11, sft / "metrics.jsonl", *command)
    assert "going on from step" in start(*command).finish()

    # After the first kill nothing of the first stage was trained or measured again.
    assert (pretrain / "metrics.jsonl").read_text() == trained
    again = os.stat(pretrain / "before.json")
    assert (again.st_ino, again.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    for stage in ("pretrain", "sft"):
        log = tmp_path / stage / "metrics.jsonl"
        assert [row["step"] for row in steps(log)] == list(range(1, 25))
        assert_equal_stages(whole / "whole" / stage, tmp_path / stage)

    # Once more, when there is nothing left to do.
    def nothing(*_: object) -> None:
        raise AssertionError("it is all done")

    monkeypatch.setattr(loop._Stage, "take", nothing)
    monkeypatch.setattr(pipeline, "load_base", nothing)
    report = train_here(whole / "tiny.toml", tmp_path)
    assert [stage.name for stage in report.stages] == ["pretrain", "sft"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_the_same_command_goes_on(
    whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C, or a machine that shuts down; also where whoever started it ignored both."""
    recipe = write_run(tmp_path, TUNE.replace("BASE", str(whole / "whole/pretrain/model")))
    command = (recipe, "--out", tmp_path / "run")
    log = tmp_path / "run/sft/metrics.jsonl"
    process = held_at(4, log, *command, before=IGNORE)
    os.kill(process.pid, number)
    assert process.wait() == 128 + number, process.output()
    said = "\nStopped. The same command goes on from the last checkpoint, if there is one yet.\n"
    assert process.output().endswith(said)
    assert "Traceback" not in process.output()
    assert "going on from step" in start(*command).finish()
    assert [row["step"] for row in steps(log)] == list(range(1, 10))


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As at home, where all cores compute: sums must not depend on which one was done first."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_fine_tuning_with_lora(whole: Path, tmp_path: Path, two_threads: None) -> None:
    base = whole / "whole" / "pretrain" / "model"
    recipe = write_run(tmp_path, TUNE.replace("BASE", str(base)))
    train_here(recipe, tmp_path / "whole")
    kill_at(4, tmp_path / "cut/sft/metrics.jsonl", recipe, "--out", tmp_path / "cut")
    train_here(recipe, tmp_path / "cut")
    assert len(numbers(tmp_path / "cut/sft/metrics.jsonl")) == 9 + 4
    assert_equal_stages(tmp_path / "whole/sft", tmp_path / "cut/sft")
