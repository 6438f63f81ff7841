"""A backup becomes a store again: all of it or nothing, on either database.

The file is checked first, and brought up to date in a copy if an older program wrote it. Then all
rows go into the store in one transaction: whatever is killed or full on the way leaves the store as
it was.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Select,
    Table,
    create_engine,
    delete,
    func,
    literal,
    select,
)

from guildgpt.errors import GuildError
from guildgpt.feedback.backups.manifest import TABLES, Manifest
from guildgpt.feedback.backups.writing import AT_ONCE, Tell
from guildgpt.feedback.people.members import KEY_FACT, key_print
from guildgpt.feedback.storage.database import Database, migrate
from guildgpt.feedback.storage.location import (
    KEY_VARIABLE,
    has_key,
    keep_key,
    key_file,
    member_key,
)
from guildgpt.feedback.storage.rows import utcnow
from guildgpt.feedback.storage.schema import erasures, facts, leases, messages, metadata
from guildgpt.feedback.storage.traces import Traces


@dataclass(frozen=True, slots=True)
class Restored:
    """How many rows of each kind the store has now, how many it had, and how many erasures were
    made in it since the backup: whose, nobody knows any more."""

    rows: dict[str, int]
    replaced: int = 0
    erased_since: int = 0


class NotEmpty(GuildError):
    """A store that has something in it already."""


@dataclass(slots=True)
class _Found:
    rows: Counter[str] = field(default_factory=Counter)
    erased_since: int = 0


def settle_key(url: str, manifest: Manifest, file: Path) -> bytes:
    """The member key of the store that is restored to, which must be the backup's; where there is
    none yet, it is the one that the backup brings. GuildError, with what to do."""
    place = f"{key_file(url)} (mode 0600), or its text into ${KEY_VARIABLE}"
    if not has_key(url):
        if manifest.key is None:
            raise GuildError(
                "the key of these members is not here, and the backup does not have it",
                where=file,
                remedy=f"Put the key of the store that it was made of ({manifest.source}) at "
                f"{place}, and restore again: without it nobody would be recognised, nor could "
                "anybody be erased.",
            )
        keep_key(url, bytes.fromhex(manifest.key))
    key = member_key(url)
    if key_print(key) == manifest.key_print:
        return key
    brings = (
        " The backup has it: take the file that is there away, and it is put in its place."
        if manifest.key and not _in_variable(url, key)
        else ""
    )
    raise GuildError(
        "this store has another key than the one that was backed up: no member would be recognised",
        where=file,
        remedy=f"Put the key of the store that it was made of ({manifest.source}) at {place}. "
        f"Keep the one that is there, if a store of yours needs it.{brings}",
    )


def _in_variable(url: str, key: bytes) -> bool:
    """Whether the key in force is the variable's, not the file's."""
    path = key_file(url)
    return not path.exists() or path.read_text(errors="replace").strip() != key.hex()


async def restore(
    url: str,
    file: Path,
    manifest: Manifest,
    *,
    replace: bool = False,
    tell: Tell = lambda done, of: None,
) -> Restored:
    """Take a checked backup into the store at the URL, which is made if there is none.

    Raises NotEmpty for one that has rows, unless they are to be replaced; GuildError while a bot, a
    server or a turn is at work on it, or where another key made it; StoreError as every store does.
    """
    database = await Database.open(url, patience=5.0)
    try:
        with _up_to_date(file, manifest) as source:

            def work(connection: Connection) -> Restored:
                _check_idle(connection, database)
                found = _already_there(connection, database, manifest)
                if found.rows and not replace:
                    raise _not_empty(database, found.rows)
                with source.connect() as reading:
                    rows = _fill(reading, connection, manifest, tell)
                if found.rows:
                    traces.note(connection)
                return Restored(rows, found.rows.total(), found.erased_since)

            traces = Traces(database)
            restored = await database.write(work, alone=True)
        await traces.scrub()
        return restored
    finally:
        await database.close()


async def contents(url: str) -> Counter[str]:
    """How many rows of each kind a store has, of those that a restore would replace."""
    database = await Database.open(url, patience=5.0)
    try:
        return await database.read(_rows_in)
    finally:
        await database.close()


def _check_idle(connection: Connection, database: Database) -> None:
    now: Any = utcnow() if database.is_sqlite else func.clock_timestamp()
    wanted = select(leases.c.name, leases.c.holder).where(leases.c.expires_at > now)
    for lease in connection.execute(wanted):
        raise GuildError(
            f"a process is at work on this store ({lease.name}: {lease.holder})",
            where=database.where,
            remedy="Stop the bot, the server and `guildgpt learn` before; if one was killed, wait "
            "a minute.",
        )


def _already_there(connection: Connection, database: Database, manifest: Manifest) -> _Found:
    noted = connection.scalar(select(facts.c.value).where(facts.c.name == KEY_FACT))
    rows = _rows_in(connection)
    if noted not in (None, manifest.key_print) and rows:
        raise GuildError(
            "another key made this store: its members and the backup's are told apart by two keys",
            where=database.where,
            remedy="Restore into an empty store: name a new file or database (--store).",
        )
    since = select(func.count()).where(erasures.c.created_at > manifest.made_at)
    return _Found(rows, connection.scalar(since) or 0)


def _rows_in(connection: Connection) -> Counter[str]:
    """Rows by table, of those that are not written by opening a store."""
    passing = {facts.name, leases.name}
    counts = {
        table.name: connection.scalar(select(func.count()).select_from(table)) or 0
        for table in metadata.sorted_tables
        if table.name not in passing
    }
    return Counter({name: count for name, count in counts.items() if count})


def _not_empty(database: Database, rows: Counter[str]) -> NotEmpty:
    counted = ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in rows.most_common(4)
    )
    return NotEmpty(
        f"there is something in this store already ({counted})",
        where=database.where,
        remedy="Name an empty one (--store), or --replace: what is there is gone then. Back it up "
        "first.",
    )


def _fill(source: Connection, target: Connection, manifest: Manifest, tell: Tell) -> dict[str, int]:
    """Delete all rows, and take in those of the source."""
    for table in reversed(metadata.sorted_tables):
        target.execute(delete(table))
    counts: Counter[str] = Counter()
    for table in TABLES:
        found = source.execute(_in_order(table), execution_options={"yield_per": AT_ONCE})
        for rows in found.partitions():
            target.execute(table.insert(), [row._asdict() for row in rows])
            counts[table.name] += len(rows)
            tell(counts.total(), manifest.rows)
    return {name: count for name, count in counts.items() if count}


def _in_order(table: Table) -> Select[tuple[object, ...]]:
    """All rows; of messages each after the one that it replies to."""
    if table is not messages:
        return select(table)
    tree = (
        select(messages.c.id, literal(0).label("depth"))
        .where(messages.c.parent_id.is_(None))
        .cte("tree", recursive=True)
    )
    below = select(messages.c.id, tree.c.depth + 1).join(tree, messages.c.parent_id == tree.c.id)
    tree = tree.union_all(below)
    return select(messages).join(tree, tree.c.id == messages.c.id).order_by(tree.c.depth)


@contextmanager
def _up_to_date(file: Path, manifest: Manifest) -> Iterator[Engine]:
    """The backup with this program's tables: itself, or a copy that was migrated."""
    with tempfile.TemporaryDirectory(prefix="guildgpt-restore-") as folder:
        path = file
        if manifest.is_older:
            path = Path(folder) / "backup.db"
            try:
                shutil.copyfile(file, path)
            except OSError as error:
                raise GuildError(
                    f"the backup cannot be copied to be brought up to date ({error.strerror})",
                    where=folder,
                    remedy="Make room there, or name another folder in $TMPDIR.",
                ) from error
        engine = create_engine(URL.create("sqlite", database=str(path)), hide_parameters=True)
        try:
            if manifest.is_older:
                with engine.begin() as connection:
                    migrate(connection)
            yield engine
        finally:
            engine.dispose()
