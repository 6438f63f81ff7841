"""A model file that stays open while its engine runs, so that what is said of it is true of what
was loaded, whatever becomes of its name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from guildgpt.errors import EngineDied
from guildgpt.model.gguf_file import Head, check_magic, head_of

Mark = tuple[int, int, int, int]


class HeldFile:
    """A file, and what it was like when it was opened; raises `EngineError` if it is no GGUF."""

    def __init__(self, path: Path):
        check_magic(path)
        self.path = path
        self._stream = path.open("rb")
        self._mark = _mark(os.fstat(self._stream.fileno()))

    def check_unchanged(self) -> None:
        """Raise `EngineDied` where the file was written to since it was opened."""
        self._check(self._stream.fileno())

    def check_in_place(self) -> None:
        """Raise `EngineDied` where its name belongs to another file by now, or to none."""
        self._check(self.path)

    def head(self) -> Head:
        """The file's head."""
        return head_of(self._stream, self.path)

    def sha256(self) -> str:
        """The hash of its content, 64 hexadecimal digits; reads all of it."""
        self._stream.seek(0)
        digest = hashlib.file_digest(self._stream, "sha256").hexdigest()
        self.check_unchanged()
        return digest

    def close(self) -> None:
        """Let the file go; closing twice does no harm."""
        self._stream.close()

    def _check(self, where: int | Path) -> None:
        try:
            unchanged = _mark(os.stat(where)) == self._mark
        except OSError:
            unchanged = False
        if not unchanged:
            raise EngineDied(
                "the file was replaced or changed while it was in use",
                where=self.path,
                remedy="Open it again once it is whole.",
            )


def _mark(stat: os.stat_result) -> Mark:
    """What tells a file from another, and from itself with other content."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
