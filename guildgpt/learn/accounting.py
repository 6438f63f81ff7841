"""What a turn writes down of itself in the circle's log: what it learns from, how it was trained.

What the rounds decided, who was released and what was erased is written down where it happens, in
the same transaction (`feedback/versions/releases.py`, `decisions.py`, `feedback/erasing/`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from guildgpt.feedback.exporting.learnable import ROWS, Taken
from guildgpt.feedback.records import Decision, LogKind
from guildgpt.feedback.store import Store

MEASURES = ("loss", "accuracy", "bits_per_byte", "kl", "reward")


async def note_began(decision: Decision, taken: Taken, folder: Path, store: Store) -> None:
    """What the turn learns from: how many rows, by place, and what was left out; once, and once
    more when an erasure made it begin anew."""
    if await _newest(store, decision, ("began", "erased")) == "began":
        return
    counts = {key: value for key, value in asdict(taken).items() if key != "attribution"}
    detail = {
        **counts,
        "places": await _places(store, folder),
        "recipe": decision.settings.get("recipe"),
        "folder": folder.name,
    }
    await store.log.add("began", detail, decision_id=decision.id)


async def note_trained(
    decision: Decision, folder: Path, stages: Sequence[str], store: Store
) -> None:
    """How long it took, all attempts together, and where each stage's figures began and ended."""
    if await _newest(store, decision, ("began", "trained")) == "trained":
        return
    phases = _read(folder / "phases.json") or {}
    detail = {
        "minutes": round(sum(phases.values()) / 60, 2),
        "stages": {stage: figures_of(folder / stage / "metrics.jsonl") for stage in stages},
    }
    await store.log.add("trained", detail, decision_id=decision.id)


def figures_of(file: Path) -> dict[str, Any]:
    """The steps of a stage, and its first and last loss and measures, of its metrics' lines."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    rows = [json.loads(line) for line in lines]
    found: dict[str, Any] = {"steps": max((row.get("step", 0) for row in rows), default=0)}
    for key in MEASURES:
        values = [row[key] for row in rows if isinstance(row.get(key), int | float)]
        if values:
            found[key] = [round(values[0], 4), round(values[-1], 4)]
    return found


async def _newest(store: Store, decision: Decision, kinds: Sequence[LogKind]) -> LogKind | None:
    """Which of these the turn's log has had last."""
    entries = await store.log.entries(decision_id=decision.id)
    return next((one.kind for one in reversed(entries) if one.kind in kinds), None)


async def _places(store: Store, folder: Path) -> dict[str, int]:
    """How many of the rows' votes were cast where."""
    rows = (folder / ROWS).read_text(encoding="utf-8").splitlines()
    events = {event for row in rows for event in json.loads(row).get("origin", ())}
    ballots = await store.rounds.ballots()
    places = {f"vote:{vote.id}": one.round.place for one in ballots for vote in one.votes}
    counted = Counter(
        places.get(event, "elsewhere") for event in events if event.startswith("vote:")
    )
    return dict(sorted(counted.items()))


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
