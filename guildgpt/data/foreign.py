"""Files that are not what a reader takes, told by their first bytes, and what to do about each."""

from __future__ import annotations

import gzip
import os
import re
import shlex
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from guildgpt.errors import DataError

HEAD = 4096  # bytes that are looked at
GZIP = b"\x1f\x8b"

_PANDAS = (
    "Make JSON lines of it: pip install pandas pyarrow, then python3 -c "
    '"import pandas; pandas.read_{how}({file_text})'
    ".to_json({out_text}, orient='records', lines=True)\""
)
_CSV = (
    'Make JSON lines of it: python3 -c "import csv, json; [print(json.dumps(row)) for row in '
    "csv.DictReader(open({file_text}, encoding='utf-8-sig', newline=''), "
    'delimiter={delimiter!r})]" > {out}'
)

# How a file begins: what it is, and what makes JSON lines (or plain text) of it.
BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"PAR1", "a Parquet file", _PANDAS.replace("{how}", "parquet")),
    (b"ARROW1", "an Arrow file", _PANDAS.replace("{how}", "feather")),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "Unpack it: zstd -d {file}"),
    (b"\xfd7zXZ\x00", "compressed with xz", "Unpack it: xz -dk {file}"),
    (b"BZh", "compressed with bzip2", "Unpack it: bunzip2 -k {file}"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "Unpack it: lz4 -d {file}"),
    (b"PK\x03\x04", "a zip archive", "Unpack it, and name the file in it: unzip {file}"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it, and name the file in it: 7z x {file}"),
    (b"SQLite format 3\x00", "an SQLite database", "Export its rows as JSON lines."),
    (b"%PDF", "a PDF", "Make plain text of it: pdftotext {file}"),
    (b"\xff\xfe", "UTF-16 text", "Save it as UTF-8: iconv -f UTF-16 -t UTF-8 {file} > {out}"),
    (b"\xfe\xff", "UTF-16 text", "Save it as UTF-8: iconv -f UTF-16 -t UTF-8 {file} > {out}"),
    (b"version https://git-lfs", "only a Git LFS pointer", "Fetch the file itself: git lfs pull"),
)
TABLES = {".csv": ",", ".tsv": "\t"}
COLUMN = re.compile(rb'\s*"?[A-Za-z_][\w .-]{0,40}"?\s*')  # a name at the top of a table


def is_gzipped(path: Path) -> bool:
    """Whether a file is packed by gzip: told by its first bytes, not by its name."""
    with path.open("rb") as stream:
        return stream.read(len(GZIP)) == GZIP


def opened(path: Path) -> BinaryIO:
    """What is in a file, unpacked where it is gzipped."""
    return cast(BinaryIO, gzip.open(path)) if is_gzipped(path) else path.open("rb")


def refuse_foreign(path: Path, made: str = ".jsonl") -> None:
    """DataError for a file whose beginning says that it is no text to be read as it is; `made` is
    the ending of what is to be made of it."""
    head = _head(path)
    for beginning, what, remedy in BEGINNINGS:
        if head.startswith(beginning):
            raise DataError(
                f"this is {what}", where=path, remedy=remedy.format(**_words(path, made))
            )


def refuse_table(path: Path) -> None:
    """DataError for a table (CSV), told by its name or by the columns' names in its first line."""
    first = _head(path).removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0]
    named = next((TABLES[end] for end in path.suffixes[-2:] if end in TABLES), None)
    for delimiter in (named,) if named else TABLES.values():
        cells = first.split(delimiter.encode())
        names = len(cells) > 1 and all(COLUMN.fullmatch(cell) for cell in cells)
        if names or (named and not first.startswith((b"{", b"["))):
            remedy = _CSV.format(delimiter=delimiter, **_words(path, ".jsonl"))
            raise DataError("this is a table (CSV)", where=path, remedy=remedy)


def _words(path: Path, ending: str) -> dict[str, str]:
    """A file's name and one for what is made of it, for a shell and for Python in one; the second
    is never the first, which a shell would empty before it is read."""
    stem = path.name.partition(".")[0]
    name = stem + ending if stem + ending != path.name else f"{stem}-2{ending}"
    out = str(path.with_name(name))
    return {
        "file": shlex.quote(str(path)),
        "out": shlex.quote(out),
        "file_text": repr(str(path)),
        "out_text": repr(out),
    }


def _head(path: Path) -> bytes:
    """The first bytes of a file, of what is in it where it is gzipped."""
    with suppress(EOFError, OSError, zlib.error), opened(path) as stream:
        return stream.read(HEAD)
    return b""  # damaged: who reads it says where


def folder_instead(path: Path) -> DataError:
    """The error for a folder where a file is wanted, such as a data set in several parts."""
    names = sorted(
        os.fspath(file.relative_to(path))
        for file in path.rglob("*")
        if file.is_file() and not is_hidden(file, path)
    )
    remedy = "Name a file in it."
    if len(names) == 1:
        remedy = f"Name the file in it: {path / names[0]}"
    elif names:
        endings = {"".join(Path(name).suffixes[-2:]) for name in names}
        remedy = (
            f"It holds {len(names):,} files, such as {names[0]}. Name each as a source of its own"
        )
        if endings <= {".jsonl"} or endings <= {".jsonl.gz"}:
            ending = endings.pop()
            join = "awk 1" if ending == ".jsonl" else "cat"  # which ends every last line
            parts = f"{shlex.quote(str(path))}/*{ending}"
            remedy += f", or make one of them: {join} {parts} > {shlex.quote(path.name + ending)}"
        else:
            remedy += "."
    return DataError("this is a folder, not a file", where=path, remedy=remedy)


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a path in a folder is hidden there, or lies below one that is."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
