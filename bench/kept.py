"""Constraints kept by two models on the same prompts, and by how much one keeps more.

    guildgpt eval runs/instructions/sft/model --constraints 500 --json > before.json
    guildgpt eval runs/instructions/grpo/model --constraints 500 --json > after.json
    python bench/kept.py before.json after.json

Differences in points, with intervals of 95 %, prompts resampled in pairs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from guildgpt.evaluate.kept import ConstrainedAnswer, kept_change, kept_figures


def figures(before: Sequence[Any], after: Sequence[Any]) -> str:
    """Both models on one set of prompts, in a line."""
    was, now = ([ConstrainedAnswer(**one) for one in side] for side in (before, after))
    if (change := kept_change(was, now)) is None:
        raise SystemExit("the two files are of different prompts")
    first, second = kept_figures(was), kept_figures(now)
    return "; ".join(
        f"{name} {100 * a.rate:.1f} → {100 * b.rate:.1f} %, {100 * more.rate:+.1f} "
        f"({100 * more.low:.1f} to {100 * more.high:.1f})"
        for name, a, b, more in (
            ("all of a prompt", first.all_kept, second.all_kept, change.all_kept),
            ("each", first.each_kept, second.each_kept, change.each_kept),
        )
    )


def answers(path: Path) -> Any:
    """Those that a file of `guildgpt eval` holds, by set of prompts."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["constrained_answers"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(
            f"{path} is not of `guildgpt eval MODEL --constraints N --json` ({error!r})"
        ) from None


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    args = parser.parse_args(arguments)
    before, after = (answers(path) for path in (args.before, args.after))
    for name in before:
        print(f"{name}: {figures(before[name], after[name])}")


if __name__ == "__main__":
    main()
