"""What a source is: one data set, by name or by path, and how its rows are chosen."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from guildgpt.chat import Comparison, Conversation, Task
from guildgpt.data import dolly, hub, jsonl, oasst, stackexchange
from guildgpt.data.known import KINDS, Kind
from guildgpt.data.lines import require_file
from guildgpt.data.provenance import Provenance, WrittenBy, spdx
from guildgpt.data.starter import FILES
from guildgpt.errors import DataError
from guildgpt.hashes import combined, file_sha256

_FILES = (".jsonl", ".json", ".gz", ".parquet", ".arrow", ".csv", ".tsv", ".zst")
_OASST_ONLY = ("lang", "threads", "keep_unreviewed", "keep_synthetic")


FEEDBACK = "feedback"


class SourceSpec(BaseModel):
    """One `[[data.sources]]` of a recipe, or one SOURCE on the command line.

    `source` is `dolly`, `oasst1`, `oasst2`, `starter`, `constrained` or `feedback` (the store that
    the commands use), or a kind with a path: `dolly:PATH`, `oasst:PATH`, `stackexchange:PATH`,
    `jsonl:PATH`, `feedback:STORE`. A bare string validates too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source: str
    """`dolly`, `oasst1`, `oasst2`, `starter`, `constrained`, `feedback`, `dolly:PATH`,
    `oasst:PATH`, `stackexchange:PATH` (a dump's Posts.xml), `jsonl:PATH` or `feedback:STORE` (a
    file or a URL)."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """How often its rows are seen per epoch: 0.5 a fixed half of them, 2 each twice."""
    limit: int | None = Field(default=None, ge=1)
    """The first so many usable conversations, so many comparisons, and so many tasks."""
    revision: str | None = None
    """The commit, branch or tag on the Hub; of a local file it is only recorded (of a Stack
    Exchange dump, if nothing is said here, the month of its newest post)."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-fA-F]{64}$")
    """What the file must hash to: 64 hexadecimal digits."""
    licence: str | None = None
    """An SPDX id, or `own` for your own text; goes before what is known of the set."""
    written_by: WrittenBy | None = None
    """Who wrote it; goes before what is known of the set."""
    attribution: str | None = None
    """Whom to credit on the model card."""
    lang: list[str] = ["en"]
    """oasst only: languages to keep, as oasst names them; `[]` keeps all."""
    threads: Literal["best", "all"] = "best"
    """oasst only: the best-ranked thread of a tree, or all."""
    keep_unreviewed: bool = False
    """oasst only: also what reviewers refused or never saw, and unfinished trees."""
    keep_synthetic: bool = False
    """oasst only: also what a model wrote."""

    @classmethod
    def parse(cls, text: str) -> SourceSpec:
        """The source a person wrote on the command line; DataError if it is none."""
        try:
            return cls(source=text)
        except ValidationError as error:
            problem = error.errors()[0]
            cause = problem.get("ctx", {}).get("error")
            if isinstance(cause, _SourceProblem):
                raise DataError(cause.what, where=text, remedy=cause.remedy) from error
            raise DataError(problem["msg"], where=text) from error

    @property
    def kind(self) -> str:
        """The part before the colon: "dolly", "oasst1", "jsonl", …"""
        return self.source.partition(":")[0]

    @property
    def path(self) -> Path | None:
        """The part after the colon, or None for a set that is known by name."""
        path = self.source.partition(":")[2]
        return Path(path).expanduser() if path else None

    @property
    def name(self) -> str:
        """What reports call it: the kind, or the file's stem for a `jsonl` file."""
        if self.kind == "jsonl" and self.path is not None:
            return self.path.name.removesuffix(".gz").removesuffix(".jsonl")
        return self.kind

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _makes_sense(self) -> SourceSpec:
        kind = _known_kind(self.source)
        if self.kind == FEEDBACK:
            return self
        if self.path is None and kind.reader == "jsonl":
            raise _SourceProblem("a jsonl source needs a path", "Write `jsonl:PATH`.")
        if self.path is None and kind.reader == "stackexchange":
            raise _SourceProblem(
                "a Stack Exchange source needs a path", "Write `stackexchange:Posts.xml`."
            )
        if self.path is None and kind.reader != "starter" and not kind.hub_file:
            raise _SourceProblem(
                f"`{self.kind}` needs a path",
                f"Write `{self.kind}:PATH`, or `oasst1` or `oasst2` to fetch a whole set.",
            )
        if self.path is not None and kind.reader == "starter":
            raise _SourceProblem("the starter pack has no path", f"Write `{self.kind}`.")
        fields = type(self).model_fields
        given = [one for one in _OASST_ONLY if getattr(self, one) != fields[one].default]
        if given and kind.reader != "oasst":
            raise _SourceProblem(
                f"`{given[0]}` means nothing for `{self.kind}`",
                f"Only oasst sources know {', '.join(_OASST_ONLY)}.",
            )
        return self


