"""Names on the Hugging Face Hub: OWNER/NAME, and what is a path and must stay at home."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

# The starter is that model in four bits; see `bases/licences.py`.
STARTER_ON_THE_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# A path from the root of a disk or of somebody's home, after a word such as `jsonl:`.
_PATH = re.compile(
    r"(?:(?P<kind>[a-z0-9]{2,}):)?(?P<path>(?:/(?!/)|file://|[\\~]|[A-Za-z]:[/\\]).*)", re.S
)


def on_the_hub(name: str) -> bool:
    """Whether a text can be the name of a repository, and is no folder here."""
    return bool(_NAME.fullmatch(name)) and not Path(name).expanduser().exists()


def without_paths(value: Any) -> Any:
    """A recipe's values with every path cut to its last part, for the rest says how a machine is
    laid out and who works on it; and a store's address to the word `feedback`."""
    if isinstance(value, dict):
        return {key: without_paths(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_paths(one) for one in value]
    if not isinstance(value, str):
        return value
    if value.startswith("feedback:") or ("://" in value.partition("@")[0] and "@" in value):
        return value.partition(":")[0]
    if found := _PATH.fullmatch(value):
        last = re.split(r"[/\\]", found["path"].rstrip("/\\"))[-1]
        return f"{found['kind']}:{last}" if found["kind"] else last
    return value
