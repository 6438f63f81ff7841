"""What every new row of the store needs: an id, a time, values that a database can hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar
from uuid import uuid4

T = TypeVar("T")

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def utcnow() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


class Clock:
    """The time that the store goes by."""

    def __init__(self, tell: Callable[[], datetime]):
        self.now = tell
        self._newest = datetime.min.replace(tzinfo=UTC)

    def later(self) -> datetime:
        """The time of a new row, later than that of every row made here before: of two votes the
        later counts, even if the clock stands still or is set back."""
        self._newest = max(self.now(), self._newest + timedelta(microseconds=1))
        return self._newest


def new_id() -> str:
    """An id for a row of ours."""
    return str(uuid4())


def chunks(items: Iterable[T], size: int = 500) -> Iterator[list[T]]:
    """Lists of at most `size`: databases bound how many values a statement may name."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def storable(value: Any) -> Any:
    """A value of JSON as every database can hold it.

    U+FFFD for NUL and for halves of surrogate pairs, null for NaN and the infinities.
    """
    if isinstance(value, str):
        return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
