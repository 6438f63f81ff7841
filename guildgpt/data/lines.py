"""Reading JSON lines, plain or gzipped, such that every fault names its file and line."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from guildgpt.data.rows import type_name
from guildgpt.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_LFS_POINTER = b"version https://git-lfs"


def read_json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number, counted from 1, and its object; blank lines are passed over.

    Gzip is told by the file's first bytes, not by its name. A broken line, a truncated file or
    text that is not UTF-8 raises DataError at `file:line`.
    """
    path = require_file(path)
    number = 0
    with _open(path) as stream:
        while True:
            number += 1
            where = f"{path}:{number}"
            try:
                line = stream.readline()
            except (EOFError, OSError, zlib.error) as error:
                raise DataError(
                    f"the gzip file is cut off or damaged here ({error})",
                    where=where,
                    remedy="Copy or download it again; its size or hash tells whether it is whole.",
                ) from error
            if not line:
                return
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark
            if line.strip():
                yield number, _parse(line, where)


def require_file(path: str | Path) -> Path:
    """The path, if a file is there; else a DataError that names similar files in its folder."""
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise DataError("this is a folder, not a file", where=path, remedy="Name a file in it.")
    if not path.parent.is_dir():
        remedy = f"There is no folder {path.parent} either."
    else:
        names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
        near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
        remedy = f"Its folder has {', '.join(near)}." if near else "Its folder has nothing similar."
    raise DataError("there is no such file", where=path, remedy=remedy)


def file_sha256(path: str | Path) -> str:
    """The SHA-256 of the file as it lies on disk, 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        zipped = stream.read(2) == _GZIP_MAGIC
    return cast(BinaryIO, gzip.open(path, "rb")) if zipped else path.open("rb")


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"byte {error.start + 1} of the line is not UTF-8",
            where=where,
            remedy="Save the file as UTF-8.",
        ) from error
    except (ValueError, RecursionError) as error:
        remedy = "Each line must be one whole JSON object; mend or delete this one."
        if line.startswith(_LFS_POINTER):
            remedy = "This is only a Git LFS pointer; fetch the file itself with `git lfs pull`."
        elif line.strip() == b"[":
            remedy = "This is one long JSON list. Make lines of it: jq -c '.[]' FILE > FILE.jsonl"
        raise DataError(f"this line is not JSON ({error})", where=where, remedy=remedy) from error
    if isinstance(value, dict):
        return value
    remedy = 'Write each line as one object: {"prompt": …}.'
    if isinstance(value, list):
        remedy = "Make lines of a JSON list: jq -c '.[]' FILE > FILE.jsonl"
    raise DataError(f"this line is {type_name(value)}, not an object", where=where, remedy=remedy)
