"""Every test of the store runs on SQLite, on a real PostgreSQL, and on one behind a pooler."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

from guildgpt.feedback.store import Store

from .postgres import Cluster, PgBouncer, binaries

KEY = b"the key of the tests, 32 bytes. "
SERVICES = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"  # not in everybody's PATH
_NUMBERS = count()
T = TypeVar("T")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 8, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time: float) -> None:
        """Let time pass: `days=1`."""
        self.now += timedelta(**time)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """PostgreSQL, started once; without it its tests are skipped, but not in CI."""
    with folder_for("postgres") as folder:
        started = Cluster(folder, installed(binaries(), "PostgreSQL", "postgresql"))
        try:
            started.start()
            yield started
        finally:
            started.stop()


@pytest.fixture(scope="session")
def pooler(cluster: Cluster) -> Iterator[PgBouncer]:
    """PgBouncer before it, started once; skipped like the cluster."""
    program = installed(shutil.which("pgbouncer", path=SERVICES), "PgBouncer", "pgbouncer")
    with folder_for("pgbouncer") as folder:
        started = PgBouncer(folder, program, cluster)
        try:
            yield started
        finally:
            started.stop()


def installed(found: T | None, name: str, package: str) -> T:
    """What was looked for; without it a test is skipped, but not in CI."""
    if found is None:
        lacking = f"{name} is not installed (Debian: apt install {package})"
        if os.environ.get("CI") == "true":
            raise RuntimeError(lacking)
        pytest.skip(lacking)
    return found


@contextmanager
def folder_for(server: str) -> Iterator[Path]:
    """A folder that a server may run in; pytest's own are root's."""
    folder = Path(tempfile.mkdtemp(prefix=f"guildgpt-{server}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def made_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, made once: to be copied."""
    path = tmp_path_factory.mktemp("template") / "feedback.db"
    asyncio.run(_make(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def made_database(cluster: Cluster) -> str:
    """The same in PostgreSQL: a database to be copied."""
    asyncio.run(cluster.execute("CREATE DATABASE made"))
    asyncio.run(_make(cluster.url("made")))
    return "made"


async def _make(url: str) -> None:
    await (await Store.open(url, key=KEY)).close()


@pytest.fixture(params=["sqlite", "postgres", "pooled"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database a test runs on."""
    return str(request.param)


@pytest.fixture
def empty_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database in which nothing was ever made."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'feedback.db'}"
    else:
        yield from _database(request, kind, "template0")


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A store without rows, closed."""
    if kind == "sqlite":
        path = tmp_path / "feedback.db"
        shutil.copy(request.getfixturevalue("made_file"), path)
        yield f"sqlite:///{path}"
    else:
        yield from _database(request, kind, request.getfixturevalue("made_database"))


def _database(request: pytest.FixtureRequest, kind: str, template: str) -> Iterator[str]:
    cluster: Cluster = request.getfixturevalue("cluster")
    server: Cluster | PgBouncer = cluster
    if kind == "pooled":
        server = request.getfixturevalue("pooler")
    name = f"test_{next(_NUMBERS)}"
    asyncio.run(cluster.execute(f"CREATE DATABASE {name} TEMPLATE {template}"))
    if isinstance(server, PgBouncer):
        asyncio.run(server.open_sessions(name))
    yield server.url(name)
    asyncio.run(cluster.execute(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest_asyncio.fixture
async def store(url: str, clock: Clock) -> AsyncIterator[Store]:
    """An empty store, open."""
    async with await Store.open(url, key=KEY, clock=clock, patience=60.0) as opened:
        yield opened
