"""The store, as it is at one moment, written into one file while others go on using it.

On both databases the rows are read in one transaction that sees one moment (SQLite's log and
PostgreSQL's REPEATABLE READ): nobody waits for it, and it waits for nobody. They are written into
a SQLite store beside the file that is to be made, which takes its name only once it is whole, on
the disk and read again.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import URL, Connection, Table, create_engine, func, select
from sqlalchemy.exc import DBAPIError

from guildgpt.errors import GuildError
from guildgpt.feedback.backups.manifest import (
    TABLES,
    TRANSIENT,
    Manifest,
    read_manifest,
    write_manifest,
)
from guildgpt.feedback.people.members import key_print
from guildgpt.feedback.storage.database import migrate
from guildgpt.feedback.storage.schema import HEAD, facts
from guildgpt.feedback.storage.trouble import diagnose
from guildgpt.feedback.store import Store

Tell = Callable[[int, int], None]  # rows that are done, of so many
AT_ONCE = 500  # rows


async def back_up(
    store: Store,
    out: Path,
    *,
    now: datetime,
    key: bytes,
    with_key: bool = False,
    tell: Tell = lambda done, of: None,
) -> Manifest:
    """Write the store into a file that only its owner may read, whole or not at all; what stood
    there is replaced. With the `key` in it, if that is wanted. GuildError if it cannot be."""
    with _beside(out) as part, _in_words(out):

        def work(connection: Connection) -> int:
            with _in_words(out):
                part.unlink(missing_ok=True)  # the database was gone for a moment: begun anew
                os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            return _copy(connection, part, out, tell)

        rows = await store.database.read_aside(work)
        manifest = Manifest(
            made_at=now,
            program=version("guildgpt"),
            source=store.database.where,
            migration=HEAD,
            rows=rows,
            key_print=key_print(key),
            key=key.hex() if with_key else None,
        )
        write_manifest(part, manifest)
        _settle(part)
        read_manifest(part)
        part.replace(out)
        _settle(out.parent)
    return manifest


def _copy(source: Connection, part: Path, out: Path, tell: Tell) -> int:
    counted = [source.scalar(select(func.count()).select_from(table)) or 0 for table in TABLES]
    engine = create_engine(URL.create("sqlite", database=str(part)), hide_parameters=True)
    done = 0
    try:
        with engine.connect() as target:
            with _in_words(out):
                # Nobody else sees it before it is whole: no log is needed to undo anything.
                target.exec_driver_sql("PRAGMA journal_mode = OFF")
                target.exec_driver_sql("PRAGMA synchronous = OFF")
                migrate(target)
            for table in TABLES:
                for rows in _rows(source, table):
                    with _in_words(out):
                        target.execute(table.insert(), rows)
                    done += len(rows)
                    tell(done, sum(counted))
            with _in_words(out):
                target.commit()
        return done
    finally:
        engine.dispose()


def _rows(source: Connection, table: Table) -> Iterator[list[dict[str, object]]]:
    wanted = select(table)
    if table is facts:
        wanted = wanted.where(facts.c.name != TRANSIENT)
    found = source.execute(wanted, execution_options={"yield_per": AT_ONCE})
    for rows in found.partitions():
        yield [row._asdict() for row in rows]


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Where it is written until it is whole; nothing of it is left if it does not become so."""
    for stray in out.parent.glob(f".{out.name}.*.part"):
        if _is_dead(stray):
            stray.unlink(missing_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _in_words(out: Path) -> Iterator[None]:
    """What is wrong with the disk that is written to: the store's own trouble is another."""
    try:
        yield
    except (DBAPIError, sqlite3.Error, OSError) as error:
        trouble = None if isinstance(error, OSError) else diagnose(error)
        said = trouble.what if trouble else getattr(error, "strerror", None) or str(error)
        raise GuildError(  # not from it: of what is wrong with the store, the store would speak
            f"the backup cannot be written: {said}",
            where=out,
            remedy="Make room there, or name a file on another disk. The store is as it was.",
        ) from None


def _is_dead(part: Path) -> bool:
    """Whether the process that wrote it is gone: it was killed."""
    found = re.search(r"\.(\d+)\.part$", part.name)
    if found is None or os.name != "posix":  # elsewhere to ask is to kill
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _settle(path: Path) -> None:
    """It outlasts a power cut from here on."""
    if os.name == "posix" or path.is_file():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
