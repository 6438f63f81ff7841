"""How many threads llama.cpp should take, on a machine that may be busy with something else.

Its threads wait for each other hundreds of times per token, spinning. Where they outnumber the
idle cores, each wait lasts until the scheduler brings the missing thread back: on two cores beside
one busy process we saw 13 tokens/s with two threads and 30 with one (1.2 and 22 while they spun for
longer, see `llamacpp_process.SPINS`).
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

LOAD = Path("/proc/loadavg")
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def spare_threads(load: Path = LOAD, quota: Path = QUOTA) -> int | None:
    """Threads to use now, or None where the machine is idle and all ours: llama.cpp knows best.

    Takes fifteen milliseconds. Systems without /proc count as idle.
    """
    cores = os.cpu_count() or 1
    ours = min(usable_cores(), _quota(quota, cores))
    busy = _busy(load)
    if busy:
        # Half of the cores at most: the others are likely siblings of those already at work.
        return max(1, min(ours - busy, ours // 2))
    return ours if ours < cores else None


def usable_cores() -> int:
    """Cores that the system lets this process use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(path: Path, cores: int) -> int:
    """Whole cores that a container's time limit amounts to ("200000 100000" is two)."""
    try:
        limit, period = path.read_text().split()
        return cores if limit == "max" else max(1, math.floor(int(limit) / int(period)))
    except (OSError, ValueError):
        return cores


def _busy(path: Path) -> int:
    """Threads of others that are running: the median of five looks, so that a blip counts not."""
    running = []
    try:
        for _ in range(5):
            running.append(int(path.read_text().split()[3].partition("/")[0]))
            time.sleep(0.003)
    except (OSError, ValueError, IndexError):
        return 0
    return max(0, sorted(running)[2] - 1)  # one of them is looking
