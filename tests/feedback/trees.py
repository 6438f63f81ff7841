"""Trees out of a guild and out of a file, and what training's reader makes of them."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from guildgpt.chat import Comparison, Conversation
from guildgpt.data import oasst as loader
from guildgpt.feedback.exporting.oasst import trees
from guildgpt.feedback.exporting.oasst_import import read
from guildgpt.feedback.exporting.view import Export, View
from guildgpt.feedback.records import Snapshot

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def export(snapshot: Snapshot) -> Export:
    return trees(View(snapshot))


def dumps(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


def lines(snapshot: Snapshot) -> list[str]:
    return [dumps(row) for row in export(snapshot).rows]


def taken_in(path: Path, rows: list[Any]) -> tuple[Snapshot, Counter[str]]:
    """What an import makes of a file of these rows."""
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    left_out: Counter[str] = Counter()
    return read(path, now=NOW, left_out=left_out), left_out


KEEP = loader.Keep(("en",), "best", unreviewed=False, synthetic=False)


def load(path: Path, **keep: Any) -> tuple[list[list[str]], list[Comparison], Counter[str]]:
    """What training's reader makes of a file: threads, comparisons, what it skipped."""
    skipped: Counter[str] = Counter()
    items = list(loader.read(path, name="t", keep=replace(KEEP, **keep), skipped=skipped))
    threads = [
        [m.content for m in item.messages] for item in items if isinstance(item, Conversation)
    ]
    return threads, [item for item in items if isinstance(item, Comparison)], skipped


NODE = {"role": "prompter", "lang": "en", "review_count": 3, "review_result": True}


def node(id: str, text: str, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    role = "assistant" if id.startswith("a") else "prompter"
    row = {**NODE, "message_id": id, "role": role, "text": text, "deleted": False}
    below = [{**reply, "parent_id": id} for reply in replies]
    return {**row, "synthetic": False, **more, "replies": below}


def tree(prompt: dict[str, Any], **more: Any) -> dict[str, Any]:
    state = "ready_for_export"
    return {"message_tree_id": prompt["message_id"], "tree_state": state, "prompt": prompt, **more}
