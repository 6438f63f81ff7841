"""From sources to a data set: duplicates out, a part held out, the rest mixed by weight."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from guildgpt.chat import Comparison, Conversation, Rejected, Task
from guildgpt.data.provenance import Provenance
from guildgpt.data.source import Loaded
from guildgpt.data.split import AnyRow, digest, fraction, split_side
from guildgpt.errors import DataError

Kind = Literal["conversations", "comparisons", "tasks", "rejected"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(slots=True)
class SourceReport:
    """What became of one source's rows, all of them or those of one kind."""

    rows: int = 0  # usable rows read
    train: int = 0  # rows seen per epoch; a row of weight 2 counts twice
    held_out: int = 0
    duplicates: int = 0  # rows that an earlier one, of this or another source, equals
    unused: int = 0  # left out by a weight below 1 or by `held_out_limit`
    skipped: dict[str, int] = field(default_factory=dict)  # why the reader took no row: how often

    def __add__(self, other: SourceReport) -> SourceReport:
        """Both together, of one source."""
        counts = ("rows", "train", "held_out", "duplicates", "unused")
        return SourceReport(
            **{name: getattr(self, name) + getattr(other, name) for name in counts},
            skipped=self.skipped,
        )


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows ready for a stage, in the order of one epoch, and where they came from."""

    train: list[Conversation]
    held_out: dict[str, list[Conversation]]  # by source name
    train_comparisons: list[Comparison]
    held_out_comparisons: list[Comparison]
    train_tasks: list[Task]
    held_out_tasks: list[Task]
    provenance: list[Provenance]
    reports: dict[str, dict[Kind, SourceReport]]  # by source name
    train_rejected: list[Rejected] = field(default_factory=list)
    held_out_rejected: list[Rejected] = field(default_factory=list)

    @property
    def report(self) -> dict[str, SourceReport]:
        """What became of each source's rows of all kinds."""
        return {name: sum_of(kinds.values()) for name, kinds in self.reports.items()}


def build(
    loaded: Sequence[Loaded],
    *,
    held_out: float = 0.05,
    held_out_limit: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Mix sources into one data set.

    `held_out` is the share of rows held out, `held_out_limit` the most conversations, comparisons
    and tasks that each source gives for it (what is over stays unused: a row never changes
    sides). The seed decides the order of the train rows only. DataError if nothing is left.
    """
    names = distinct_names([item.name for item in loaded])
    dataset = Dataset([], {}, [], [], [], [], [], {})
    seen: set[str] = set()
    for name, item in zip(names, loaded, strict=True):
        skipped = dict(item.skipped.most_common())
        reports = {kind: SourceReport(skipped=skipped) for kind in KINDS}
        mixes = (
            _Mix(item.spec.weight, held_out, held_out_limit, seen, reports[kind]) for kind in KINDS
        )
        conversations, comparisons, tasks, rejected = mixes
        dataset.held_out[name] = []
        conversations.share(_named(item.conversations, name), dataset.train, dataset.held_out[name])
        comparisons.share(
            _named(item.comparisons, name), dataset.train_comparisons, dataset.held_out_comparisons
        )
        tasks.share(_named(item.tasks, name), dataset.train_tasks, dataset.held_out_tasks)
        rejected.share(
            _named(item.rejected, name), dataset.train_rejected, dataset.held_out_rejected
        )
        dataset.provenance.append(replace(item.provenance, name=name, held_out=held_out))
        dataset.reports[name] = reports
    rows = (dataset.train, dataset.train_comparisons, dataset.train_tasks, dataset.train_rejected)
    if loaded and not any(rows):
        raise _nothing_left(dataset.report, held_out)
    _shuffle(dataset.train, seed)
    _shuffle(dataset.train_comparisons, seed)
    _shuffle(dataset.train_tasks, seed)
    _shuffle(dataset.train_rejected, seed)
    return dataset


def _nothing_left(reports: Mapping[str, SourceReport], held_out: float) -> DataError:
    """The error for sources without a row to train on: what became of their rows."""
    counts: Counter[str] = Counter()
    for report in reports.values():
        counts["held out"] += report.held_out
        counts["left out by the source's weight, or over held_out_limit"] += report.unused
        counts["the same as others"] += report.duplicates
        counts.update({f"left out: {why}": count for why, count in report.skipped.items()})
    fate = ", ".join(f"{count:,} {what}" for what, count in counts.most_common() if count)
    remedy = "Name a source with rows."
    if counts["held out"]:
        remedy = (
            f"Which rows are held out, their words decide, a share of {held_out:g} on the average: "
            "set data.held_out = 0 to train on all of them, or add rows."
        )
    elif counts.total():
        remedy = "Mend the rows, or name another source. Their places: guildgpt data preview SOURCE"
    return DataError(
        f"no row is left to train on: {fate or 'there are none'}",
        where=", ".join(reports),
        remedy=remedy,
    )


def sum_of(reports: Iterable[SourceReport]) -> SourceReport:
    """Several kinds of one source's rows together."""
    first, *others = reports
    return sum(others, start=first)


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names, a second "jsonl" becoming "jsonl-2" and so on."""
    taken = set(names)
    result: list[str] = []
    for name in names:
        unique, number = name, 2
        while name in result and unique in taken:
            unique, number = f"{name}-{number}", number + 1
        taken.add(unique)
        result.append(unique)
    return result


@dataclass(frozen=True, slots=True)
class _Mix:
    """How one source's rows are shared out, and the report that counts them."""

    weight: float
    held_out: float
    held_out_limit: int | None
    seen: set[str]  # kind and key of every row so far, of all sources
    report: SourceReport

    def share(self, rows: Iterable[AnyRow], train: list[AnyRow], held_out: list[AnyRow]) -> None:
        """Add the train rows of one epoch (copies side by side) and the held-out rows."""
        kept_out: list[AnyRow] = []
        for row in rows:
            self.report.rows += 1
            key = f"{type(row).__name__} {row.key}"
            if key in self.seen:
                self.report.duplicates += 1
                continue
            self.seen.add(key)
            if split_side(row, self.held_out) == "held_out":
                kept_out.append(row)
                continue
            copies = times(row, self.weight)
            train += [row] * copies
            self.report.train += copies
            self.report.unused += copies == 0
        if self.held_out_limit is not None and len(kept_out) > self.held_out_limit:
            self.report.unused += len(kept_out) - self.held_out_limit
            kept_out = sorted(kept_out, key=lambda row: digest("held out", row.key))
            kept_out = kept_out[: self.held_out_limit]
        self.report.held_out += len(kept_out)
        held_out += kept_out


def times(row: Conversation | Rejected | Comparison | Task, weight: float) -> int:
    """How often a row is seen per epoch: the whole part of `weight`, and once more for a fixed
    part of the rows as large as the rest."""
    whole = math.floor(weight)
    return whole + (fraction("weight", row.key) < weight - whole)


def _named(rows: Iterable[AnyRow], name: str) -> list[AnyRow]:
    return [
        row if row.source.name == name else replace(row, source=replace(row.source, name=name))
        for row in rows
    ]


def _shuffle(rows: list[AnyRow], seed: int) -> None:
    """Order by a hash of seed, row and copy: another row more or less moves none of the others."""
    counts: dict[str, int] = {}

    def place(row: AnyRow) -> str:
        copy = counts[row.key] = counts.get(row.key, 0) + 1
        return digest("order", str(seed), row.key, str(copy))

    rows.sort(key=place)
