"""Packed files, unpacked while they are read: which packing it is, a file's first bytes tell."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import IO, Any, cast

from guildgpt.errors import DataError

HEAD = 4096  # bytes that are looked at
ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".lz4")
# What a damaged file raises while it is unpacked; pyarrow's errors are OSErrors and ValueErrors.
DAMAGES = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)
PYARROW = "pip install 'guildgpt[files]'"


def opened(path: Path) -> IO[bytes]:
    """What is in a file, unpacked where it is packed."""
    packing = packing_of(path)
    return PACKINGS[packing][1](path) if packing else path.open("rb")


def packing_of(path: Path) -> str | None:
    """How a file is packed, by its first bytes and not by its name; None for one that is not."""
    with path.open("rb") as stream:
        begins = stream.read(HEAD)
    return next((name for name, (mark, _) in PACKINGS.items() if begins.startswith(mark)), None)


def head(path: Path) -> bytes:
    """The first bytes of what is in a file; of a damaged one none: who reads it says where."""
    with suppress(*DAMAGES), opened(path) as stream:
        return stream.read(HEAD)
    return b""


def pyarrow_for(what: str, path: Path) -> ModuleType:
    """The library `pyarrow`; DataError, with the command that installs it, where it is missing."""
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(
            f"to read {what}, pyarrow is needed, which is not installed here",
            where=path,
            remedy=PYARROW,
        ) from error
    return cast(ModuleType, pyarrow)


def _by_pyarrow(name: str) -> Callable[[Path], Any]:
    # The library zstandard takes a file that is cut off for a whole one; this one does not.
    return lambda path: pyarrow_for(f"what {name} packed", path).input_stream(
        str(path), compression=name
    )


# By name: how a packed file begins, and what unpacks it.
PACKINGS: dict[str, tuple[bytes, Callable[[Path], Any]]] = {
    "gzip": (b"\x1f\x8b", gzip.open),
    "bzip2": (b"BZh", bz2.open),
    "xz": (b"\xfd7zXZ\x00", lzma.open),
    "zstd": (b"\x28\xb5\x2f\xfd", _by_pyarrow("zstd")),
    "lz4": (b"\x04\x22\x4d\x18", _by_pyarrow("lz4")),
}
