"""Reading JSON lines, plain or gzipped, such that every fault names its file and line.

One long JSON list of objects is read as well.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from guildgpt.data.foreign import folder_instead, opened, refuse_foreign, refuse_table
from guildgpt.data.rows import type_name
from guildgpt.errors import DataError

_BOM = b"\xef\xbb\xbf"
_BLANK = re.compile(r"[ \t\r\n]*")


def read_json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The line at which each object begins, counted from 1, and the object; blank lines are passed
    over.

    Gzip is told by the file's first bytes, not by its name. A broken line, a truncated file, text
    that is not UTF-8 or a file of another kind raises DataError, where it can at `file:line`.
    """
    path = require_file(path)
    refuse_foreign(path)
    refuse_table(path)
    begun = False
    with opened(path) as stream:
        for number, line in _lines(stream, path):
            if not line.strip():
                continue
            if not begun and line.lstrip().startswith(b"[") and _is_list(line):
                rest = b"".join(one for _, one in _lines(stream, path, number + 1))
                yield from _listed(line + rest, path, number)
                return
            begun = True
            yield number, _parse(_decoded(line, "line", path, number), f"{path}:{number}")


def _lines(stream: BinaryIO, path: Path, first: int = 1) -> Iterator[tuple[int, bytes]]:
    """The stream's lines from here on, and their numbers."""
    for number in itertools.count(first):
        try:
            line = stream.readline()
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(
                f"the gzip file is cut off or damaged here ({error})",
                where=f"{path}:{number}",
                remedy="Copy or download it again; its size or hash tells whether it is whole.",
            ) from error
        if not line:
            return
        yield number, line.removeprefix(_BOM) if number == 1 else line


def _is_list(line: bytes) -> bool:
    """Whether a file whose first line this is may be one list of objects."""
    return line.lstrip()[1:].lstrip()[:1] in (b"", b"{", b"]")


def _listed(content: bytes, path: Path, first: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of one JSON list that begins at the line `first`, each with its own line."""
    text = _decoded(content, "list", path, first)
    decoder = json.JSONDecoder()
    place, line, counted = text.index("[") + 1, first, 0
    ends = ""
    while True:
        place = _after_blanks(text, place)
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] == "]" and ends != ",":
            break
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise _broken_list(str(getattr(error, "msg", error)), path, line) from error
        yield line, _object(value, f"{path}:{line}")
        place = _after_blanks(text, place)
        ends = text[place : place + 1]
        if ends not in (",", "]"):
            raise _broken_list("it does not end", path, line)
        place += ends == ","
    if text[place + 1 :].strip():
        raise _broken_list("there is more behind its end", path, line)


def _after_blanks(text: str, place: int) -> int:
    blanks = _BLANK.match(text, place)
    return blanks.end() if blanks else place


def _decoded(content: bytes, what: str, path: Path, first: int) -> str:
    """The text of bytes that begin at the line `first`."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first + content.count(b"\n", 0, error.start)
        raise DataError(
            f"byte {error.start + 1} of the {what} is not UTF-8",
            where=f"{path}:{line}",
            remedy="Save the file as UTF-8, or export it as JSON lines if it is no text.",
        ) from error


def _broken_list(why: str, path: Path, line: int) -> DataError:
    return DataError(
        f"this JSON list is broken ({why})",
        where=f"{path}:{line}",
        remedy="Mend it here, or copy the file again; it may be cut off.",
    )


def require_file(path: str | Path) -> Path:
    """The path, if a file is there; else a DataError that names similar files in its folder."""
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise folder_instead(path)
    if not path.parent.is_dir():
        remedy = f"There is no folder {path.parent} either."
    else:
        names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
        near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
        remedy = f"Its folder has {', '.join(near)}." if near else "Its folder has nothing similar."
    raise DataError("there is no such file", where=path, remedy=remedy)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        remedy = "Each line must be one whole JSON object; mend or delete this one."
        if text.strip() == "{":
            remedy = (
                "An object spreads over several lines. Make one of it: jq -c . FILE > OUT.jsonl"
            )
        raise DataError(f"this line is not JSON ({error})", where=where, remedy=remedy) from error
    return _object(value, where)


def _object(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise DataError(
        f"this row is {type_name(value)}, not an object",
        where=where,
        remedy='Write each row as one object: {"prompt": …}.',
    )
