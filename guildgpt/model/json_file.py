"""A JSON object of a model folder, or an error that says what to do; or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from guildgpt.errors import ModelError


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; raises `ModelError`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"this file cannot be read ({error})",
            where=path,
            remedy="A model folder holds it; was it copied whole?",
        ) from error
    if not isinstance(value, dict):
        raise ModelError("this is not a JSON object", where=path)
    return value


def json_if_any(path: Path) -> dict[str, Any]:
    """The object in a file that may be missing or broken; then an empty one."""
    try:
        return read_json(path)
    except ModelError:
        return {}
