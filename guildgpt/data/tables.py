"""Tables as rows: CSV by the standard library, Parquet and Arrow by pyarrow."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from guildgpt.data.lines import Fault, Record, stop
from guildgpt.data.packed import ENDINGS, pyarrow_for
from guildgpt.data.text_file import lines, require_utf8
from guildgpt.errors import DataError

BATCH = 1024  # rows of a column file that are in memory together
LONGEST_CELL = 1 << 27  # characters; the csv module's own limit is 131,072
DELIMITERS = {".csv": ",;\t|", ".tsv": "\t"}
NAME = re.compile(r'\s*"?[A-Za-z_][\w .-]{0,40}"?\s*')  # of a column, at the top of a table
QUOTED = re.compile('"[^"]*"')
AGAIN = "Copy or download it again; its size or hash tells whether it is whole."


def delimiter_of(path: Path, text: str) -> str | None:
    """What parts the cells of a table that begins like this: told by the file's name, or by the
    names of columns in its first line. None for what is no such table."""
    first = text.lstrip().partition("\n")[0]
    if first.startswith(("{", "[")):
        return None
    endings = [end for end in path.suffixes if end not in ENDINGS]
    if named := DELIMITERS.get(endings[-1].lower() if endings else ""):
        bare = QUOTED.sub("", first)
        return max(named, key=bare.count)
    for delimiter in ",\t":
        cells = first.split(delimiter)
        if len(cells) > 1 and all(map(NAME.fullmatch, cells)):
            return delimiter
    return None


def csv_records(
    path: Path, pieces: Iterable[str], delimiter: str, fault: Fault = stop
) -> Iterator[Record]:
    """The rows of a table in a text, and the line at which each begins. Its first line names the
    columns; a cell with nothing in it is null."""
    csv.field_size_limit(LONGEST_CELL)  # for the whole process, and read when a reader is made
    reader = csv.reader((f"{line}\n" for line in lines(pieces)), delimiter=delimiter, strict=True)
    names: list[str] = []
    ends = 0
    while True:
        number = ends + 1
        where = f"{path}:{number}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            ends = max(reader.line_num, number)
            broken = _broken(error, path, number, ends)
            if ends > number or not names:  # what is in quotes may have been rows
                raise broken from error
            fault(broken)
            continue
        if cells is None:
            return
        ends = reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if not names:
            names = _names(cells, where)
            continue
        try:
            require_utf8("".join(cells), "row", where)
            if len(cells) > len(names):
                raise DataError(
                    f"the row has {len(cells)} cells, and the table {len(names)} columns",
                    where=where,
                    remedy=f"Put a cell that holds {delimiter!r} between double quotes.",
                )
            padded = cells + [""] * (len(names) - len(cells))
            yield number, {name: cell or None for name, cell in zip(names, padded, strict=True)}
        except DataError as error:
            fault(error)


def _broken(error: csv.Error, path: Path, first: int, last: int) -> DataError:
    """The error for quotes that are wrong, within a line or over several."""
    remedy = 'A double quote within quotes is written twice: "he said ""no""".'
    if last > first:
        remedy = (
            f"The quotes that begin in this line end wrongly in line {last:,}, and what of it is a "
            f"row cannot be told. {remedy}"
        )
    return DataError(f"the table is broken ({error})", where=f"{path}:{first}", remedy=remedy)


def parquet_records(path: Path) -> Iterator[Record]:
    """The rows of a Parquet file and their numbers."""
    pyarrow_for("a Parquet file", path)
    from pyarrow import parquet

    def batches() -> Iterator[Any]:
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=BATCH)

    return _rows(path, "Parquet", batches())


def arrow_records(path: Path) -> Iterator[Record]:
    """The rows of an Arrow (Feather) file, or of a stream, as `datasets` keeps them."""
    pyarrow_for("an Arrow file", path)
    from pyarrow import OSFile, ipc

    def batches() -> Iterator[Any]:
        with OSFile(str(path)) as file:
            is_stream = file.read(6) != b"ARROW1"
            file.seek(0)
            if is_stream:
                yield from ipc.open_stream(file)
                return
            reader = ipc.open_file(file)
            yield from (reader.get_batch(i) for i in range(reader.num_record_batches))

    return _rows(path, "Arrow", batches())


def _rows(path: Path, kind: str, batches: Iterator[Any]) -> Iterator[Record]:
    """The rows of each batch as plain values."""
    number = 0
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH):
                for row in batch.slice(start, BATCH).to_pylist():
                    number += 1
                    yield number, row
    except (OSError, ValueError) as error:  # what pyarrow raises is one of these
        raise DataError(
            f"the {kind} file is cut off or damaged ({error})",
            where=f"{path}:{number + 1}",
            remedy=AGAIN,
        ) from error


def _names(cells: list[str], where: str) -> list[str]:
    """The names of a table's columns; one without a name is called by its place."""
    names = [cell.strip() or f"column {place}" for place, cell in enumerate(cells, 1)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(
            f"two columns are called `{twice}`", where=where, remedy="Rename one of them."
        )
    return names
