"""Which rows of a source a model may be measured on: those that it was not trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from guildgpt.chat import Comparison, Conversation
from guildgpt.data import split_side
from guildgpt.model.provenance import PROVENANCE_FILE

Row = TypeVar("Row", Conversation, Comparison)

NOTE = "held-out rows only: the model was trained on the others"


def trained_on(folder: Path) -> dict[str, float]:
    """The hashes of the sources a model folder learned from, and the share held out of them.

    A stage may have read what an earlier run read, with another share: the smallest decides. Older
    folders do not say it of each source; then it is that of their last recipe.
    """
    shares: dict[str, float] = {}
    try:
        record = json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))
        last = record["recipe"]["data"]["held_out"]
        for item in record["sources"]:
            if item["kind"] == "data":
                own = item.get("held_out")
                share = float(last if own is None else own)
                shares[item["sha256"]] = min(share, shares.get(item["sha256"], share))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return shares


def unseen(rows: Sequence[Row], shares: Sequence[float]) -> list[Row]:
    """The rows that are on the held-out side for each of these shares; all where there is none."""
    return [row for row in rows if all(split_side(row, one) == "held_out" for one in shares)]
