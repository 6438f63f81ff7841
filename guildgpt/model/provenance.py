"""What a model folder says of where it came from, in its provenance.json."""

from __future__ import annotations

import json
from pathlib import Path

from guildgpt.data.provenance import Provenance
from guildgpt.errors import refuse_newer

PROVENANCE_FILE = "provenance.json"


def read_provenance(folder: Path) -> list[Provenance]:
    """The base and the data that a model folder of ours was made from; nothing for others.

    Raises ModelError for a newer GuildGPT's."""
    try:
        record = json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))
        refuse_newer(record, folder / PROVENANCE_FILE)
        return [Provenance.from_dict(item) for item in record["sources"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


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
