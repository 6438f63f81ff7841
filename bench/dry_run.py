"""Time and memory of `guildgpt train --dry-run` on 100,000 rows, from files of every kind.

Each run is a process of its own; its peak is what the kernel (Linux) says of it, and its time that
of the CPU, so that what else the machine does matters little. The rows are drawn from the starter
pack's words, as long as people's, no two alike: python bench/dry_run.py [ROWS]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import pyarrow
from pyarrow import parquet
from rich.console import Console

from guildgpt.data.starter import starter_prompts

WORDS = 120  # of an answer
RECIPE = """\
name = "big"
policy = "open"

[model]
base = "starter"

[data]
sources = ["{path}"]

[sft]
epochs = 1
"""


def rows(count: int) -> Iterator[dict[str, str]]:
    """Questions and answers of words that are there."""
    random = Random(0)
    words = [word for one in starter_prompts() for word in one.prompt.split()]
    for number in range(count):
        said = " ".join(random.choices(words, k=WORDS))
        yield {"prompt": f"{number}: {random.choice(words)}?", "completion": said}


def write(folder: Path, count: int) -> dict[str, Path]:
    """The same rows as JSON lines, as one JSON list, and as Parquet."""
    paths = {kind: folder / f"rows.{kind}" for kind in ("jsonl", "json", "parquet")}
    with paths["jsonl"].open("w") as lines, paths["json"].open("w") as listed:
        listed.write("[")
        for number, row in enumerate(rows(count)):
            lines.write(json.dumps(row) + "\n")
            listed.write("," * (number > 0) + json.dumps(row))
        listed.write("]")
    parquet.write_table(pyarrow.Table.from_pylist(list(rows(count))), paths["parquet"])
    return paths


def load_only(path: Path) -> dict[str, Any]:
    """What reading alone takes."""
    from guildgpt.data import SourceSpec, load

    return measured(lambda: len(load(SourceSpec.parse(str(path))).conversations))


def dry_run(path: Path) -> dict[str, Any]:
    """What the whole command takes, libraries included."""
    from guildgpt.pipeline.plan import dry_run as plan
    from guildgpt.recipe import load_recipe

    recipe = path.with_suffix(".toml")
    recipe.write_text(RECIPE.format(path=path))
    quiet = Console(quiet=True)
    return measured(lambda: plan(load_recipe(recipe), quiet)["stages"]["sft"]["rows"])


def measured(work: Any) -> dict[str, Any]:
    """The result of something, its CPU seconds, and the process's most memory before and after."""
    before = peak()
    start = time.process_time()
    result = work()
    seconds = time.process_time() - start
    return {"rows": result, "seconds": seconds, "before_mb": before, "peak_mb": peak()}


def peak() -> float:
    """The process's most memory so far, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3


def main() -> None:
    """Print a table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        with get_context("spawn").Pool(1) as pool:
            paths = pool.apply(write, (Path(folder), count))
        for kind, path in paths.items():
            for what in (load_only, dry_run):
                with get_context("spawn").Pool(1) as pool:  # a process of its own
                    one = pool.apply(what, (path,))
                print(
                    f"{kind:8} {path.stat().st_size / 1e6:6.0f} MB  {what.__name__:10} "
                    f"{one['rows']:,} rows  {one['seconds']:6.1f} s of CPU  "
                    f"{one['before_mb']:6.0f} -> {one['peak_mb']:6.0f} MB"
                )


if __name__ == "__main__":
    main()
