"""Plain text to pretrain on: a file a document, or several set apart by a line of your choice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from guildgpt.chat import Source
from guildgpt.data.files import KINDS, NAMED, is_hidden, require_file
from guildgpt.data.foreign import refuse_foreign, refuse_table
from guildgpt.data.provenance import UNKNOWN, Provenance, WrittenBy, spdx
from guildgpt.data.split import Side, normalised, side_of
from guildgpt.data.text_file import require_utf8, texts
from guildgpt.errors import DataError

SUFFIXES = (".txt", ".md")


@dataclass(frozen=True, slots=True)
class Document:
    """A text and the file and line where it begins."""

    text: str
    source: Source


def read_documents(
    paths: Sequence[str | Path],
    *,
    separator: str | None = None,
    name: str = "documents",
    notices: list[str] | None = None,
) -> list[Document]:
    """The documents in files and folders, those of a folder in the order of their names.

    A folder gives its *.txt and *.md files, those of its subfolders too, hidden ones left out. A
    line that equals `separator` ends a document and belongs to none. Packed files are unpacked;
    where an encoding was guessed, `notices` says it. Blank documents are dropped; DataError if
    nothing is left.
    """
    documents = [
        document
        for path in paths
        for file, label in _text_files(Path(path).expanduser())
        for document in _split(_text(file, notices), separator, name, label)
    ]
    if not documents:
        raise DataError(
            "there is no text to read",
            where=", ".join(map(str, paths)),
            remedy=f"Name files, or folders with {' or '.join('*' + end for end in SUFFIXES)}.",
        )
    return documents


def document_side(document: Document, held_out: float) -> Side:
    """The side of the split, by the hash of the document's own text; see `split_side`."""
    return side_of(document.source.group or normalised(document.text), held_out)


def documents_provenance(
    documents: Sequence[Document],
    *,
    licence: str = UNKNOWN,
    written_by: WrittenBy = "unknown",
    attribution: str = "",
    held_out: float | None = None,
) -> Provenance:
    """Where the documents came from; the hash is over their texts in order."""
    files = sorted({document.source.file for document in documents})
    shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    sha256 = hashlib.sha256()
    for document in documents:
        text = document.text.encode()
        sha256.update(len(text).to_bytes(8, "big") + text)
    return Provenance(
        name=documents[0].source.name if documents else "documents",
        licence=spdx(licence),
        origin=shown,
        sha256=sha256.hexdigest(),
        rows=len(documents),
        written_by=written_by,
        attribution=attribution,
        note="documents to pretrain on; the hash is over their texts",
        held_out=held_out,
    )


def _text_files(path: Path) -> Iterable[tuple[Path, str]]:
    """Each file to read and what to call it: its name, below the folder that was given."""
    if not path.is_dir():
        return [(require_file(path), path.name)]
    top = path.resolve().name
    labels = [
        (file, f"{top}/{file.relative_to(path).as_posix()}")
        for file in path.rglob("*")
        if file.name.lower().endswith(SUFFIXES) and not (is_hidden(file, path) or file.is_dir())
    ]
    return sorted(labels, key=lambda pair: pair[1])


def _text(file: Path, notices: list[str] | None) -> str:
    """The text of a file; DataError for rows, which would be learned with their markup."""
    refuse_foreign(file)
    refuse_table(file)
    found = NAMED.search(file.name)
    if found and KINDS[found[1].lower()] == "JSON lines":
        raise DataError(
            "these are JSON lines, no plain text",
            where=file,
            remedy=f"Make text of the column that holds it: jq -r .text {file.name} > "
            f"{file.name[: found.start()]}.txt; or fine-tune on it with `sft`.",
        )
    text = "".join(texts(file, [] if notices is None else notices)).replace("\r\n", "\n")
    require_utf8(text, "file", str(file))
    return text


def _split(text: str, separator: str | None, name: str, label: str) -> Iterator[Document]:
    """The file's documents; a source's row is the line where its text begins."""
    lines: list[str] = []
    start = 1
    for number, line in enumerate([*text.split("\n"), separator], start=1):
        if line is not None and line != separator:
            lines.append(line)
            continue
        blank = next((i for i, kept in enumerate(lines) if kept.strip()), None)
        if blank is not None:
            body = "\n".join(lines[blank:]).strip()
            yield Document(body, Source(name, label, start + blank))
        lines, start = [], number + 1
