"""`guildgpt train RECIPE --track TRACKER`: a stage's figures for Trackio or Weights & Biases.

Off unless it is asked for. Numbers alone are sent, and how the stage is trained: no text that
anybody wrote, no sample, no event of the store, no source's place. A tracker that fails is left
alone for the rest of the stage, and the training goes on.
"""

from __future__ import annotations

import json
import math
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guildgpt import __version__
from guildgpt.pipeline.trackers import TRACKERS, Figures, TrackedRun, Tracker, TrackerName
from guildgpt.recipe import Recipe, Stage, section_of
from guildgpt.report.report import Report
from guildgpt.train.log import read_rows
from guildgpt.train.loop import METRICS
from guildgpt.train.progress import Watcher

FILE = "tracking.json"  # in a stage's folder: which run of the tracker's is its own
PATIENCE = 60.0  # seconds that the last figures have to get through


@dataclass
class Tracking:
    """A stage's figures on their way to a tracker, or to none. What fails is said once."""

    open: Callable[[], Tracker] | None
    metrics: Path
    warn: Callable[[str], None]
    patience: float = PATIENCE
    tracker: Tracker | None = field(default=None, init=False)

    def watching(self, watcher: Watcher) -> Watcher:
        """The same watcher, with the tracker told as well."""
        return watcher if self.open is None else _Watching(watcher, self)

    def log(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl; what the tracker holds from before a kill is not sent again."""
        self._try(lambda tracker: self._log(tracker, row))

    def catch_up(self, done: int) -> None:
        """What was measured up to step `done`, of which a kill may have cost the tracker a part."""
        if self.open is not None and done:
            for row in read_rows(self.metrics):
                if row["step"] <= done:
                    self.log(row)

    def finish(self, figures: Figures) -> None:
        """The final figures. A tracker that does not come to its end is not waited for."""
        self._try(lambda tracker: self._finish(tracker, figures))

    def _log(self, tracker: Tracker, row: Mapping[str, Any]) -> None:
        if row["step"] > tracker.last:
            where = f"held out/{row['source']}" if "source" in row else "train"
            told = {f"{where}/{key}": value for key, value in row.items() if key != "step"}
            tracker.log(row["step"], finite(told))

    def _finish(self, tracker: Tracker, figures: Figures) -> None:
        failed: list[Exception] = []

        def finish() -> None:
            try:
                tracker.finish(finite(figures))
            except Exception as error:  # handed on below
                failed.append(error)

        thread = threading.Thread(target=finish, daemon=True)
        thread.start()
        thread.join(self.patience)
        if failed:
            raise failed[0]
        if thread.is_alive():
            raise TimeoutError(f"it did not take the last figures in {self.patience:.0f} seconds")

    def _try(self, act: Callable[[Tracker], None]) -> None:
        if self.open is None:
            return
        try:
            self.tracker = self.tracker or self.open()
            act(self.tracker)
        except Exception as error:  # the network, a full disk, a login: none is worth the training
            self.open = None
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            self.warn(f"the tracker failed ({said}); the training goes on without it")


@dataclass
class _Watching(Watcher):
    """Tells a watcher and a tracker."""

    watcher: Watcher
    tracking: Tracking

    def started(self, steps: int, done: int) -> None:
        self.watcher.started(steps, done)
        self.tracking.catch_up(done)

    def stepped(self, metrics: Mapping[str, float]) -> None:
        self.watcher.stepped(metrics)
        self.tracking.log(metrics)

    def measured(self, step: int, held_out: Mapping[str, Mapping[str, float]]) -> None:
        self.watcher.measured(step, held_out)
        for source, row in held_out.items():
            self.tracking.log({"step": step, "source": source, **row})

    def noted(self, message: str) -> None:
        self.watcher.noted(message)  # an answer that somebody's prompt got: it stays here

    def warned(self, message: str) -> None:
        self.watcher.warned(message)


def track_stage(
    name: TrackerName | None,
    recipe: Recipe,
    stage: Stage,
    place: Path,
    warn: Callable[[str], None],
) -> Tracking:
    """The tracking of a stage in its folder `place`, which remembers the tracker's run."""

    def open_it() -> Tracker:
        run = TrackedRun(
            f"{recipe.name}-{stage}-{_own(place)}", recipe.name, settings_of(recipe, stage)
        )
        return TRACKERS[name](run)  # type: ignore[index]

    return Tracking(open_it if name else None, place / METRICS, warn)


def settings_of(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """What a tracker is told of how a stage is trained: numbers, switches and choices of the
    recipe's, dotted. Not what was learned from, nor any text or path of a person's."""
    values = recipe.model_dump(mode="json")
    section = section_of(stage)
    told = {"model": values["model"], section: values[section], "evaluate": values["evaluate"]}
    flat = {key: value for key, value in _flat(told) if not key.endswith(PRIVATE)}
    return {"stage": stage, "seed": recipe.seed, "guildgpt": __version__, **flat}


# Keys whose values are a person's own words or places.
PRIVATE = (".system", ".documents", ".file", ".reward_model", ".attribution", ".adapter_base")


def final_figures(report: Report) -> dict[str, float]:
    """The numbers of a stage's report: held-out rows, sampled answers, what was preferred."""
    values = report.as_dict()
    told: dict[str, Any] = {
        "held_out": {one.pop("source"): one for one in values["held_out"]},
        "samples": values["samples_after"] or {},
        "preferences": {one["source"]: one["figures"] for one in values["preferences"]},
        "against_start": values["head_to_head"] or {},
        "kept": {one["name"]: one["after"] or {} for one in values["kept"]},
    }
    return finite({f"final/{key.replace('.', '/')}": value for key, value in _flat(told)})


def finite(figures: Mapping[str, Any]) -> dict[str, float]:
    """Those that are numbers."""
    return {
        key: float(value)
        for key, value in figures.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{before}.{key}" if before else key
        found += _flat(value, name) if isinstance(value, Mapping) else [(name, value)]
    return found


def _own(place: Path) -> str:
    """The end of a name that no other run has; noted, so that a resumed one goes on under it."""
    file = place / FILE
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["run"])
    except (OSError, ValueError, LookupError, TypeError):
        own = secrets.token_hex(4)
        place.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"run": own}) + "\n", encoding="utf-8")
        return own
