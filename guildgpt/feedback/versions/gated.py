"""What a gate said of a version: noted in the circle's log, and looked up before it is tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guildgpt.feedback.store import Store

KEYS = ("candidate", "serving", "on", "passed", "why")
STATES = ("failed", "advisory", "not measured")
MEASURE = "`guildgpt learn gate MODEL` measures it against who serves."


async def note_gate(
    store: Store, found: Mapping[str, Any], *, decision_id: str | None = None
) -> None:
    """Write down what a gate found; of a decision once, whoever is killed here."""
    detail = {key: found[key] for key in KEYS}
    detail |= {
        state: [one["name"] for one in found["measures"] if one["state"] == state]
        for state in STATES
    }
    there = await store.log.entries(decision_id=decision_id) if decision_id else []
    if not any(one.kind == "gate" and one.detail == detail for one in there):
        await store.log.add("gate", detail, decision_id=decision_id)


async def not_gated(store: Store, version_id: str) -> list[str]:
    """What an operator must know who tries a version on members: lines, none where it passed a
    gate when it was measured last."""
    entries = [one for one in await store.log.entries() if one.kind == "gate"]
    of_it = [one.detail for one in entries if one.detail["candidate"] == version_id]
    if not of_it or not of_it[-1]["on"]:
        return [f"No gate has measured it: it may loop, or answer what is unsafe. {MEASURE}"]
    if not of_it[-1]["passed"]:
        return [f"It did not pass the gate: {of_it[-1]['why']}."]
    return []
