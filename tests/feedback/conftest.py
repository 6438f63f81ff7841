"""Every test of the store runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from guildgpt.feedback.store import Store

from .postgres import Cluster, binaries

KEY = b"the key of the tests, 32 bytes. "
_NUMBERS = count()


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
    programs = binaries()
    if programs is None:
        if os.environ.get("CI") == "true":
            raise RuntimeError("PostgreSQL is not installed (Debian: apt install postgresql)")
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="guildgpt-postgres-"))
    started = Cluster(folder, programs)
    try:
        started.start()
        yield started
    finally:
        started.stop()
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


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database a test runs on."""
    return str(request.param)


@pytest.fixture
def empty_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database in which nothing was ever made."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'feedback.db'}"
    else:
        yield from _database(request.getfixturevalue("cluster"), "template0")


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A store without rows, closed."""
    if kind == "sqlite":
        path = tmp_path / "feedback.db"
        shutil.copy(request.getfixturevalue("made_file"), path)
        yield f"sqlite:///{path}"
    else:
        made = request.getfixturevalue("made_database")
        yield from _database(request.getfixturevalue("cluster"), made)


def _database(cluster: Cluster, template: str) -> Iterator[str]:
    name = f"test_{next(_NUMBERS)}"
    asyncio.run(cluster.execute(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield cluster.url(name)
    asyncio.run(cluster.execute(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest_asyncio.fixture
async def store(url: str, clock: Clock) -> AsyncIterator[Store]:
    """An empty store, open."""
    async with await Store.open(url, key=KEY, clock=clock, patience=1.0) as opened:
        yield opened
