"""`guildgpt train --track`: what a tracker is told, what it is never told, and what if it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import process
from tiny import write_run

from guildgpt.errors import GuildError
from guildgpt.pipeline import trackers
from guildgpt.pipeline.trackers import TrackedRun, Wandb, tracker_named
from guildgpt.pipeline.tracking import Tracking, finite, settings_of
from guildgpt.recipe import Recipe, load_recipe
from guildgpt.train.progress import Watcher

READ = """
import json, sys
import trackio
from trackio.sqlite_storage import SQLiteStorage
runs = list(trackio.Api().runs("guildgpt"))
print(json.dumps([[run.name, run.config, SQLiteStorage.get_logs("guildgpt", run.name)]
                  for run in runs]))
"""


def told(folder: Path) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The runs that Trackio holds there: settings and rows of each."""
    done = subprocess.run(
        [sys.executable, "-c", READ],
        env={**os.environ, "TRACKIO_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name: (config, rows) for name, config, rows in json.loads(done.stdout.splitlines()[-1])}


def rows_of(stage: Path) -> list[dict[str, Any]]:
    lines = (stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def until(condition: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    while not condition():
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_run_goes_on_in_the_same_run_of_trackio(tmp_path: Path) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed; the extra `dev` has it")
    recipe, out, kept = write_run(tmp_path), tmp_path / "run", tmp_path / "trackio"
    command = ["train", str(recipe), "--out", str(out), "--track", "trackio"]
    env = {**os.environ, "TRACKIO_DIR": str(kept)}
    first = subprocess.Popen(
        [sys.executable, "-m", "guildgpt", *command],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    begun = out / "sft" / "metrics.jsonl"
    until(lambda: begun.is_file() and len(rows_of(out / "sft")) > 8, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = process(*command, TRACKIO_DIR=str(kept))
    assert second.returncode == 0, second.stderr
    assert "Trackio project" not in second.stdout  # it does not speak in between
    assert "Uploading" not in second.stdout  # nor at exit, of what does not leave this machine

    runs = told(kept)
    assert sorted(name.rpartition("-")[0] for name in runs) == ["tiny-pretrain", "tiny-sft"]
    for name, (config, rows) in runs.items():
        stage = name.split("-")[1]
        steps = [row["step"] for row in rows if "train/loss" in row]
        assert sorted(steps) == list(range(1, 25)), stage
        logged = {row["step"]: row["loss"] for row in rows_of(out / stage) if "loss" in row}
        sent = {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}
        if stage == "pretrain":  # of the other, a step may have been logged twice
            assert sent == logged
        assert sent.keys() == {step for step in logged if step}
        assert config["stage"] == stage
        assert config[f"{stage}.steps"] == 24
        final = {key: value for row in rows for key, value in row.items() if "final/" in key}
        assert final
        said = json.dumps([config, rows])
        assert "stands by" not in said  # no sample
        assert str(tmp_path) not in said  # nor a place


class Fake:
    def __init__(self, last: int = -1):
        self.last = last
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.final: dict[str, float] = {}

    def log(self, step: int, figures: Any) -> None:
        self.rows.append((step, dict(figures)))

    def finish(self, figures: Any) -> None:
        self.final = dict(figures)


class Heard(Watcher):
    def __init__(self) -> None:
        self.steps: list[int] = []
        self.notes: list[str] = []

    def stepped(self, metrics: Any) -> None:
        self.steps.append(metrics["step"])

    def noted(self, message: str) -> None:
        self.notes.append(message)


def step(number: int) -> dict[str, float]:
    return {"step": number, "loss": float(number), "kl": float("nan")}


def test_a_tracker_that_fails_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    class Broken(Fake):
        def log(self, step: int, figures: Any) -> None:
            if step > 1:
                raise ConnectionError("no route to host\nand more")
            super().log(step, figures)

    said: list[str] = []
    fake, heard = Broken(), Heard()
    tracks = Tracking(lambda: fake, tmp_path / "none", said.append)
    watcher = tracks.watching(heard)
    for number in (1, 2, 3):
        watcher.stepped(step(number))
    tracks.finish({"final/x": 1.0})
    assert heard.steps == [1, 2, 3]
    assert fake.rows == [(1, {"train/loss": 1.0})]  # and what is no number is not sent
    assert said == ["the tracker failed (no route to host); the training goes on without it"]
    assert fake.final == {}


def test_a_tracker_that_does_not_open_or_not_end_stops_nothing(tmp_path: Path) -> None:
    said: list[str] = []

    def refuse() -> Fake:
        raise OSError("nobody is logged in")

    tracks = Tracking(refuse, tmp_path, said.append)
    tracks.watching(Heard()).stepped(step(1))
    tracks.finish({})
    assert len(said) == 1
    assert "nobody is logged in" in said[0]

    over = threading.Event()

    class Stuck(Fake):
        def finish(self, figures: Any) -> None:
            over.wait()

    tracks = Tracking(lambda: Stuck(), tmp_path, said.append, patience=0.05)
    tracks.finish({})
    over.set()
    assert "did not take the last figures" in said[1]


def test_what_a_kill_cost_the_tracker_is_sent_and_what_it_has_is_not(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    rows = [step(n) | {"kl": 0.0} for n in (1, 2, 3, 4)]
    rows.insert(2, {"step": 2, "source": "mine", "loss": 9.0})
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"st')
    fake = Fake(last=1)
    watcher = Tracking(lambda: fake, metrics, pytest.fail).watching(Heard())
    watcher.started(5, 3)
    watcher.stepped(step(4))
    watcher.measured(4, {"mine": {"loss": 8.0}})
    sent = [(number, *figures) for number, figures in fake.rows]
    assert sent == [
        (2, "train/loss", "train/kl"),
        (2, "held out/mine/loss"),
        (3, "train/loss", "train/kl"),
        (4, "train/loss"),
        (4, "held out/mine/loss"),
    ]


def test_without_a_tracker_nothing_is_between(tmp_path: Path) -> None:
    heard = Heard()
    tracks = Tracking(None, tmp_path, pytest.fail)
    assert tracks.watching(heard) is heard
    tracks.finish({})


def test_notes_which_may_be_answers_are_for_the_person_alone(tmp_path: Path) -> None:
    fake, heard = Fake(), Heard()
    Tracking(lambda: fake, tmp_path, pytest.fail).watching(heard).noted("user: hello")
    assert heard.notes == ["user: hello"]
    assert fake.rows == []


def test_what_a_tracker_is_told_of_a_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write_run(tmp_path), ["model.system=You are Anna's.", "sft.steps=7"])
    told = settings_of(recipe, "sft")
    assert told["sft.steps"] == 7
    assert told["sft.lora.rank"] == 16
    assert told["seed"] == 0
    said = json.dumps(told)
    assert "Anna" not in said
    assert str(tmp_path) not in said
    reward = Recipe.model_validate({"name": "x", "stages": ["ppo"]})
    assert not [key for key in settings_of(reward, "judge") if key.startswith("ppo")]
    assert finite({"a": 1, "b": "text", "c": float("inf"), "d": True}) == {"a": 1.0, "d": 1.0}


def test_wandb_is_kept_from_what_it_collects(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Run:
        step = 12
        summary: dict[str, float] = {}  # noqa: RUF012

        def log(self, figures: dict[str, float], step: int) -> None:
            asked["row"] = (step, figures)

        def finish(self) -> None:
            asked["over"] = True

    def init(**settings: Any) -> Run:
        asked.update(settings)
        return Run()

    module = types.ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    module.Settings = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    tracker = Wandb(TrackedRun("mine-sft-1", "mine", {"a": 1}))
    tracker.log(12, {"train/loss": 1.0})
    tracker.finish({"final/x": 2.0})
    assert tracker.last == 11
    assert (asked["id"], asked["resume"], asked["config"]) == ("mine-sft-1", "allow", {"a": 1})
    assert asked["settings"]["console"] == "off"  # it shows answers
    assert asked["settings"]["x_disable_meta"]
    assert asked["row"] == (12, {"train/loss": 1.0})
    assert Run.summary == {"final/x": 2.0}
    assert asked["over"]


def test_a_tracker_that_is_not_there_is_refused_before_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tracker_named(None) is None
    with pytest.raises(GuildError, match="there is no tracker `mlflow`") as error:
        tracker_named("mlflow")
    assert "trackio or wandb" in str(error.value)
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(GuildError, match="trackio is not installed") as error:
        tracker_named("trackio")
    assert "pip install trackio" in str(error.value)
