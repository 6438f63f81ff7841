"""Files of rows: which there are, of which kind each is, and its rows."""

from __future__ import annotations

import difflib
import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path

from guildgpt.data.foreign import refuse_foreign
from guildgpt.data.lines import Fault, Record, json_records, stop
from guildgpt.data.packed import ENDINGS, head, packing_of
from guildgpt.data.rows import printable
from guildgpt.data.tables import arrow_records, csv_records, delimiter_of, parquet_records
from guildgpt.data.text_file import texts
from guildgpt.errors import DataError

# What is read, by the ending of its name: docs/data.md has this table.
KINDS = {
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "JSON: a list of rows, one row, or one object with a list of rows",
    ".csv": "a table; cells are parted by a comma, a semicolon, a tab or a bar",
    ".tsv": "a table; cells are parted by a tab",
    ".parquet": "Parquet",
    ".arrow": "Arrow: a file, or a stream as `datasets` saves it",
    ".feather": "Feather (Arrow)",
}
NAMED = re.compile(
    rf"({'|'.join(map(re.escape, KINDS))})({'|'.join(map(re.escape, ENDINGS))})?$", re.IGNORECASE
)
# What lies beside the rows in a folder that `datasets` saved, or that came from the Hub.
ABOUT = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
PATTERN = re.compile(r"[*?\[]")

# Which split a file belongs to, by its name or that of its folder.
NUMBERED = re.compile(r"(?:^|/)([\w.]+?)-\d{5}-of-\d{5}")
SPLIT_WORDS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "validation": ("validation", "valid", "val", "dev"),
}
SPLITS = {word: split for split, words in SPLIT_WORDS.items() for word in words}


@dataclass(frozen=True, slots=True)
class File:
    """A file of rows and what to call it: its name, below the folder that was given."""

    path: Path
    label: str


def read_records(
    path: str | Path, notices: list[str] | None = None, fault: Fault = stop
) -> Iterator[Record]:
    """The rows of a file of any kind, each with its line (in Parquet and Arrow its number).

    What it is, its content tells; packed files are unpacked while they are read. `notices` is told
    of an encoding that was guessed. A broken row is given to `fault`; DataError for a file that is
    missing, damaged or of a kind that nobody here reads.
    """
    path = require_file(path)
    try:
        refuse_foreign(path)
        begins = head(path)
        kinds = {
            b"PAR1": parquet_records,
            b"ARROW1": arrow_records,
            b"\xff\xff\xff\xff": arrow_records,
        }
        read = next((read for mark, read in kinds.items() if begins.startswith(mark)), None)
        if read and (packing := packing_of(path)):
            raise DataError(
                f"this is a table of columns inside a {packing} file",
                where=path,
                remedy="Unpack it: such tables are packed within.",
            )
        if read:
            yield from read(path)
            return
        pieces = texts(path, [] if notices is None else notices)
        first = next(pieces, "")
        whole = chain((first,), pieces)
        if delimiter := delimiter_of(path, first):
            yield from csv_records(path, whole, delimiter, fault)
        else:
            yield from json_records(path, whole, fault)
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror})", where=path) from error


def data_files(path: Path, split: str | None, notices: list[str]) -> list[File]:
    """The files of rows that a path stands for: itself, those of a folder and of its subfolders,
    or all that a pattern with `*` fits, in the order of their names.

    Of a folder `notices` is told what is not read. DataError where there is none.
    """
    if path.is_file():
        found = [File(path, printable(path.name))]
    elif path.is_dir():
        found = [
            File(file, printable(f"{path.resolve().name}/{file.relative_to(path).as_posix()}"))
            for file in path.rglob("*")
            if file.is_file() and not is_hidden(file, path)
        ]
        others = [one.label for one in found if not NAMED.search(one.label)]
        found = [one for one in found if one.label not in others and one.path.name not in ABOUT]
        if others and found:
            shown = ", ".join(sorted(others)[:3]) + (" …" if len(others) > 3 else "")
            notices.append(f"{path.name}: not read for their endings: {shown}")
    elif PATTERN.search(str(path)):
        fixed = Path(*takewhile(lambda part: not PATTERN.search(part), path.parts))
        matches = map(Path, glob.glob(str(path), recursive=True))
        found = [
            File(file, printable(file.relative_to(fixed).as_posix()))
            for file in matches
            if file.is_file()
        ]
    else:
        return [File(require_file(path), printable(path.name))]
    if not found:
        raise DataError(
            "there is no file of rows here", where=path, remedy=f"Known are {', '.join(KINDS)}."
        )
    found.sort(key=lambda one: one.label)
    if split:
        chosen = set(of_split([one.label for one in found], split, str(path)))
        found = [one for one in found if one.label in chosen]
    return found


def of_split(names: list[str], split: str, where: str) -> list[str]:
    """The names of the files that belong to a split; DataError, with what there is, for none."""
    wanted = SPLITS.get(split, split)
    if chosen := [name for name in names if split_of(name) in (split, wanted)]:
        return chosen
    there = sorted({found for name in names if (found := split_of(name))})
    raise DataError(
        f"there is no split `{split}`",
        where=where,
        remedy=f"There are {', '.join(there)}." if there else "No file's name tells a split.",
    )


def split_of(name: str) -> str:
    """The split that a file's name, or its folder's, tells: `train` of `data/train-00000-of-00002`;
    '' where it tells none."""
    if numbered := NUMBERED.search(name):
        return SPLITS.get(numbered[1], numbered[1])
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLITS[word] for word in reversed(words) if word in SPLITS), "")


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


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a path in a folder is hidden there, or lies below one that is."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
