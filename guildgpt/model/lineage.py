"""`lineage.json` in a model folder: the votes, ratings and messages that the model learned from.

    {"format": 1, "events": {"message": ["id", …], "rating": […], "vote": […]}}

The ids are the feedback store's, those of every stage that led to the model included, so that an
erasure can name the model. A kind of which there is none is left out; folders of before this file
have none, and their models are noted by `guildgpt feedback learned`.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ValidationError

from guildgpt.data.origin import Events
from guildgpt.errors import FORMAT, ModelError, refuse_newer
from guildgpt.model.json_file import read_json

LINEAGE_FILE = "lineage.json"


class _Lineage(BaseModel):
    """The file's content."""

    format: int = FORMAT
    events: dict[str, list[str]]


def write_lineage(folder: Path, events: Events) -> None:
    """Note in a model folder what its model learned from; also where that is nothing."""
    by_kind: dict[str, list[str]] = {}
    for kind, id in sorted(events):
        by_kind.setdefault(kind, []).append(id)
    record = _Lineage(events=by_kind).model_dump()
    (folder / LINEAGE_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_lineage(model: str | Path) -> Events:
    """What a model learned from, given its folder or a file in it; nothing where none is noted.

    ModelError for a file that is broken or of a newer version.
    """
    path = Path(model).expanduser()
    file = (path if path.is_dir() else path.parent) / LINEAGE_FILE
    if not file.exists():
        return set()
    record = read_json(file)
    refuse_newer(record, file)
    try:
        events = _Lineage.model_validate(record).events
    except ValidationError as error:
        raise ModelError(
            "this does not say what the model learned from",
            where=file,
            remedy='It is {"format": 1, "events": {"vote": ["id", …], …}}; copy it again.',
        ) from error
    return {(kind, id) for kind, ids in events.items() for id in ids}
