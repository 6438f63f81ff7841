"""What the circle did, turn by turn, as plain values: for the page that an operator reads.

A turn is a decision with all that happened on the way to it. Nothing in here is a member's words or
name: counts, figures, reasons, and names of versions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from statistics import fmean
from typing import Any

from guildgpt.feedback.records import Decision, LogEntry
from guildgpt.feedback.storage.rows import utcnow
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.betting import DecisionSettings, evidence, interval

NIGHTS = ("night", "waited", "too_little", "nothing_new", "failed")
LAST_NIGHTS = 60
LEARNED = ("vote", "correction", "rating")


async def story(store: Store, *, now: datetime | None = None) -> dict[str, Any]:
    """Who answers, the turns, what happened to versions that no turn made, and the last nights; all
    the newest first."""
    entries = await store.log.entries()
    decisions = await store.decisions.all()
    theirs = {one.candidate_id for one in decisions}
    others = [one for one in entries if not one.decision_id and one.kind not in NIGHTS]
    nights = [one for one in entries if one.kind in NIGHTS][-LAST_NIGHTS:]
    return {
        "at": (now or utcnow()).isoformat(),
        "serving": [
            {"version": one.version_id, "share": one.share, "since": one.created_at.isoformat()}
            for one in await store.releases.current()
        ],
        "turns": [await _turn(store, one, entries) for one in decisions],
        "others": [_told(one) for one in reversed(others) if _rolled_back(one) not in theirs],
        "nights": [_told(one) for one in reversed(nights)],
    }


def _told(entry: LogEntry) -> dict[str, Any]:
    return {"at": entry.created_at.isoformat(), "kind": entry.kind} | entry.detail


def _rolled_back(entry: LogEntry) -> str | None:
    """The version that a rollback took out of service."""
    return entry.detail.get("instead_of") if entry.kind == "rolled_back" else None


async def _turn(store: Store, decision: Decision, entries: Sequence[LogEntry]) -> dict[str, Any]:
    own = [
        one
        for one in entries
        if one.kind not in NIGHTS
        and (
            one.decision_id == decision.id
            or (decision.candidate_id is not None and _rolled_back(one) == decision.candidate_id)
        )
    ]
    last = {one.kind: one.detail for one in own}
    released = [one for one in own if one.kind in ("promoted", "rolled_back")]
    means = [one for one in await store.rounds.means(decision.id) if one.mean is not None]
    version = await store.versions.by_id(decision.candidate_id or "")
    return {
        "id": decision.id,
        "candidate": decision.candidate_id,
        "baseline": decision.baseline_id,
        "state": decision.state,
        "why": decision.why,
        "rolled_back": _told(released[-1]) if released and _rolled_back(released[-1]) else None,
        "began_at": decision.created_at.isoformat(),
        "changed_at": decision.updated_at.isoformat(),
        "votes": last.get("began"),
        "training": last.get("trained"),
        "gate": decision.gate,
        "canary": {
            "rule": rule_of(decision).model_dump(),
            "rounds": curve([one.mean or 0.0 for one in means], decision),
            "people": means[-1].people if means else 0,
            "excluded": sum(one.excluded for one in means),
        },
        "learned_from": await _learned(store, decision),
        "erased": bool(decision.erased_at or (version is not None and version.erased_at)),
        "log": [_told(one) for one in own],
    }


def rule_of(decision: Decision) -> DecisionSettings:
    """The rule that a decision was begun with."""
    known = DecisionSettings.model_fields.keys() & decision.settings.keys()
    return DecisionSettings.model_validate({key: decision.settings[key] for key in known})


def curve(means: Sequence[float], decision: Decision) -> list[dict[str, float]]:
    """After each round: the mean so far with the interval that holds at every look, and how many
    times richer the two gamblers are (`betting.evidence`)."""
    rule = rule_of(decision)
    seen = list(means)[: rule.max_rounds]
    found = evidence(seen, rule) if seen else None
    points = []
    for count in range(1, len(seen) + 1):
        low, high = interval(seen[:count], rule)
        point = {"round": float(count), "mean": fmean(seen[:count]), "low": low, "high": high}
        if found is not None:
            point["preferred"] = float(found.preferred[count - 1])
            point["not_preferred"] = float(found.not_preferred[count - 1])
        points.append(point)
    return points


async def _learned(store: Store, decision: Decision) -> dict[str, int]:
    """How many votes, corrections and ratings stand behind it."""
    events = await store.versions.events_of(decision.id)
    if decision.candidate_id:
        events |= await store.versions.events_of(decision.candidate_id)
    kinds = Counter(kind for kind, _ in events)
    return {kind: kinds[kind] for kind in LEARNED if kinds[kind]}
