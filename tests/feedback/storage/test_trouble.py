"""A database that is locked, full, read-only, damaged, not there or gone: said in words."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import URL, event

from feedback.conftest import KEY
from feedback.postgres import Cluster
from guildgpt.errors import StoreError
from guildgpt.feedback.storage.database import parse
from guildgpt.feedback.storage.sqlite import Sqlite
from guildgpt.feedback.storage.trouble import diagnose
from guildgpt.feedback.store import Store

PATIENCE = 0.3


@pytest_asyncio.fixture
async def lite(tmp_path: Path, made_file: Path) -> AsyncIterator[Store]:
    """A SQLite store that does not wait for long."""
    path = tmp_path / "feedback.db"
    path.write_bytes(made_file.read_bytes())
    async with await Store.open(str(path), key=KEY, patience=PATIENCE) as opened:
        yield opened


@pytest.fixture
def not_root(tmp_path: Path) -> Iterator[Path]:
    """A folder, and no right to all files, which root has."""
    if os.geteuid() != 0:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are root's
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


async def opened_in_vain(url: str | Path, key: bytes = KEY) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await Store.open(str(url), key=key, patience=PATIENCE)
    assert caught.value.remedy
    return caught.value


# SQLite


async def test_locked_by_another_program(lite: Store, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "feedback.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked by another program") as caught:
        await lite.places.see(1, 1, None)
    assert caught.value.where == str(tmp_path / "feedback.db")
    assert await lite.places.marks() == {}  # reading goes on
    asyncio.get_running_loop().call_later(PATIENCE / 3, other.execute, "COMMIT")
    await lite.places.see(1, 1, None)  # waits, and comes to its turn
    assert await lite.places.marks() == {1: (None, 1)}
    other.close()


async def test_many_wait_no_longer_than_one(lite: Store, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "feedback.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = asyncio.get_running_loop().time()
    waiting = [lite.places.see(channel, 1, None) for channel in range(10)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, StoreError) for result in results)
    assert asyncio.get_running_loop().time() - began < 10 * PATIENCE
    other.close()


async def test_full_and_roomy_again(lite: Store) -> None:
    pages = [0]  # 0: no more than there are

    def limit(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA max_page_count = {pages[0] or 1}")
        cursor.close()

    server = lite.database.server
    assert isinstance(server, Sqlite)
    event.listen(server.engine, "connect", limit)
    server.engine.dispose()
    with pytest.raises(StoreError, match="the disk is full"):
        await lite.places.save_settings(1, {"system": "x" * 500_000})
    assert await lite.places.settings(1) == {}
    pages[0] = 2**30
    server.engine.dispose()
    await lite.places.save_settings(1, {"system": "x" * 500_000})
    assert len((await lite.places.settings(1))["system"]) == 500_000


async def test_a_read_only_file(not_root: Path) -> None:
    path = not_root / "feedback.db"
    async with await Store.open(str(path), key=KEY) as store:
        await store.places.see(1, 1, None)
    path.chmod(0o400)
    async with await Store.open(str(path), key=KEY) as store:
        assert await store.places.marks() == {1: (None, 1)}
        with pytest.raises(StoreError, match="the database is read-only"):
            await store.places.see(1, 2, None)


async def test_a_read_only_folder(not_root: Path) -> None:
    path = not_root / "feedback.db"
    await (await Store.open(str(path), key=KEY)).close()
    not_root.chmod(0o500)
    assert (await opened_in_vain(path)).what == "the database is read-only"
    error = await opened_in_vain(not_root / "new.db")
    assert error.what == "the database file cannot be opened"
    assert error.where == str(not_root / "new.db")
    not_root.chmod(0o700)


async def test_no_such_folder(tmp_path: Path) -> None:
    error = await opened_in_vain(tmp_path / "missing" / "feedback.db")
    assert error.what == "the database file cannot be opened"
    assert (await opened_in_vain(tmp_path)).what == "the database file cannot be opened"


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    path.write_text("Dear diary, " * 1000)
    assert (await opened_in_vain(path)).what == "this file is not a database"
    assert path.read_text().startswith("Dear diary")


async def test_a_database_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "music.db"
    with sqlite3.connect(path) as music:
        music.execute("CREATE TABLE albums (title TEXT)")
    music.close()
    error = await opened_in_vain(path)
    assert error.what == "this database holds something else (the table albums)"


async def test_a_damaged_database(lite: Store, tmp_path: Path) -> None:
    await lite.places.save_settings(1, {"system": "x" * 100_000})
    await lite.close()
    path = tmp_path / "feedback.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    assert (await opened_in_vain(path)).what == "the database is damaged"


async def test_a_wrong_key(url: str) -> None:
    error = await opened_in_vain(url, b"another key, also 32 bytes long.")
    assert error.what == "this is not the key that the store was made with"
    await (await Store.open(url, key=KEY)).close()


async def test_errors_do_not_tell_what_members_wrote(lite: Store, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "feedback.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError) as caught:
        await lite.places.save_settings(1, {"system": "a secret"})
    other.close()
    error: BaseException | None = caught.value
    while error:
        assert "a secret" not in str(error)
        error = error.__cause__ or error.__context__


# PostgreSQL


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening
        url = f"postgresql://guild:secret@127.0.0.1:{taken.getsockname()[1]}/feedback"
        error = await opened_in_vain(url)
    assert error.what == "the database server cannot be reached"
    assert error.where == url.replace("secret", "***")
    assert "secret" not in str(error)


async def test_wrong_password_and_no_such_database(cluster: Cluster) -> None:
    error = await opened_in_vain(cluster.url().replace("open", "shut"))
    assert error.what == "the database server refuses the user or the password"
    assert "sesame" not in str(error)
    error = await opened_in_vain(cluster.url("nowhere"))
    assert error.what == "the database does not exist on the server"


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
async def test_a_connection_cut_in_the_middle(cluster: Cluster, store: Store) -> None:
    """An administrator's cut, or a router's, is not noticed."""
    name = store.database.where.rpartition("/")[2]
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )
    for channel in range(30):
        writing = asyncio.create_task(store.places.see(channel, 1, None))
        await cluster.execute(cut)
        await writing
    assert len(await store.places.marks()) == 30


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
async def test_a_server_that_is_gone_for_a_while(cluster: Cluster, url: str) -> None:
    async with await Store.open(url, key=KEY, patience=PATIENCE) as store:
        await store.places.see(1, 1, None)
        await asyncio.to_thread(cluster.stop)
        try:
            with pytest.raises(StoreError, match="the database server cannot be reached"):
                await store.places.see(1, 2, None)
            writing = asyncio.create_task(store.places.see(1, 3, None))
        finally:
            await asyncio.to_thread(cluster.start)
        await asyncio.gather(writing, return_exceptions=True)  # in time, or not
        await store.places.see(1, 4, None)
        assert await store.places.marks() == {1: (None, 4)}


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
async def test_a_database_that_may_only_be_read(cluster: Cluster, url: str) -> None:
    name = url.rpartition("/")[2]
    await cluster.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with await Store.open(url, key=KEY) as store:
        with pytest.raises(StoreError, match="the database is read-only"):
            await store.places.see(1, 1, None)


async def test_postgresql_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    error = await opened_in_vain("postgresql://localhost/feedback")
    assert "pip install 'guildgpt[postgres]'" in str(error)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("53100", "the disk is full"),
        ("53300", "no connection free"),
        ("57P03", "cannot be reached"),
        ("40P01", "others are writing"),
        ("XX001", "damaged"),
        ("26000", "a pooler"),
        ("42P05", "a pooler"),
        ("57014", "cut a statement off"),
    ],
)
def test_what_a_server_says_in_numbers(state: str, words: str) -> None:
    class ServerError(Exception):
        sqlstate = state

    trouble = diagnose(ServerError())
    assert trouble
    assert words in trouble.what


def test_other_errors_stay_what_they_are() -> None:
    assert diagnose(KeyError("x")) is None


# URLs


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("feedback.db", "sqlite:///feedback.db"),
        ("sqlite:///feedback.db", "sqlite:///feedback.db"),
        ("sqlite:////srv/feedback.db", "sqlite:////srv/feedback.db"),
        ("sqlite://", "sqlite://"),
    ],
)
def test_urls_as_people_write_them(written: str, read: str) -> None:
    parsed = parse(written)
    assert isinstance(parsed, URL)
    assert parsed.render_as_string(hide_password=False) == read


@pytest.mark.parametrize("written", ["mysql://h/d", "://"])
def test_urls_that_name_no_store(written: str) -> None:
    with pytest.raises(StoreError, match="sqlite:///path"):
        parse(written)
