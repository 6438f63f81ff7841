"""A model's files, which stay open while its engine runs, so that what is said of them is true of
what was loaded, whatever becomes of their names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from guildgpt.errors import EngineDied
from guildgpt.hashes import combined
from guildgpt.model.gguf_file import Head, check_magic, head_of, parts


class HeldFile:
    """A model's file, all of them if it was split, and what they were like when they were opened;
    raises `EngineError` if one is missing or no GGUF."""

    def __init__(self, path: Path):
        check_magic(path)
        self.path = path
        self._parts = parts(path)
        for part in self._parts:
            check_magic(part)
        with ExitStack() as opened:  # those before one that cannot be opened are closed again
            self._streams = [opened.enter_context(part.open("rb")) for part in self._parts]
            self._marks = [_mark(os.fstat(stream.fileno())) for stream in self._streams]
            self._opened = opened.pop_all()

    def check_unchanged(self) -> None:
        """Raise `EngineDied` where a file was written to since it was opened."""
        self._check(stream.fileno() for stream in self._streams)

    def check_in_place(self) -> None:
        """Raise `EngineDied` where a name belongs to another file by now, or to none."""
        self._check(self._parts)

    def head(self) -> Head:
        """The first file's head."""
        return head_of(self._streams[0], self.path)

    def sha256(self) -> str:
        """The hash of the content, 64 hexadecimal digits; reads all of it."""
        hashes = []
        for stream in self._streams:
            stream.seek(0)
            hashes.append(hashlib.file_digest(stream, "sha256").hexdigest())
        self.check_unchanged()
        return combined(hashes)

    def close(self) -> None:
        """Let the files go; closing twice does no harm."""
        self._opened.close()

    def _check(self, where: Iterable[int | Path]) -> None:
        try:
            unchanged = [_mark(os.stat(one)) for one in where] == self._marks
        except OSError:
            unchanged = False
        if not unchanged:
            raise EngineDied(
                "the file was replaced or changed while it was in use",
                where=self.path,
                remedy="Open it again once it is whole.",
            )


def _mark(stat: os.stat_result) -> tuple[int, int, int, int]:
    """What tells a file from another, and from itself with other content."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
