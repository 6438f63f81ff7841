"""The hash of what files hold, data or weights. Light to import: the terminal chat begins here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def file_sha256(path: Path) -> str:
    """The hash of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def combined(hashes: Sequence[str]) -> str:
    """The hash of files from theirs: of one its own, of several that of their digits in a row."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
