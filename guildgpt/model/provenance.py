"""What a model folder says of where it came from, in its provenance.json."""

from __future__ import annotations

import json
from pathlib import Path

from guildgpt.data.provenance import Provenance

PROVENANCE_FILE = "provenance.json"


def read_provenance(folder: Path) -> list[Provenance]:
    """The base and the data that a model folder of ours was made from; nothing for others."""
    try:
        record = json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))
        return [Provenance.from_dict(item) for item in record["sources"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
