"""Files that nobody here can read, told by their first bytes, and what to do about each."""

from __future__ import annotations

import shlex
from pathlib import Path

from guildgpt.data.packed import head
from guildgpt.errors import DataError

# How a file begins: what it is, and what makes a file of it that can be read.
BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive", "Unpack it, and name what is in it: unzip {file}"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it, and name what is in it: 7z x {file}"),
    (b"Rar!", "a RAR archive", "Unpack it, and name what is in it: unrar x {file}"),
    (b"SQLite format 3\x00", "an SQLite database", "Export its rows as CSV or JSON lines."),
    (b"%PDF", "a PDF", "Make plain text of it: pdftotext {file}"),
    (b"FEA1", "a Feather file of the first kind", "Save it as Parquet: pandas reads and writes."),
    (b"\x80\x04\x95", "a Python pickle, which may run code", "Save its rows as JSON lines."),
    (b"version https://git-lfs", "only a Git LFS pointer", "Fetch the file itself: git lfs pull"),
)
EXCEL = (".xlsx", ".xlsm", ".ods")
TABLES = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")  # read by `tables`, and nowhere else
TAR = slice(257, 262)  # where an archive of tar's says `ustar`


def refuse_foreign(path: Path) -> None:
    """DataError for a file whose beginning says that it holds neither text nor a table."""
    begins = head(path)
    file = shlex.quote(str(path))
    if path.suffix.lower() in EXCEL and begins.startswith(b"PK"):
        raise DataError("this is a spreadsheet", where=path, remedy="Save its sheet as CSV.")
    for beginning, what, remedy in BEGINNINGS:
        if begins.startswith(beginning):
            raise DataError(f"this is {what}", where=path, remedy=remedy.format(file=file))
    if begins[TAR] == b"ustar":
        raise DataError(
            "this is a tar archive",
            where=path,
            remedy=f"Unpack it, and name the file or folder in it: tar xf {file}",
        )


def refuse_table(path: Path) -> None:
    """DataError for a table of columns where text is wanted."""
    if head(path).startswith(TABLES):
        raise DataError(
            "this is a Parquet or Arrow file", where=path, remedy="Name a file of text."
        )
