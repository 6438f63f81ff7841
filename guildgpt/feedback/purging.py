"""What an erasure takes away on disk: what a turn of the circle holds of somebody's words.

A turn's folder has the rows that it learned from, checkpoints, sampled answers and reports. Of a
version that learned from what was erased only what answers stays, until it is replaced: its
weights, its tokenizer, and the record of what it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from guildgpt.feedback.store import Store

STAYS = (
    *("*.gguf", "*.safetensors", "config.json", "generation_config.json", "tokenizer*.json"),
    *("template.json", "chat_template.jinja", "lineage.json", "provenance.json", "spiece.model"),
)

REPORTS = ("report.html", "report.json")  # beside a model, with answers that were sampled


async def purge(store: Store) -> int:
    """Take the texts out of the folders of turns that learned from what was erased, and the reports
    out of those of other versions that did, as far as they lie on this machine; how many files
    went. A turn that is being trained sees to its own."""
    versions = {one.id: one for one in await store.versions.all() if one.erased_at}
    marked = [
        one
        for one in await store.decisions.all()
        if one.folder and (one.erased_at or one.candidate_id in versions)
    ]
    at_work = await store.leases.holder("learn") is not None
    files: list[Path] = []
    for decision in marked:
        training = decision.state == "training"
        if not (training and at_work):
            files += _texts(Path(decision.folder or ""), [] if training else STAYS)
    for known in versions.values():
        files += [Path(known.path).with_name(name) for name in REPORTS]
    return await asyncio.to_thread(lambda: sum(map(_unlinked, files)))


def _texts(folder: Path, stays: Sequence[str]) -> list[Path]:
    """The files of a turn's folder but those that stay."""
    return [
        file
        for file in folder.rglob("*")
        if not file.is_dir() and not any(file.match(kept) for kept in stays)
    ]


def _unlinked(file: Path) -> bool:
    if not file.is_file():
        return False
    file.unlink(missing_ok=True)
    return True
