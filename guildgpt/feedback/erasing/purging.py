"""What an erasure takes away on disk: what a turn of the circle holds of somebody's words.

A turn's folder has the rows that it learned from, checkpoints, sampled answers and reports, and the
models of its stages. Of a version that learned from what was erased only what answers stays, until
it is replaced: of its own model folder the weights, the tokenizer, and the record of what it is.
"""

from __future__ import annotations

import asyncio
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
    known = {one.id: one for one in await store.versions.all()}
    versions = {id: one for id, one in known.items() if one.erased_at}
    marked = [
        one
        for one in await store.decisions.all()
        if one.folder and (one.erased_at or one.candidate_id in versions)
    ]
    at_work = await store.leases.holder("learn") is not None
    files: list[Path] = []
    for decision in marked:
        training = decision.state == "training"
        if not (decision.state in ("training", "gate") and at_work):
            trained = None if training else known.get(decision.candidate_id or "")
            model = Path(trained.path).parent if trained else None
            files += await asyncio.to_thread(_beside, Path(decision.folder or ""), model)
    for version in versions.values():
        files += [Path(version.path).with_name(name) for name in REPORTS]
    return await asyncio.to_thread(lambda: sum(map(_unlinked, files)))


def _beside(folder: Path, model: Path | None) -> list[Path]:
    """The files of a turn's folder but what stays of the model."""
    kept = model.resolve() if model else None
    return [
        file
        for file in folder.rglob("*")
        if not file.is_dir() and not (file.parent.resolve() == kept and any(map(file.match, STAYS)))
    ]


def _unlinked(file: Path) -> bool:
    if not file.is_file():
        return False
    file.unlink(missing_ok=True)
    return True
