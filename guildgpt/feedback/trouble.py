"""What a database's error means to a person: what is wrong, what to do, whether waiting helps."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault of the database, in words. What is `passing` is worth another try."""

    what: str
    remedy: str
    passing: bool = False


GONE = Trouble(
    "what this refers to is no longer in the store",
    "It was erased, or dropped when its time was over.",
)
_LOCKED = Trouble(
    "the database is locked by another program",
    "Close whatever else has the file open (a backup, a database browser) and try again.",
    passing=True,
)
_READ_ONLY = Trouble(
    "the database is read-only",
    "Let this user write to the file and to its folder, or name another file.",
)
_FULL = Trouble("the disk is full", "Make room on the disk of the database; nothing is lost.")
_DAMAGED = Trouble(
    "the database is damaged",
    "Restore a backup, or save what can be read with `sqlite3 FILE .recover`.",
)
_AWAY = Trouble(
    "the database server cannot be reached",
    "Is it running, and are host and port right? It is tried again with the next request.",
    passing=True,
)
_CROWDED = Trouble(
    "the database has no connection free",
    "Wait a moment; if it stays so, raise the server's `max_connections`.",
    passing=True,
)
_CONFLICT = Trouble("others are writing the same rows", "Try again.", passing=True)

# By SQLite's primary result code: https://www.sqlite.org/rescode.html
_SQLITE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_IOERR: Trouble(
        "the disk does not read or write the database",
        "Look at the system's log: the disk may be full, failing, or no longer mounted.",
    ),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CANTOPEN: Trouble(
        "the database file cannot be opened",
        "Does its folder exist, and may this user write to the folder and the file?",
    ),
    sqlite3.SQLITE_NOTADB: Trouble(
        "this file is not a database", "Name the store's file, or one that does not exist yet."
    ),
}

# By SQLSTATE, whole or its class: https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRES = {
    "08": _AWAY,
    "23503": GONE,
    "25006": _READ_ONLY,
    "28": Trouble(
        "the database server refuses the user or the password",
        "Check both in the store's URL (postgresql://user:password@host/database).",
    ),
    "3D000": Trouble(
        "the database does not exist on the server", "Create it: `createdb -O USER NAME`."
    ),
    "40": _CONFLICT,
    "42501": Trouble(
        "the database's user lacks a permission",
        "Make it the owner: `ALTER DATABASE name OWNER TO user`.",
    ),
    "53100": _FULL,
    "53300": _CROWDED,
    "55P03": _CONFLICT,
    "57P": _AWAY,
    "58": Trouble("the database server has a disk fault", "Look at the server's log."),
    "XX001": Trouble("the database is damaged", "Restore a backup; look at the server's log."),
    "XX002": Trouble("an index is damaged", "Run `REINDEX DATABASE`; look at the server's log."),
}


def diagnose(error: BaseException) -> Trouble | None:
    """What an error of the database or the network means; None if it is none of these."""
    if isinstance(error, PoolTimeout):
        return _CROWDED
    for cause in _causes(error):
        code = getattr(cause, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
            return GONE
        if code is not None:
            return _SQLITE.get(code & 0xFF)
        if state := getattr(cause, "sqlstate", None):
            return next((_POSTGRES[state[:n]] for n in (5, 3, 2) if state[:n] in _POSTGRES), None)
    if isinstance(error, DBAPIError):
        return _AWAY if error.connection_invalidated else None
    return _AWAY if isinstance(error, OSError) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made from, down to the driver's own."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or getattr(cause, "orig", None)
