"""A backup's file: a SQLite store like any other, and in it a table that says what it is.

`backup` has a name and a value a row: when it was made, by which program, of which store, the
member key's fingerprint (never the key, unless it was asked for), and a digest of all the rows, by
which it is known whether it came through whole. So it may be looked at with any SQLite browser.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from guildgpt.errors import GuildError
from guildgpt.feedback.storage.schema import HEAD, VERSION_TABLE, metadata

MANIFEST = "backup"
SQLITE = b"SQLite format 3\0"
LEFT_OUT = frozenset({"leases", "sessions", "invitations"})
"""What a backup has not: who is at work, and what would let somebody in."""
TRANSIENT = "unscrubbed"  # a fact about a file (`storage/traces.py`), not about the store
TABLES = tuple(table for table in metadata.sorted_tables if table.name not in LEFT_OUT)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself. `key_print` is the member key's fingerprint; `key` the key
    itself, in hexadecimal, where it was taken along."""

    made_at: datetime
    program: str
    source: str
    migration: str
    rows: int
    key_print: str
    key: str | None = field(default=None, repr=False)

    @property
    def is_older(self) -> bool:
        """Whether its tables have to be brought up to date."""
        return self.migration != HEAD


def write_manifest(file: Path, manifest: Manifest) -> None:
    """The last that is written into a backup: with the digest of all that is in it."""
    said = {
        "made_at": manifest.made_at.isoformat(),
        "program": manifest.program,
        "source": manifest.source,
        "rows": str(manifest.rows),
        "key_print": manifest.key_print,
    }
    if manifest.key is not None:
        said["key"] = manifest.key
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"CREATE TABLE {MANIFEST} (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        connection.executemany(f"INSERT INTO {MANIFEST} VALUES (?, ?)", said.items())
        digest = ("digest", _digest(connection))
        connection.execute(f"INSERT INTO {MANIFEST} VALUES (?, ?)", digest)


def read_manifest(file: Path) -> Manifest:
    """What a backup is, once it is known to be whole. GuildError for what is none, or damaged."""
    with _opened(file) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if not {MANIFEST, VERSION_TABLE} <= tables:
            raise _no_backup(file)
        said = dict(connection.execute(f"SELECT name, value FROM {MANIFEST}"))
        [(migration,)] = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}")
        whole = connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
        if not whole or said.get("digest") != _digest(connection):
            raise _damaged(file)
    if not migration.isdecimal() or migration > HEAD:
        raise GuildError(
            "a newer GuildGPT wrote this backup",
            where=file,
            remedy="Update this one: pip install -U guildgpt",
        )
    return Manifest(
        made_at=datetime.fromisoformat(said["made_at"]),
        program=said["program"],
        source=said["source"],
        migration=migration,
        rows=int(said["rows"]),
        key_print=said["key_print"],
        key=said.get("key"),
    )


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """The file, only to be read; what is wrong with it in words."""
    try:
        with file.open("rb") as stream:
            begins = stream.read(len(SQLITE))
    except OSError as error:
        raise GuildError(
            f"the backup cannot be read ({error.strerror})",
            where=file,
            remedy="Name the file that `guildgpt feedback backup` wrote.",
        ) from error
    if begins != SQLITE:
        raise _no_backup(file)
    address = f"{file.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            yield connection
    except (sqlite3.Error, UnicodeDecodeError, KeyError, ValueError) as error:
        raise _damaged(file) from error


def _digest(connection: sqlite3.Connection) -> str:
    """Of all rows of all tables, as they are stored, whatever order they lie in."""
    total = 0
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    for (name,) in names.fetchall():
        for row in connection.execute(f'SELECT * FROM "{name}"'):
            if (name, row[0]) != (MANIFEST, "digest"):
                hashed = hashlib.sha256(repr((name, row)).encode("utf-8", "surrogatepass"))
                total += int.from_bytes(hashed.digest())
    return f"{total % 2**256:064x}"


def _no_backup(file: Path) -> GuildError:
    return GuildError(
        "this is no backup",
        where=file,
        remedy="Name a file that `guildgpt feedback backup` wrote. A store itself is used where it "
        "lies: --store FILE, with its key beside it.",
    )


def _damaged(file: Path) -> GuildError:
    return GuildError(
        "this backup is damaged: it was cut off or changed since it was written",
        where=file,
        remedy="Copy it once more from where it was kept, or take an earlier one.",
    )
