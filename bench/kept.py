"""Constraints kept by two models on the same prompts, and by how much one keeps more.

    guildgpt eval runs/instructions/sft/model --constraints 500 --json > before.json
    guildgpt eval runs/instructions/grpo/model --constraints 500 --json > after.json
    python bench/kept.py before.json after.json

Differences in points, with intervals of 95 %, prompts resampled in pairs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

RESAMPLES = 4000


def figures(before: Sequence[Any], after: Sequence[Any]) -> str:
    """Both models on one set of prompts, in a line."""
    if [one["prompt"] for one in before] != [one["prompt"] for one in after]:
        raise SystemExit("the two files are of different prompts")
    drawn = np.random.default_rng(0).integers(len(before), size=(RESAMPLES, len(before)))
    asked = np.array([len(one["kept"]) for one in before])
    kept = [np.array([sum(one["kept"]) for one in side]) for side in (before, after)]
    whole = [side == asked for side in kept]
    gain, of_whole = kept[1] - kept[0], whole[1].astype(float) - whole[0]
    each = gain[drawn].sum(1) / asked[drawn].sum(1)
    return "; ".join(
        f"{name} {100 * shares[0]:.1f} → {100 * shares[1]:.1f} %, {100 * mean:+.1f} "
        f"({' to '.join(f'{100 * edge:.1f}' for edge in np.percentile(spread, [2.5, 97.5]))})"
        for name, shares, mean, spread in (
            ("all of a prompt", [one.mean() for one in whole], of_whole.mean(),
             of_whole[drawn].mean(1)),
            ("each", [one.sum() / asked.sum() for one in kept], gain.sum() / asked.sum(), each),
        )
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    args = parser.parse_args(arguments)
    before, after = (
        json.loads(path.read_text(encoding="utf-8"))["constrained_answers"]
        for path in (args.before, args.after)
    )
    for name in before:
        print(f"{name}: {figures(before[name], after[name])}")


if __name__ == "__main__":
    main()
