"""Every version with what is to be known of it, for whoever decides which of them answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from guildgpt.feedback.store import Store
from guildgpt.feedback.versions import registering, releasing
from guildgpt.feedback.versions.deciding import in_words, look


async def list_versions(store: Store) -> dict[str, Any]:
    """The `versions`, each with its share, since when, what it learned from and what speaks against
    it, and the `decision` that is open, with what it `says`."""
    history = await store.releases.history()
    learned = await store.versions.learned_from()
    decision = await store.decisions.current()
    versions = []
    for one in await store.versions.all():
        share, since = releasing.share_since(history, one.id)
        row = asdict(one) | {"share": share, "since": since, "learned": learned.get(one.id, {})}
        row["candidate"] = decision is not None and decision.candidate_id == one.id
        row["flaw"] = registering.flaw(one)
        versions.append(row)
    stands = None
    if decision is not None and decision.candidate_id:
        decision, standing = await look(store, decision)
        says = f"{decision.candidate_id} is the candidate ({decision.state}). {in_words(standing)}"
        stands = asdict(decision) | {"says": says}
    return {"versions": versions, "decision": stands}
