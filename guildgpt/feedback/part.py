"""What the parts of the store share: its database and its clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar
from uuid import uuid4

from guildgpt.errors import RecordGone
from guildgpt.feedback.database import Database
from guildgpt.feedback.trouble import GONE

T = TypeVar("T")


def utcnow() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """An id for a row of ours."""
    return str(uuid4())


def chunks(items: Iterable[T], size: int = 500) -> Iterator[list[T]]:
    """Lists of at most `size`: databases bound how many values a statement may name."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


class Part:
    """A part of the store, over the database that all of them share."""

    def __init__(self, database: Database, *, key: bytes, clock: Callable[[], datetime]):
        self._database = database
        self._key = key
        self._clock = clock
        self._newest: datetime | None = None
        self.log_has_traces = self.file_has_traces = False  # of what was deleted; see `scrubbing`

    def _now(self) -> datetime:
        """The time of a new row, later than that of every row made here before: of two votes the
        later counts, even if the clock stands still or is set back."""
        now = self._clock()
        if self._newest is not None and now <= self._newest:
            now = self._newest + timedelta(microseconds=1)
        self._newest = now
        return now

    def _insert(self, table: Any) -> Any:
        return self._database.insert(table)

    def _gone(self) -> RecordGone:
        return RecordGone(GONE.what, where=self._database.where, remedy=GONE.remedy)
