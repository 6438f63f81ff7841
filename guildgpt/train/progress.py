"""Who is told how the training of a stage goes, and how that looks to the person who waits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from guildgpt.text.figures import duration

SMOOTHING = 20  # steps over which the shown speed is averaged
QUIET_SECONDS = 15.0  # between lines where there is no terminal to draw a bar on


class Watcher:
    """Who is told how it goes: a progress bar, a test. This one does nothing with it, as in every
    process but the main one."""

    def started(self, steps: int, done: int) -> None:
        """The loop begins, with `done` steps resumed from a checkpoint."""

    def stepped(self, metrics: Mapping[str, float]) -> None:
        """A step is done."""

    def measured(self, step: int, held_out: Mapping[str, Mapping[str, float]]) -> None:
        """Held-out rows were measured."""

    def noted(self, message: str) -> None:
        """Something worth a line: an answer that a policy wrote."""

    def warned(self, message: str) -> None:
        """Something went wrong that does not end the run."""


@dataclass
class ProgressWatcher(Watcher):
    """A bar with loss, speed, memory and time left; where the output
    is not a terminal, a line every now and then."""

    console: Console
    title: str
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True)

    def __post_init__(self) -> None:
        self.steps = 0
        self.rates: deque[float] = deque(maxlen=SMOOTHING)
        self.said_at = float("-inf")
        self.bar: Progress | None = None
        self.task = TaskID(0)

    def started(self, steps: int, done: int) -> None:
        """See `Watcher.started`."""
        self.steps = steps
        if done:
            self.warned(f"going on from step {done} of {steps}")
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed}/{task.total}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[figures]}"),
                console=self.console,
                transient=False,
            )
            self.task = self.bar.add_task(self.title, total=steps, completed=done, figures="")
            self.bar.start()

    def stepped(self, metrics: Mapping[str, float]) -> None:
        """See `Watcher.stepped`."""
        step = int(metrics["step"])
        self.rates.append(metrics["tokens_per_second"])
        rate = sum(self.rates) / len(self.rates)
        left = duration(metrics["seconds"] / step * (self.steps - step))
        learned = f"loss {metrics['loss']:.3f}"
        if "reward" in metrics:  # a policy's loss says nothing
            learned = f"reward {metrics['reward']:+.2f} · KL {metrics['kl']:.2f}"
        figures = (
            f"{learned} · {rate:,.0f} tok/s · "
            f"{metrics['memory_bytes'] / 2**30:.1f} GiB · {left} left"
        )
        last = step == self.steps
        if self.bar is not None:
            self.bar.update(self.task, completed=step, figures=figures)
        elif last or self.clock() - self.said_at >= QUIET_SECONDS:
            self.said_at = self.clock()
            line = f"{self.title} {step}/{self.steps} · {figures}"
            self.console.print(line, highlight=False, soft_wrap=True)
        if last:
            self.close()

    def measured(self, step: int, held_out: Mapping[str, Mapping[str, float]]) -> None:
        """See `Watcher.measured`."""
        figure = next(iter(next(iter(held_out.values()))))  # the first stands for the rest
        shown = ", ".join(f"{name} {row[figure]:.3f}" for name, row in held_out.items())
        self.noted(f"held-out {figure.replace('_', ' ')} at step {step}: {shown}")

    def noted(self, message: str) -> None:
        """See `Watcher.noted`."""
        self.console.print(f"  {message}", highlight=False, markup=False, soft_wrap=True)

    def warned(self, message: str) -> None:
        """See `Watcher.warned`."""
        self.console.print(f"  [yellow]{escape(message)}[/]", highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
