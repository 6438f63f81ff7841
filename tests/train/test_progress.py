"""What the person who waits is shown: lines in a log, a bar on a terminal, and the time left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from guildgpt.train.progress import QUIET_SECONDS, ProgressWatcher


def metrics(step: int, seconds: float, **more: float) -> dict[str, float]:
    return {
        "step": step,
        "loss": 2.345,
        "tokens_per_second": 1200.0,
        "memory_bytes": 3 * 2**30,
        "seconds": seconds,
        **more,
    }


class Shown:
    """A watcher on a console of its own, and a clock set by hand."""

    def __init__(self, terminal: bool = False):
        self.out = io.StringIO()
        self.now = 1000.0
        console = Console(file=self.out, force_terminal=terminal, width=120, color_system=None)
        self.watcher = ProgressWatcher(console, "sft", clock=lambda: self.now)

    @property
    def text(self) -> str:
        return self.out.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


def test_lines_where_there_is_no_terminal() -> None:
    shown = Shown()
    shown.watcher.started(100, 0)
    shown.watcher.stepped(metrics(1, seconds=2.0))
    assert shown.lines == ["sft 1/100 · loss 2.345 · 1,200 tok/s · 3.0 GiB · 3 min 18 s left"]
    assert "\x1b" not in shown.text


def test_lines_come_now_and_then_and_at_the_end() -> None:
    shown = Shown()
    shown.watcher.started(40, 0)
    for step in range(1, 41):
        shown.now += 1.0
        shown.watcher.stepped(metrics(step, seconds=step))
    steps = [int(line.split()[1].split("/")[0]) for line in shown.lines]
    assert steps == [1, 1 + int(QUIET_SECONDS), 1 + 2 * int(QUIET_SECONDS), 40]


def test_a_bar_on_a_terminal() -> None:
    shown = Shown(terminal=True)
    shown.watcher.started(4, 0)
    for step in range(1, 5):
        shown.watcher.stepped(metrics(step, seconds=step))
    assert shown.watcher.bar is None  # the last step leaves it as it stands
    assert "\x1b[" in shown.text  # drawn in place
    assert "━" in shown.text
    last = [line for line in shown.lines if "4/4" in line][-1]
    assert "loss 2.345 · 1,200 tok/s · 3.0 GiB · 0.0 s left" in last


def test_a_bar_that_is_cut_short_is_closed() -> None:
    shown = Shown(terminal=True)
    shown.watcher.started(4, 0)
    shown.watcher.stepped(metrics(1, seconds=1))
    shown.watcher.close()
    shown.watcher.close()
    assert shown.watcher.bar is None
    assert "\x1b[?25h" in shown.text  # the cursor is shown again


def test_the_time_left_after_a_resume_counts_training_alone() -> None:
    """90 steps took 900 s of training in two runs; how long this one has been up is no matter."""
    shown = Shown()
    shown.watcher.started(100, 90)
    shown.now += 5.0
    shown.watcher.stepped(metrics(91, seconds=910.0))
    assert shown.lines[0] == "  going on from step 90 of 100"
    assert shown.lines[1].endswith("· 1 min 30 s left")


@pytest.mark.parametrize(
    ("seconds", "left"), [(0.01, "1.0 s"), (36.0, "1 h 00 min"), (1000.0, "27 h 46 min")]
)
def test_the_time_left_in_words(seconds: float, left: str) -> None:
    shown = Shown()
    shown.watcher.started(101, 0)
    shown.watcher.stepped(metrics(1, seconds=seconds))
    assert shown.lines[0].endswith(f"· {left} left")


def test_the_speed_is_an_average_over_the_last_steps() -> None:
    shown = Shown()
    shown.watcher.started(1000, 0)
    for step in range(1, 31):
        shown.now += QUIET_SECONDS
        rate = 100.0 if step <= 10 else 200.0
        shown.watcher.stepped(metrics(step, seconds=step, tokens_per_second=rate))
    assert "· 150 tok/s" in shown.lines[19]
    assert "· 200 tok/s" in shown.lines[29]


@pytest.mark.parametrize("terminal", [False, True])
def test_measurements_and_warnings_are_told_as_they_are(terminal: bool) -> None:
    """Names and paths are the user's own, brackets and all."""
    shown = Shown(terminal)
    shown.watcher.started(10, 0)
    shown.watcher.measured(5, {"my [bold]rows": {"bits_per_byte": 1.2345}})
    shown.watcher.warned("/runs/[/x]/step-1 is damaged and was passed over")
    shown.watcher.close()
    assert "  held-out bits per byte at step 5: my [bold]rows 1.234" in shown.text
    assert "/runs/[/x]/step-1 is damaged and was passed over" in shown.text