class _SourceProblem(ValueError):
    """A ValueError (so that pydantic adds the recipe's key) that keeps its remedy apart."""

    def __init__(self, what: str, remedy: str):
        self.what, self.remedy = what, remedy
        super().__init__(f"{what}. {remedy}")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A source's usable rows, where they came from, and why the others were left out."""

    spec: SourceSpec
    provenance: Provenance
    conversations: list[Conversation]
    comparisons: list[Comparison]
    skipped: Counter[str]  # the reason in plain words: how often
    places: dict[str, str]  # the reason: the first such row's place
    unread: Counter[str]  # a column with text: rows that have it
    tasks: list[Task]
    notices: tuple[str, ...] = ()  # what its reader wants known

    @property
    def name(self) -> str:
        """What reports call the source."""
        return self.provenance.name

    @property
    def warnings(self) -> list[str]:
        """A sentence for each column whose text is not learned, and what the reader wants known."""
        return [*self.notices] + [
            f"{self.name}: the column `{column}` has text in {rows:,} row{'s' * (rows != 1)}, and "
            "is not read"
            for column, rows in self.unread.most_common()
        ]


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
    skipped: Counter[str] = Counter()
    places: dict[str, str] = {}
    unread: Counter[str] = Counter()
    found: dict[type, list[Any]] = {Conversation: [], Comparison: [], Task: []}
    files = _files(spec, kind, cache_dir, endpoint)
    sha256 = _checked_sha256(spec, files.paths)
    dump = stackexchange.Dump(files.paths[0]) if kind.reader == "stackexchange" else None
    for path in files.paths:
        for row in _rows(spec, kind, path, skipped, places, unread, dump):
            rows = found[type(row)]
            if spec.limit is not None and len(rows) >= spec.limit:
                skipped["over the limit"] += 1
            else:
                rows.append(row)
    synthetic = kind.reader == "oasst" and spec.keep_synthetic
    licence, attribution, note = kind.licence, kind.attribution, files.note
    if dump:
        licence, attribution, note = dump.licence, dump.attribution, dump.note
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
    conversations, comparisons, tasks = found.values()
    notices = tuple(dump.warnings) if dump else ()
    read = conversations, comparisons, skipped, places, unread, tasks
    return Loaded(spec, provenance, *read, notices)


@dataclass(frozen=True, slots=True)
class _Files:
    """The files to read and what provenance says of them."""

    paths: tuple[Path, ...]
    origin: str
    revision: str
    note: str


def _files(
    spec: SourceSpec, kind: Kind, cache_dir: str | Path | None, endpoint: str | None
) -> _Files:
    if kind.reader == "starter":
        return _Files(FILES[spec.kind], "guildgpt/data/starter", "", kind.note)
    if spec.path is not None:
        path = require_file(spec.path)
        note = f"a local file in the form of {kind.hub_id}" if kind.hub_id else "a local file"
        return _Files((path,), path.name, spec.revision or "", note)
    fetched = hub.fetch(
        kind.hub_id,
        kind.hub_file,
        revision=spec.revision,
        cache_dir=cache_dir,
        endpoint=endpoint,
        instead=f"{spec.kind}:PATH",
    )
    return _Files((fetched.path,), kind.hub_id, fetched.commit, kind.hub_file)


def _rows(
    spec: SourceSpec,
    kind: Kind,
    path: Path,
    skipped: Counter[str],
    places: dict[str, str],
    unread: Counter[str],
    dump: stackexchange.Dump | None,
) -> Iterator[Conversation | Comparison | Task]:
    if dump:
        counts = {"skipped": skipped, "unread": unread}
        return stackexchange.read(path, name=spec.name, **counts, dump=dump, limit=spec.limit)
    if kind.reader == "dolly":
        return dolly.read(path, name=spec.name, skipped=skipped)
    if kind.reader == "oasst":
        keep = oasst.Keep(
            lang=tuple(spec.lang),
            threads=spec.threads,
            unreviewed=spec.keep_unreviewed,
            synthetic=spec.keep_synthetic,
        )
        return oasst.read(path, name=spec.name, keep=keep, skipped=skipped)
    return jsonl.read(path, name=spec.name, skipped=skipped, places=places, unread=unread)


def _checked_sha256(spec: SourceSpec, paths: tuple[Path, ...]) -> str:
    """The hash of the file (of the files' hashes, if there are several), as the spec expects it."""
    sha256 = combined([file_sha256(path) for path in paths])
    if spec.sha256 and spec.sha256.lower() != sha256:
        raise DataError(
            f"the file's sha256 is {sha256}, but the source asks for {spec.sha256.lower()}",
            where=spec.source,
            remedy="It is another version or damaged: fetch it again, or change `sha256`.",
        )
    return sha256


def _known_kind(source: str) -> Kind:
    name, _, _ = source.partition(":")
    if name in KINDS:
        return KINDS[name]
    is_path = name == source and source.endswith(_FILES)
    if is_path or PureWindowsPath(source).drive:
        raise _SourceProblem(f"`{source}` has no kind", f"Write `jsonl:{source}`.")
    near = difflib.get_close_matches(name.lower(), KINDS, n=1, cutoff=0.5)
    known = ", ".join(KINDS)
    raise _SourceProblem(
        f"`{name}` is no known kind of source",
        f"Did you mean `{near[0]}`? Known are {known}." if near else f"Known are {known}.",
    )
