"""What reading a source says beside the rows that it gives."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from guildgpt.data.rows import printable
from guildgpt.errors import DataError

BAD_ROW = "a row that cannot be read"


@dataclass(slots=True)
class Notes:
    """Why rows were left out, what of the others was not read, and what else is to be known."""

    skipped: Counter[str] = field(default_factory=Counter)  # the reason in plain words: how often
    places: dict[str, str] = field(default_factory=dict)  # the reason: the first such row's place
    unread: Counter[str] = field(default_factory=Counter)  # a column with text: rows that have it
    others: dict[str, None] = field(default_factory=dict)  # columns without, in order of meeting
    notices: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)  # rows that `on_bad_row` passes over: where, what

    def skip(self, reason: str, where: str) -> None:
        """A row is left out."""
        self.skipped[reason] += 1
        self.places.setdefault(reason, printable(where))

    def pass_over(self, error: DataError) -> None:
        """A row that cannot be read is left out."""
        self.skip(BAD_ROW, error.where or "")
        self.bad.append(printable(f"{error.where}: {error.what}"))
