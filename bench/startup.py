"""How long a person waits: `guildgpt --help`, and the first word of `guildgpt chat`.

Whole processes, from their start, with the model in the cache (it is fetched first if need be).
Run on an otherwise idle machine: python bench/startup.py [RUNS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from guildgpt.model.starter import starter_gguf

GUILDGPT = [sys.executable, "-m", "guildgpt"]
QUESTION = b"What is TLS?\n"
BUDGET = 2.0  # seconds to the first word


def help_time() -> float:
    """Seconds until `guildgpt --help` is done."""
    start = time.perf_counter()
    subprocess.run([*GUILDGPT, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def first_word_time() -> float:
    """Seconds until `guildgpt chat starter` writes the first bytes of an answer."""
    start = time.perf_counter()
    command = [*GUILDGPT, "chat", "starter", "--max-tokens", "8"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(QUESTION)
        process.stdin.close()
        first = process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.stdout.read()
    if not first or process.returncode:
        raise SystemExit(f"`guildgpt chat` answered nothing (status {process.returncode})")
    return seconds


def import_time() -> float:
    """Seconds that a bare interpreter takes, the floor of both figures."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - start


def report(what: str, measure: Callable[[], float], runs: int) -> float:
    """Print the median and the range of some runs after one that warms the disk's cache."""
    measure()
    times = sorted(measure() for _ in range(runs))
    median = statistics.median(times)
    print(f"{what:<28}{median:6.2f} s   ({times[0]:.2f} to {times[-1]:.2f}, {runs} runs)")
    return median


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    starter_gguf(on_progress=print)
    busy = Path("/proc/loadavg")
    print(f"load: {busy.read_text().strip() if busy.exists() else 'unknown'}")
    report("python -c pass", import_time, runs)
    report("guildgpt --help", help_time, runs)
    if report("guildgpt chat: first word", first_word_time, runs) > BUDGET:
        raise SystemExit(f"over the budget of {BUDGET:.0f} s")


if __name__ == "__main__":
    main()
