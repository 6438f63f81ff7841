"""What rows of the store need: an id, a time, values that a database can hold and look for."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import ARRAY, ColumnElement, Connection, any_, func, literal, select

from guildgpt.errors import GuildError

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


def new_secret() -> str:
    """What lets its holder in: a link's end, a session, a key."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What the store has of a secret. It is long and random, so nothing slower is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def seconds_until_tomorrow(now: datetime) -> float:
    """Until the next day begins, in UTC."""
    begun = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return (begun + timedelta(days=1) - now).total_seconds()


def among(
    connection: Connection, column: ColumnElement[Any], values: Iterable[object]
) -> ColumnElement[bool]:
    """Whether a column has one of these values; many of them are one parameter: databases bound how
    many parameters a statement may have."""
    wanted = list(values)
    if len(wanted) < 500:
        return column.in_(wanted)
    if connection.dialect.name == "sqlite":
        listed = func.json_each(json.dumps(wanted)).table_valued("value")
        return column.in_(select(listed.c.value))
    return column == any_(literal(wanted, ARRAY(column.type)))


def write_whole(out: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file, all of it or none: it is written beside it, then takes its name; GuildError if
    it cannot be."""
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        part.replace(out)
    except OSError as error:
        raise GuildError(f"the file cannot be written ({error.strerror})", where=out) from error
    finally:
        part.unlink(missing_ok=True)


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
