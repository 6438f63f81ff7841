"""What a source is: one data set, by name or by path, and how its rows are chosen and read."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from guildgpt.chat import Role
from guildgpt.data.files import NAMED, PATTERN
from guildgpt.data.known import KINDS, Kind
from guildgpt.data.provenance import WrittenBy
from guildgpt.data.rows import APART, CALLS, CONTENT
from guildgpt.errors import DataError

FEEDBACK = "feedback"
COLUMNS = (CONTENT | APART) - set(CALLS)  # ours, which may stand under another name

# Options that only some kinds of source know, and what these are called.
_OASST = (("oasst", "oasst1", "oasst2"), "oasst sources")
_ROWS = (("file", "jsonl", "hub"), "files and `hub:` sources")
ONLY: dict[str, tuple[tuple[str, ...], str]] = {
    **dict.fromkeys(("lang", "threads", "keep_unreviewed", "keep_synthetic"), _OASST),
    **dict.fromkeys(("split", "columns", "roles", "on_bad_row"), _ROWS),
    "subset": (("hub",), "`hub:` sources"),
    "train_on_members": ((FEEDBACK,), "the source `feedback`"),
}


class SourceSpec(BaseModel):
    """One `[[data.sources]]` of a recipe, or one SOURCE on the command line.

    `source` is a path to a file, a folder or a pattern; a set that is known by name; a data set of
    the Hub; or a kind and a path. A bare string validates too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source: str
    """A path: of a file, a folder, or a pattern such as `shards/*.parquet` (`file:PATH` where it
    has neither a `/` nor a known ending). Or `dolly`, `oasst1`, `oasst2`, `starter`, `constrained`,
    `hub:OWNER/NAME`, `dolly:PATH`, `oasst:PATH`, `stackexchange:PATH` (a dump's Posts.xml),
    `feedback` or `feedback:STORE` (a file or a URL)."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """How often its rows are seen per epoch: 0.5 a fixed half of them, 2 each twice."""
    limit: int | None = Field(default=None, ge=1, le=1_000_000_000)
    """The first so many usable conversations, so many comparisons, and so many tasks."""
    split: str | None = None
    """Of the Hub, `train` if nothing is said here; of a folder or a pattern, those files whose
    names tell this split, all if nothing is said."""
    subset: str | None = None
    """Of the Hub only: which of a data set's subsets."""
    columns: dict[str, str] = {}
    """Of files and the Hub: the file's names of columns by ours, `{ prompt = "ask" }`; `a.b` is
    the key `b` of the object in the column `a`."""
    roles: dict[str, Role] = {}
    """Of files and the Hub: who its speakers are, `{ "gpt-4" = "assistant" }`."""
    on_bad_row: Literal["stop", "skip"] = "stop"
    """Of files and the Hub: what a row does that cannot be read. What `skip` leaves out is counted
    and listed."""
    revision: str | None = None
    """The commit, branch or tag on the Hub; of a local file it is only recorded (of a Stack
    Exchange dump, if nothing is said here, the month of its newest post)."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-fA-F]{64}$")
    """What the file must hash to: 64 hexadecimal digits. Of several files, that of their hashes
    one behind the other."""
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

    train_on_members: bool = False
    """feedback only: also what members wrote to the bot, of those who opted in to training.
    Discord's Developer Policy, rule 21: message content obtained through the API may not be used to
    train machine-learning models without Discord's express permission."""

    @classmethod
    def parse(cls, text: str) -> SourceSpec:
        """The source a person wrote on the command line, as in a recipe: a text, or a table in
        braces. DataError if it is none."""
        try:
            value = tomllib.loads(f"source = {text}") if text.startswith("{") else {"source": text}
            return cls.model_validate(value["source"])
        except ValidationError as error:
            problem = error.errors()[0]
            cause = problem.get("ctx", {}).get("error")
            if isinstance(cause, _SourceProblem):
                raise DataError(cause.what, where=text, remedy=cause.remedy) from error
            key = ".".join(map(str, problem["loc"]))
            raise DataError(f"{key}: {problem['msg']}", where=text) from error
        except (ValueError, RecursionError) as error:  # no TOML, too deep, or too long a number
            raise DataError(
                f"this is no table ({error})",
                where=text,
                remedy='Write it as in a recipe: {source = "mine.jsonl", split = "test"}',
            ) from error

    @property
    def kind(self) -> str:
        """The part before the colon: "dolly", "oasst1", "hub", …; of a bare path "file"."""
        name = self.source.partition(":")[0]
        return name if name in KINDS else "file"

    @property
    def path(self) -> Path | None:
        """The path, or None for a set that is known by name."""
        name, _, rest = self.source.partition(":")
        path = rest if name in KINDS else self.source
        return Path(path).expanduser() if path and self.kind != "hub" else None

    @property
    def hub_id(self) -> str:
        """Which data set of the Hub it is, if it is one by its id."""
        return self.source.partition(":")[2] if self.kind == "hub" else ""

    @property
    def name(self) -> str:
        """What reports call it: the kind, or the name of the file, the folder, the set."""
        if self.kind == "hub":
            return self.hub_id.rpartition("/")[2]
        if self.kind not in ("file", "jsonl") or self.path is None:
            return self.kind
        named = next((part for part in reversed(self.path.parts) if not PATTERN.search(part)), "")
        return NAMED.sub("", named) or named or self.kind

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _makes_sense(self) -> SourceSpec:
        kind = _known_kind(self.source)
        if self.kind == FEEDBACK:
            return self
        if self.kind == "hub" and not self.hub_id.strip("/"):
            raise _SourceProblem("a source of the Hub needs a name", "Write `hub:OWNER/NAME`.")
        if self.path is None and not kind.hub_file and kind.reader in ("rows", "stackexchange"):
            example = "Posts.xml" if kind.reader == "stackexchange" else "PATH"
            if self.kind != "hub":
                raise _SourceProblem(
                    f"a {self.kind} source needs a path", f"Write `{self.kind}:{example}`."
                )
        elif self.path is None and kind.reader != "starter" and not kind.hub_file:
            raise _SourceProblem(
                f"`{self.kind}` needs a path",
                f"Write `{self.kind}:PATH`, or `oasst1` or `oasst2` to fetch a whole set.",
            )
        if self.path is not None and kind.reader == "starter":
            raise _SourceProblem("the starter pack has no path", f"Write `{self.kind}`.")
        for option, (kinds, known) in ONLY.items():
            given = getattr(self, option) != type(self).model_fields[option].default
            if given and self.kind not in kinds:
                raise _SourceProblem(
                    f"`{option}` means nothing for `{self.kind}`", f"Only {known} know it."
                )
        if unknown := self.columns.keys() - COLUMNS:
            raise _SourceProblem(
                f"`{min(unknown)}` is no column that is read",
                f'Ours stand on the left: columns = {{ prompt = "ask" }}. They are '
                f"{', '.join(sorted(COLUMNS))}.",
            )
        return self


class _SourceProblem(ValueError):
    """A ValueError (so that pydantic adds the recipe's key) that keeps its remedy apart."""

    def __init__(self, what: str, remedy: str):
        self.what, self.remedy = what, remedy
        super().__init__(f"{what}. {remedy}")


def _known_kind(source: str) -> Kind:
    name, colon, _ = source.partition(":")
    if name in KINDS:
        return KINDS[name]
    is_path = "/" in name or "\\" in name or PATTERN.search(name) or NAMED.search(source)
    if (is_path and not colon) or "/" in name or PureWindowsPath(source).drive:
        return KINDS["file"]
    near = difflib.get_close_matches(name.lower(), KINDS, n=1, cutoff=0.5)
    known = ", ".join(KINDS)
    remedy = f"Did you mean `{near[0]}`? Known are {known}." if near else f"Known are {known}."
    if Path(source).expanduser().exists():
        remedy = f"For the file or folder write `./{source}`."
    raise _SourceProblem(f"`{name}` is no known kind of source", remedy)
