"""A member's own data as files that Discord takes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from guildgpt.feedback.own_data import SECTIONS, as_json

NAME = "guildgpt-data"


def as_files(record: Mapping[str, Any], limit: int) -> list[tuple[str, bytes]]:
    """Names and contents of files of at most `limit` bytes: JSON if that is short enough, else
    zipped, else as many zipped parts as it takes. A single row that is longer is left in its part.
    """
    whole = as_json(record)
    if len(whole) <= limit:
        return [(f"{NAME}.json", whole)]
    rows = [(section, row) for section in SECTIONS for row in record[section]]
    count = 1
    while True:
        size = max(-(-len(rows) // count), 1)
        pieces = [rows[start : start + size] for start in range(0, len(rows), size)] or [[]]
        files = [
            _zipped(record, piece, number, len(pieces))
            for number, piece in enumerate(pieces, start=1)
        ]
        if size == 1 or max(len(content) for _, content in files) <= limit:
            return files
        count *= 2


def _zipped(
    record: Mapping[str, Any], rows: list[tuple[str, Any]], number: int, of: int
) -> tuple[str, bytes]:
    name = NAME if of == 1 else f"{NAME}-{number}-of-{of}"
    part = {**record, **{section: [] for section in SECTIONS}}
    for section, row in rows:
        part[section].append(row)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.json", as_json(part))
    return f"{name}.zip", packed.getvalue()
