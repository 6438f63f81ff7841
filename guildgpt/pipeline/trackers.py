"""Trackio and Weights & Biases behind one small contract: figures of steps, and final ones.

Neither is imported before it is asked for.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, Protocol, get_args

from guildgpt.errors import GuildError

TrackerName = Literal["trackio", "wandb"]
PROJECT = "guildgpt"

Figures = Mapping[str, float]


class Tracker(Protocol):
    """One run in a tracker."""

    last: int
    """The last step that it holds, from before a kill; -1 if it holds none."""

    def log(self, step: int, figures: Figures) -> None:
        """Take the figures of a step."""

    def finish(self, figures: Figures) -> None:
        """Take the final figures, and see that all are written."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a stage before it begins."""

    name: str  # unique, and the same after a kill
    group: str
    config: Mapping[str, Any]


class Trackio:
    """A run in Trackio: on this machine, unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says
    otherwise."""

    def __init__(self, run: TrackedRun):
        trackio: Any = import_module("trackio")
        with redirect_stdout(io.StringIO()):  # it greets
            self.run = trackio.init(
                project=PROJECT,
                name=run.name,
                group=run.group,
                config=dict(run.config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        self.run.finish = self._silently(self.run.finish)  # which is called at exit once more
        self.last = int(getattr(self.run, "_next_step", 0)) - 1

    @staticmethod
    def _silently(finish: Callable[[], None]) -> Callable[[], None]:
        """Without what it prints: "Uploading logs", even where all of them stay here."""

        def silent() -> None:
            with redirect_stdout(io.StringIO()):
                finish()

        return silent

    def log(self, step: int, figures: Figures) -> None:
        """See `Tracker.log`."""
        self.run.log(dict(figures), step=step)

    def finish(self, figures: Figures) -> None:
        """See `Tracker.finish`."""
        self.run.log(dict(figures))
        self.run.finish()


class Wandb:
    """A run in Weights & Biases: sent to its server, or kept in a folder with WANDB_MODE=offline.

    Of what it collects by itself, the terminal's lines (which show answers), the machine, the code
    and git stay here.
    """

    def __init__(self, run: TrackedRun):
        wandb: Any = import_module("wandb")
        self.run = wandb.init(
            project=PROJECT,
            id=run.name,
            name=run.name,
            group=run.group,
            config=dict(run.config),
            resume="allow",
            save_code=False,
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
            ),
        )
        self.last = int(self.run.step) - 1

    def log(self, step: int, figures: Figures) -> None:
        """See `Tracker.log`."""
        self.run.log(dict(figures), step=step)

    def finish(self, figures: Figures) -> None:
        """See `Tracker.finish`."""
        self.run.summary.update(dict(figures))
        self.run.finish()


TRACKERS: dict[TrackerName, Callable[[TrackedRun], Tracker]] = {"trackio": Trackio, "wandb": Wandb}


def tracker_named(name: str | None) -> TrackerName | None:
    """The tracker of this name. GuildError for another one, and where it is not installed."""
    if name is None:
        return None
    known = get_args(TrackerName)
    if name not in known:
        raise GuildError(
            f"there is no tracker `{name}`",
            where="--track",
            remedy=f"Name {' or '.join(known)}, or leave it out: a run's figures are in its report "
            "and in metrics.jsonl anyway.",
        )
    if find_spec(name) is None:
        raise GuildError(
            f"{name} is not installed here",
            where="--track",
            remedy=f"pip install {name}, or leave --track out.",
        )
    return name  # type: ignore[return-value]
