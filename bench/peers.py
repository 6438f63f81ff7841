"""What the benchmarks share: each side in a process of its own, in turn, and what it takes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

Side = Callable[..., dict[str, float]]
Clock = Callable[[], float]


def clock_for(threads: int) -> Clock:
    """Has torch compute with so many threads; what a side is timed with: seconds on the wall, or
    the processor's where one thread alone computes. These hold on a machine that is busy."""
    import torch

    torch.set_num_threads(threads)
    return time.process_time if threads == 1 else time.perf_counter


class Watch:
    """A watcher that keeps every step's figures, and when it was over."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.seen: list[dict[str, float]] = []
        self.clock, self.times = clock, [clock()]

    def started(self, steps: int, done: int) -> None: ...
    def stepped(self, metrics: Any) -> None:
        self.seen.append(dict(metrics))
        self.times.append(self.clock())

    def seconds(self) -> list[float]:
        """What each step took, all but the first, which comes with what is set up."""
        return [after - before for before, after in pairwise(self.times)][1:]

    def measured(self, step: int, held_out: Any) -> None: ...
    def noted(self, message: str) -> None: ...
    def warned(self, message: str) -> None:
        print(message, file=sys.stderr)


def resident() -> int:
    """Bytes the process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_resident() -> int:
    """The most bytes the process ever held."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def as_child(sides: Mapping[str, Side]) -> bool:
    """In a child process: run the side that the command line names, and print its figures."""
    if sys.argv[1:2] != ["--child"]:
        return False
    name, *arguments = sys.argv[2:]
    print(json.dumps(sides[name](*arguments)))
    return True


def run_side(script: str, name: str, *arguments: object, python: str = "") -> dict[str, float]:
    """Run one side in a fresh process; its figures."""
    command = [python or sys.executable, script, "--child", name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def pairs(title: str, first: Callable[[], dict[str, float]], second: Callable[[], dict[str, float]],
          figure: str, repeat: int, *, less_is_better: bool = False) -> None:  # fmt: skip
    """Two sides in turn, `repeat` times; medians of one figure and the ratio pair by pair."""
    ours, theirs, ratios = [], [], []
    for _ in range(repeat):
        theirs.append(second())
        ours.append(first())
        ratio = ours[-1][figure] / theirs[-1][figure]
        ratios.append(1 / ratio if less_is_better else ratio)
        print(f"  peer {_short(theirs[-1])}\n  ours {_short(ours[-1])}\n  ratio {ratios[-1]:.2f}",
              flush=True)  # fmt: skip
    print(
        f"{title}: GuildGPT {median(ours, figure):.3g}, peer {median(theirs, figure):.3g} "
        f"{figure}: {statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f}, "
        f"{repeat} pairs)"
    )


def median(results: Sequence[Mapping[str, float]], figure: str) -> float:
    """The median of a figure."""
    return statistics.median(one[figure] for one in results)


def _short(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
