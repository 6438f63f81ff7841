"""What a database's error means to a person: what is wrong, what to do, whether waiting helps."""

from __future__ import annotations

import socket
import sqlite3
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from guildgpt.feedback.storage.postgres_url import ENCODE, FORM


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault of the database, in words. What is `passing` is worth another try."""

    what: str
    remedy: str
    passing: bool = False


class Known(Exception):
    """A trouble that is known where it is found."""

    def __init__(self, trouble: Trouble):
        super().__init__(trouble.what)
        self.trouble = trouble


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
    "Wait a moment; if it stays so, raise the server's `max_connections`, the user's "
    "`CONNECTION LIMIT` or the pooler's size: the bot takes 10 at most.",
    passing=True,
)
_CANNOT_WRITE = Trouble(
    "the database is read-only",
    "If it is a replica, name the primary server, or all of them: `host1:5432,host2:5432`. "
    "Else look at `SHOW default_transaction_read_only`.",
)
_CUT_OFF = Trouble(
    "the database server cut a statement off, for it took too long",
    "Give the user more time: `ALTER ROLE name SET statement_timeout = '30s'`.",
    passing=True,
)
_UNNOTICED_POOLER = Trouble(
    "a pooler stands before the database that was not noticed",
    "Say so in the store's URL: `?pgbouncer=true`.",
)
_UNKNOWN_HOST = Trouble(
    "the name of the database server is not known",
    "Is the host in the store's URL right, and does this machine resolve names?",
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

_OF_ANOTHER_HOST = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH

# By SQLSTATE, whole or its class: https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRES = {
    "08": _AWAY,
    "22021": GONE,  # an id with NUL in it: no row has one, and what is written has none
    "23503": GONE,
    "26000": _UNNOTICED_POOLER,
    "42P05": _UNNOTICED_POOLER,
    "25006": _CANNOT_WRITE,
    "25P03": _CUT_OFF,
    "25P04": _CUT_OFF,
    "28": Trouble(
        "the database server refuses the user or the password",
        f"Check both in the store's URL ({FORM}). {ENCODE}",
    ),
    "3D000": Trouble(
        "the database does not exist on the server", "Create it: `createdb -O USER NAME`."
    ),
    "3F000": Trouble(
        "the user's `search_path` names no schema that tables could lie in",
        "`ALTER ROLE name SET search_path = public`, or make the schema that it names.",
    ),
    "40": _CONFLICT,
    "42501": Trouble(
        "the database's user lacks a permission",
        "As its owner: `GRANT USAGE, CREATE ON SCHEMA public TO name`. Or make the user the owner: "
        "`ALTER DATABASE database OWNER TO name`.",
    ),
    "53100": _FULL,
    "53300": _CROWDED,
    "55P03": _CONFLICT,
    "57014": _CUT_OFF,
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
        if isinstance(cause, Known):
            return cause.trouble
        code = getattr(cause, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
            return GONE
        if code is not None:
            return _SQLITE.get(code & 0xFF)
        if state := getattr(cause, "sqlstate", None):
            # PgBouncer gives only the one that servers translate.
            grave = getattr(cause, "severity_en", None) or getattr(cause, "severity", None)
            return refused(cause) if grave == "FATAL" else _by_state(state)
    if isinstance(error, DBAPIError):
        return _AWAY if error.connection_invalidated else None
    return _unconnected(error) if isinstance(error, OSError) else None


def refused(error: BaseException) -> Trouble:
    """Why a server, or what stands before it, takes no connection or ends it: in its own words,
    where they say more than ours."""
    state = str(getattr(error, "sqlstate", ""))
    words = " ".join(str(error).split())[:200]
    if "unsupported startup parameter" in words:
        return Trouble(
            f"the pooler before the database refuses the connection: {words}",
            "Take the parameter out of the store's URL, or add it to PgBouncer's "
            "`ignore_startup_parameters`.",
        )
    if state in ("22023", "42601", "42704"):
        return Trouble(
            f"the database server refuses what the URL's `options` set: {words}",
            "Write options=-c%20name=value, or take it out of the store's URL.",
        )
    if state == "28000":
        return Trouble(
            f"the database server does not let this user in: {words}",
            "If it wants TLS, write `sslmode=require` in the store's URL. Else the server's "
            "pg_hba.conf, or the hoster's list of addresses, must name this machine.",
        )
    known = _by_state(state)
    if known is not None and state != "08P01":
        return known
    return Trouble(
        f"the database server refuses the connection: {words}",
        "These are the words of the server, or of the pooler before it.",
        passing=known is not None,  # PgBouncer's number for almost everything
    )


def _by_state(state: str) -> Trouble | None:
    return next((_POSTGRES[state[:n]] for n in (5, 3, 2) if state[:n] in _POSTGRES), None)


def _unconnected(error: OSError) -> Trouble:
    """What keeps a connection from being made, before the server says a word."""
    if isinstance(error, ssl.SSLCertVerificationError):
        named = error.verify_code in _OF_ANOTHER_HOST
        return Trouble(
            f"the database server's certificate does not pass: {error.verify_message}",
            "Write the host in the store's URL as the certificate names it."
            if named
            else "Name your hoster's authority in the store's URL: `sslrootcert=FILE`. (It is "
            "verified for `sslmode=verify-full` and for `channel_binding=require`.)",
        )
    if isinstance(error, ssl.SSLError):
        return Trouble(
            f"TLS with the database server fails: {error.reason or error}",
            "Look at the parameters of the store's URL that begin with ssl.",
        )
    if "rejected SSL upgrade" in str(error):  # asyncpg's words; it has no class for it
        return Trouble(
            "the database server does not speak TLS, which the store's URL asks for",
            "Switch it on there (`ssl = on`); in a network of your own, write `sslmode=disable`.",
        )
    return _UNKNOWN_HOST if isinstance(error, socket.gaierror) else _AWAY


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made from, down to the driver's own."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or getattr(cause, "orig", None)
