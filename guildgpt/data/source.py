"""Loading a source: its files found or fetched, their hash checked, and every row read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guildgpt.chat import Comparison, Conversation, Rejected, Task
from guildgpt.data import dolly, forms, hub, hub_set, oasst, stackexchange
from guildgpt.data.files import File, data_files, require_file
from guildgpt.data.known import KINDS, Kind
from guildgpt.data.notes import BAD_ROW, Notes
from guildgpt.data.provenance import Provenance, spdx
from guildgpt.data.rows import printable
from guildgpt.data.spec import FEEDBACK, SourceSpec
from guildgpt.data.starter import FILES
from guildgpt.errors import DataError
from guildgpt.hashes import combined, file_sha256

OWNER_NAME = re.compile(r"[\w.-]+/[\w.-]+")
SHOWN = 8  # columns that are named in a sentence


@dataclass(frozen=True, slots=True)
class Loaded:
    """A source's usable rows, where they came from, and what its readers say besides."""

    spec: SourceSpec
    provenance: Provenance
    conversations: list[Conversation]
    comparisons: list[Comparison]
    tasks: list[Task]
    notes: Notes = field(default_factory=Notes)
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What reports call the source."""
        return self.provenance.name

    @property
    def skipped(self) -> Counter[str]:
        """Why rows were left out, in plain words, and how many."""
        return self.notes.skipped

    @property
    def warnings(self) -> list[str]:
        """What its readers want known, a sentence for each column whose text is not learned, and
        one that names the others."""
        columns = [
            f"{self.name}: the column `{column}` has text in {rows:,} row{'s' * (rows != 1)}, and "
            "is not read"
            for column, rows in self.notes.unread.most_common()
        ]
        others = [f"`{one}`" for one in self.notes.others if one not in self.notes.unread]
        if others:
            more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
            columns.append(
                f"{self.name}: columns that are not read: {', '.join(others[:SHOWN])}{more}"
            )
        if bad := len(self.notes.bad):
            columns.append(
                f"{self.name}: {bad:,} row{'s' * (bad != 1)} could not be read, and "
                f"{'were' if bad > 1 else 'was'} left out, the first at "
                f"{Path(self.notes.places[BAD_ROW]).name}"
            )
        return [printable(line) for line in (*self.notes.notices, *columns)]


def load(
    spec: SourceSpec, *, cache_dir: str | Path | None = None, endpoint: str | None = None
) -> Loaded:
    """Fetch a source if need be, check its hash, and read every row of it.

    `cache_dir` and `endpoint` go to the Hub client; without them its own defaults hold. Raises
    DataError for a file that is missing, broken, or not the one whose hash the spec gives.
    """
    kind = KINDS[spec.kind]
    if spec.kind == FEEDBACK:
        raise DataError(
            "a feedback store is read by `guildgpt train` and `guildgpt learn`",
            where=spec.source,
            remedy="To see its rows: guildgpt feedback export preference --out pairs.jsonl",
        )
    notes = Notes()
    found: dict[type, list[Any]] = {Conversation: [], Comparison: [], Task: [], Rejected: []}
    files = _files(spec, kind, cache_dir, endpoint, notes)
    sha256 = _checked_sha256(spec, [file.path for file in files.files])
    dump = stackexchange.Dump(files.files[0].path) if kind.reader == "stackexchange" else None
    for file in files.files:
        for row in _rows(spec, kind, file, notes, dump):
            rows = found[type(row)]
            if spec.limit is not None and len(rows) >= spec.limit:
                notes.skipped["over the limit"] += 1
            else:
                rows.append(row)
    if kind.reader == "starter":
        notes.others.clear()  # its categories are for people
    synthetic = kind.reader == "oasst" and spec.keep_synthetic
    licence, attribution, note = files.licence or kind.licence, kind.attribution, files.note
    if dump:
        licence, attribution, note = dump.licence, dump.attribution, dump.note
        notes.notices += dump.warnings
    provenance = Provenance(
        name=spec.name,
        licence=spdx(spec.licence or licence),
        origin=files.origin,
        revision=files.revision or (dump.newest if dump else ""),
        sha256=sha256,
        rows=sum(map(len, found.values())),
        written_by="mixed" if synthetic else spec.written_by or kind.written_by,
        attribution=spec.attribution or attribution,
        note=note,
    )
    conversations, comparisons, tasks, rejected = found.values()
    return Loaded(spec, provenance, conversations, comparisons, tasks, notes, rejected)


@dataclass(frozen=True, slots=True)
class _Files:
    """The files to read and what provenance says of them."""

    files: list[File]
    origin: str
    revision: str
    note: str
    licence: str = ""


def _files(
    spec: SourceSpec,
    kind: Kind,
    cache_dir: str | Path | None,
    endpoint: str | None,
    notes: Notes,
) -> _Files:
    if kind.reader == "starter":
        files = [File(path, path.name) for path in FILES[spec.kind]]
        return _Files(files, "guildgpt/data/starter", "", kind.note)
    if spec.path is not None:
        return _local(spec, kind, spec.path, notes)
    where: dict[str, Any] = {
        "revision": spec.revision,
        "cache_dir": cache_dir,
        "endpoint": endpoint,
    }
    if spec.kind == "hub":
        split = spec.split or "train"
        one = hub_set.fetch_set(spec.hub_id, split=split, subset=spec.subset, **where)
        note = f"the split {split}, {len(one.files)} file{'s' * (len(one.files) != 1)}"
        notes.notices += [f"{spec.name}: {line}" for line in one.notices]
        return _Files(one.files, spec.hub_id, one.commit, note, one.licence)
    fetched = hub.fetch(kind.hub_id, kind.hub_file, **where, instead=f"{spec.kind}:PATH")
    file = File(fetched.path, fetched.path.name)
    return _Files([file], kind.hub_id, fetched.commit, kind.hub_file)


def _local(spec: SourceSpec, kind: Kind, path: Path, notes: Notes) -> _Files:
    """The files that a path stands for."""
    if kind.reader == "stackexchange":
        files = [File(require_file(path), path.name)]
    else:
        if OWNER_NAME.fullmatch(spec.source) and not path.exists():
            raise DataError(
                "there is no such file or folder",
                where=spec.source,
                remedy=f"If it is a data set of the Hub, write `hub:{spec.source}`.",
            )
        files = data_files(path, spec.split, notes.notices)
    several = f"{len(files):,} local files" if len(files) > 1 else "a local file"
    note = f"{several} in the form of {kind.hub_id}" if kind.hub_id else several
    origin = files[0].label if len(files) == 1 else f"{files[0].label} to {files[-1].label}"
    return _Files(files, origin, spec.revision or "", note)


def _rows(
    spec: SourceSpec, kind: Kind, file: File, notes: Notes, dump: stackexchange.Dump | None
) -> Iterator[Conversation | Rejected | Comparison | Task]:
    name, skipped, notices = spec.name, notes.skipped, notes.notices
    if dump:
        counts = {"skipped": skipped, "unread": notes.unread}
        return stackexchange.read(file.path, name=name, **counts, dump=dump, limit=spec.limit)
    if kind.reader == "dolly":
        return dolly.read(file.path, name=name, skipped=skipped, notices=notices)
    if kind.reader == "oasst":
        keep = oasst.Keep(
            lang=tuple(spec.lang),
            threads=spec.threads,
            unreviewed=spec.keep_unreviewed,
            synthetic=spec.keep_synthetic,
        )
        return oasst.read(file.path, name=name, keep=keep, skipped=skipped, notices=notices)
    return forms.read(
        file.path,
        name=name,
        notes=notes,
        label=file.label,
        columns=spec.columns,
        roles=spec.roles,
        skip_bad=spec.on_bad_row == "skip",
    )


def _checked_sha256(spec: SourceSpec, paths: list[Path]) -> str:
    """The hash of the file (of the files' hashes, if there are several), as the spec expects it."""
    sha256 = combined([file_sha256(path) for path in paths])
    if spec.sha256 and spec.sha256.lower() != sha256:
        raise DataError(
            f"the file's sha256 is {sha256}, but the source asks for {spec.sha256.lower()}",
            where=spec.source,
            remedy="It is another version or damaged: fetch it again, or change `sha256`.",
        )
    return sha256
