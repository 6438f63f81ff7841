"""Votes that the candidate does not learn from: they teach the judge that it meets at the gate.

From `gate.judge_from` votes on, a fixed part of the prompts is the judge's: their rows are taken
out of what a turn learns from. Which prompts, follows from their words, for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guildgpt.data.origin import events_of
from guildgpt.data.split import fraction, normalised
from guildgpt.evaluate.config import GateConfig
from guildgpt.feedback.exporting.exports import write_lines
from guildgpt.feedback.exporting.learnable import ROWS

ASIDE = "judge.jsonl"  # beside the rows that a turn learns from
FEWEST = 8  # rows that a judge takes at least


def set_aside(folder: Path, config: GateConfig, least: int) -> int:
    """Take the judge's rows out of those that were taken for a turn, once; how many are its own.

    None are while there are fewer votes than `judge_from`, or too few rows would be left. A process
    that is killed in here does it again.
    """
    rows, aside = rows_in(folder / ROWS), rows_in(folder / ASIDE)
    theirs = [row for row in rows if is_the_judges(row, config.judge_share)]
    rest = [row for row in rows if not is_the_judges(row, config.judge_share)]
    enough = len(rest) >= max(least, FEWEST) and len(theirs) >= FEWEST
    if not config.on or not enough or votes_of([*rows, *aside]) < config.judge_from:
        return len(aside)
    write_lines(folder / ASIDE, theirs)
    write_lines(folder / ROWS, rest)
    return len(theirs)


def is_the_judges(row: Mapping[str, Any], share: float) -> bool:
    """Whether a comparison teaches the judge: its prompt says so, whoever answered it. Corrections
    and rows of other kinds always teach the candidate."""
    if not {"prompt", "chosen", "rejected"} <= row.keys():
        return False
    if any(kind == "correction" for kind, _ in events_of(dict(row), ROWS)):
        return False
    asked = " ".join(turn["content"] for turn in row["prompt"] if turn["role"] == "user")
    return fraction("judge", normalised(asked)) < share


def votes_of(rows: Sequence[dict[str, Any]]) -> int:
    """How many votes stand behind the rows."""
    return len({event for row in rows for event in events_of(row, ROWS) if event[0] == "vote"})


def rows_in(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines; none where there is no such file."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
