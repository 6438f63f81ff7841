"""One database, SQLite or PostgreSQL: opened, migrated, read and written to, its errors in words.

A unit of work is a plain function of a connection. It runs in one transaction, on SQLite in a
thread, and again from its start when the database was locked or gone for a moment; so it makes its
ids and times outside itself. Its rows are read to the end before it returns, and before it changes
what they were read from.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Executable, inspect, make_url, text
from sqlalchemy.exc import ArgumentError

from guildgpt.errors import RecordGone, StoreError
from guildgpt.feedback.storage.postgres import Postgres
from guildgpt.feedback.storage.postgres_url import ENCODE, FORM, PostgresURL, read_url
from guildgpt.feedback.storage.schema import HEAD, VERSION_TABLE, metadata
from guildgpt.feedback.storage.sqlite import Sqlite, T, Work
from guildgpt.feedback.storage.trouble import GONE, diagnose

_PAUSE = 0.02  # seconds between two tries


class Database:
    """Open one with `Database.open`; every method may raise StoreError."""

    def __init__(self, server: Sqlite | Postgres, where: str, patience: float):
        """`where` names the database for people, without a password; `patience` in seconds."""
        self.server = server
        self.where = where
        self.is_sqlite = isinstance(server, Sqlite)
        # An INSERT that can say what happens `on_conflict`: of this the dialects agree, and
        # SQLAlchemy does not know.
        self.insert: Any = server.insert
        self._patience = patience
        self._running: set[asyncio.Future[Any]] = set()

    @classmethod
    async def open(cls, url: str, *, patience: float) -> Database:
        """Connect, and bring the schema up to date."""
        parsed = parse(url)
        database = cls(_server(parsed), _shown(parsed), patience)
        try:
            await database._look(parsed)
            await database._prepare()
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Let what is being written come to its end, and disconnect."""
        while self._running:
            await asyncio.wait(self._running)
        await self.server.close()

    async def read(self, work: Work[T]) -> T:
        """Do the work in a transaction that sees one moment."""
        return await self._to_its_end(self._patiently(lambda: self.server.read(work)))

    async def read_aside(self, work: Work[T]) -> T:
        """The same for work that takes seconds: never in the loop's own thread."""
        return await self._to_its_end(self._patiently(lambda: self.server.read_aside(work)))

    async def write(self, work: Work[T], *, alone: bool = False) -> T:
        """Do the work in a transaction; `alone`: while no other process writes either."""
        return await self._to_its_end(self._patiently(lambda: self.server.write(work, alone=alone)))

    async def rows(
        self, wanted: Executable, parameters: dict[str, Any] | None = None
    ) -> Sequence[Any]:
        """What one statement finds."""
        return await self.read(lambda connection: connection.execute(wanted, parameters).all())

    async def row(self, wanted: Executable) -> Any:
        """The first row that one statement finds; None if it finds nothing."""
        return await self.read(lambda connection: connection.execute(wanted).first())

    async def value(self, wanted: Executable) -> Any:
        """The first value of the first row that one statement finds; None if it finds nothing."""
        return await self.read(lambda connection: connection.scalar(wanted))

    async def execute(self, statement: Executable, rows: Any = None) -> int:
        """Write with one statement; how many rows it found."""
        return await self.write(lambda connection: connection.execute(statement, rows).rowcount)

    async def scrub(self) -> bool:
        """Rewrite a SQLite file without what was ever deleted in it, the log included.

        `secure_delete` does not do: when rows move to another page, copies stay behind in the first
        one. False if somebody was reading what was deleted all the while.
        """
        return await self._to_its_end(self._scrub())

    async def empty_log(self) -> bool:
        """Write a SQLite file's log back into it; False while somebody reads an older state."""
        return await self._to_its_end(self._patiently(self.server.empty_log))

    async def _scrub(self) -> bool:
        await self._patiently(self.server.rewrite)
        for _ in range(max(1, round(self._patience / _PAUSE))):
            if await self._patiently(self.server.empty_log):
                return True
            await asyncio.sleep(_PAUSE)
        return False

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try again while it may help; what does not pass becomes a StoreError."""
        deadline = asyncio.get_running_loop().time() + self._patience
        while True:
            try:
                return await attempt()
            except Exception as error:
                trouble = diagnose(error)
                if trouble is None:
                    raise
                late = asyncio.get_running_loop().time() >= deadline
                if late or not trouble.passing:
                    kind = RecordGone if trouble is GONE else StoreError
                    raise kind(trouble.what, where=self.where, remedy=trouble.remedy) from error
            await asyncio.sleep(_PAUSE)

    async def _to_its_end(self, work: Awaitable[T]) -> T:
        """Await, so that a cancelled caller breaks no transaction off: it would take the
        connection along, and with it a database in memory."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen: if the caller is gone, nobody else asks

    async def _look(self, url: URL | PostgresURL) -> None:
        try:
            await self._patiently(self.server.look)
        except StoreError as error:
            if isinstance(url, URL) or not url.guessed:
                raise
            remedy = f"{error.remedy} User or password in the URL are not percent-encoded. {ENCODE}"
            raise StoreError(error.what, where=self.where, remedy=remedy) from error

    async def _prepare(self) -> None:
        if await self.read(_revision) != HEAD:
            await self.write(self._migrate, alone=True)

    def _migrate(self, connection: Connection) -> None:
        # Another process may have been faster while we waited for our turn.
        tables = set(inspect(connection).get_table_names())
        if VERSION_TABLE not in tables and (
            tables & set(metadata.tables) or (tables and self.is_sqlite)
        ):
            raise StoreError(
                f"this database holds something else (the table {min(tables)})",
                where=self.where,
                remedy="Name the store's database, or an empty one.",
            )
        from alembic.util import CommandError

        try:
            migrate(connection)
        except CommandError as error:
            raise StoreError(
                "a newer GuildGPT wrote this store",
                where=self.where,
                remedy="Update this one: pip install -U guildgpt",
            ) from error


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to `revision`, inside the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "guildgpt.feedback.storage:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def parse(url: str) -> URL | PostgresURL:
    """What people write, read; anything without "://" is the path of a SQLite file."""
    if "://" not in url:
        return URL.create("sqlite", database=str(Path(url).expanduser()))
    kind = url.partition("://")[0].partition("+")[0].strip().lower()
    if kind in ("postgresql", "postgres"):
        return read_url(url, os.environ)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # whose words would show a password
        raise StoreError("the store's URL cannot be read", remedy=_FORMS) from None
    if kind != "sqlite":
        raise StoreError(f"{kind} is no database that the store knows", remedy=_FORMS)
    if parsed.host or parsed.username:
        raise StoreError("a SQLite store is a file: its URL names no host", remedy=_FORMS)
    return parsed.set(drivername="sqlite")


_FORMS = f"Write sqlite:///path/to/feedback.db or {FORM}."


def _shown(url: URL | PostgresURL) -> str:
    return url.shown if isinstance(url, PostgresURL) else url.database or "sqlite in memory"


def _server(url: URL | PostgresURL) -> Sqlite | Postgres:
    if isinstance(url, URL):
        return Sqlite(url)
    try:
        return Postgres(url)
    except ModuleNotFoundError as error:
        raise StoreError(
            "PostgreSQL needs a driver that is not installed",
            where=url.shown,
            remedy="pip install 'guildgpt[postgres]'",
        ) from error


def _revision(connection: Connection) -> Any:
    """The migration that the database has; None if it has none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
