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
