"""What is backed up comes back on either database, all of it or nothing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from feedback.babble import dump
from feedback.conftest import KEY, Clock
from feedback.postgres import Cluster
from guildgpt.errors import GuildError
from guildgpt.feedback.backups.manifest import LEFT_OUT, TABLES, Manifest, read_manifest
from guildgpt.feedback.backups.restoring import NotEmpty, restore
from guildgpt.feedback.backups.writing import back_up
from guildgpt.feedback.storage.schema import metadata
from guildgpt.feedback.store import Store

from .filled import fill, kept

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    """What is backed up; what a pooler changes, other tests see."""
    return str(request.param)


@pytest.fixture
def other(
    kind: str, tmp_path: Path, cluster: Cluster, made_file: Path, made_database: str
) -> Iterator[str]:
    """An empty store in the other database."""
    if kind == "postgres":
        path = tmp_path / "other.db"
        shutil.copy(made_file, path)
        yield f"sqlite:///{path}"
        return
    asyncio.run(cluster.execute(f"CREATE DATABASE restored TEMPLATE {made_database}"))
    yield cluster.url("restored")
    asyncio.run(cluster.execute("DROP DATABASE restored WITH (FORCE)"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder / "guild.db"


async def backed_up(store: Store, out: Path, **more: bool) -> Manifest:
    return await back_up(store, out, now=NOW, key=KEY, **more)


async def test_there_and_back(store: Store, other: str, out: Path, tmp_path: Path) -> None:
    """From the one database to the other, and from there to the first kind."""
    await fill(store)
    before = await kept(store)
    assert [name for name, rows in before.items() if not rows] == []
    snapshot = await store.snapshot()
    made = await backed_up(store, out)
    counts = {name: len(rows) for name, rows in before.items()}
    done = await restore(other, out, made)
    assert {name: n for name, n in done.rows.items() if name != "facts"} == counts
    async with await Store.open(other, key=KEY) as there:
        assert await kept(there) == before
        assert await there.snapshot() == snapshot
        again = out.with_name("again.db")
        manifest = await backed_up(there, again)
    back = f"sqlite:///{tmp_path / 'back.db'}"
    await restore(back, again, manifest)
    async with await Store.open(back, key=KEY) as there:
        assert await kept(there) == before
        assert [rows for name, rows in (await dump(there)).items() if name in LEFT_OUT] == [[]] * 3


def test_every_table_is_thought_of() -> None:
    """Whoever adds a table has to think of this: it goes along, or it is left out for a reason."""
    assert {table.name for table in TABLES} | LEFT_OUT == set(metadata.tables)


async def test_a_backup_is_a_store(store: Store, out: Path) -> None:
    await fill(store)
    made = await backed_up(store, out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert os.listdir(out.parent) == [out.name]
    assert read_manifest(out) == made
    assert (made.made_at, made.source, made.key) == (NOW, store.database.where, None)
    assert KEY.hex() not in out.read_bytes().decode("latin-1")
    copy = out.with_name("opened.db")
    shutil.copy(out, copy)
    async with await Store.open(str(copy), key=KEY) as there:
        assert await kept(there) == await kept(store)


async def test_with_the_key_if_that_is_wanted(store: Store, out: Path) -> None:
    made = await backed_up(store, out, with_key=True)
    assert made.key == KEY.hex() == read_manifest(out).key
    assert KEY.hex() not in repr(made)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


async def test_while_another_process_writes(url: str, store: Store, out: Path) -> None:
    """It is of one moment: of each event that has been claimed by then all is there."""
    script = Path(__file__).parent.parent / "contender.py"
    command = [sys.executable, str(script), "0", "write", url, KEY.hex(), "100000"]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout
        assert writer.stdin
        assert writer.stdout.readline() == "ready\n"
        writer.stdin.write("go\n")
        writer.stdin.flush()
        counts = []
        for number in range(4):
            told = int(writer.stdout.readline())  # it goes on writing meanwhile
            file = out.with_name(f"{number}.db")
            await backed_up(store, file)
            with sqlite3.connect(file) as connection:
                found = connection.execute("SELECT event_id FROM deliveries ORDER BY 1").fetchall()
            assert [event for (event,) in found] == list(range(len(found)))
            assert len(found) > told
            counts.append(len(found))
        assert counts == sorted(counts)
    finally:
        writer.kill()
        writer.communicate()


async def test_what_is_there_is_not_lost(store: Store, other: str, out: Path) -> None:
    await fill(store)
    made = await backed_up(store, out)
    await restore(other, out, made)
    with pytest.raises(NotEmpty, match="there is something in this store already") as caught:
        await restore(other, out, made)
    assert "--replace" in str(caught.value.remedy)
    async with await Store.open(other, key=KEY) as there:
        before = await kept(there)
        await there.members.of_user(4711)
    done = await restore(other, out, made, replace=True)
    assert done.replaced == sum(map(len, before.values())) + 1
    async with await Store.open(other, key=KEY) as there:
        assert await kept(there) == before


async def test_a_restore_that_fails_changes_nothing(store: Store, other: str, out: Path) -> None:
    """The last row of the last table cannot be taken in: none is."""
    await fill(store)
    made = await backed_up(store, out)
    async with await Store.open(other, key=KEY) as there:
        await there.members.of_user(4711)
        before = await dump(there)

    def stop(done: int, of: int) -> None:
        if done >= of:
            raise RuntimeError("the plug is pulled")

    with pytest.raises(RuntimeError):
        await restore(other, out, made, replace=True, tell=stop)
    async with await Store.open(other, key=KEY) as there:
        assert await dump(there) == before


async def test_not_while_somebody_is_at_work(store: Store, other: str, out: Path) -> None:
    made = await backed_up(store, out)
    async with await Store.open(other, key=KEY) as there:
        await there.leases.acquire("bot", "host:7:abc", 60)
        with pytest.raises(GuildError, match=r"a process is at work .*bot: host:7:abc"):
            await restore(other, out, made)
        await there.leases.release("bot", "host:7:abc")
    await restore(other, out, made)


async def test_erasures_since_are_counted(store: Store, out: Path, clock: Clock) -> None:
    made = await back_up(store, out, now=clock(), key=KEY)
    clock.pass_(days=1)
    anna = await store.members.of_user(1)
    place = await store.conversations.start("chain", guild_id=7, channel_id=9)
    await store.conversations.add_message(
        conversation_id=place, parent_id=None, role="user", text="Hm.", member_id=anna.id
    )
    await store.privacy.erase(1)
    done = await restore(_url(store), out, made, replace=True)
    assert done.erased_since == 1


def _url(store: Store) -> str:
    where = store.database.where
    return where if "://" not in where else where.replace("***", "open%20sesame")


# Files that are none, or not whole


async def test_a_file_that_was_cut_off_or_changed(store: Store, out: Path, tmp_path: Path) -> None:
    await fill(store)
    await backed_up(store, out)
    whole = out.read_bytes()
    bad = tmp_path / "bad.db"
    place = whole.index(b"What is a wombat?")
    changed = whole[:place] + b"What is a WOMBAT?" + whole[place + 17 :]
    for content in (whole[: len(whole) // 2], whole[:4096], changed, whole[:-1]):
        bad.write_bytes(content)
        with pytest.raises(GuildError, match=r"damaged|no backup") as caught:
            read_manifest(bad)
        assert caught.value.where == str(bad)
        assert caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"SQLite format 3\0" + b"x" * 4096, b"{}"])
def test_a_foreign_file(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "foreign.db"
    file.write_bytes(content)
    with pytest.raises(GuildError, match=r"this is no backup|damaged"):
        read_manifest(file)


async def test_a_store_is_no_backup(made_file: Path, tmp_path: Path) -> None:
    with pytest.raises(GuildError, match="this is no backup") as caught:
        read_manifest(made_file)
    assert "--store FILE" in str(caught.value.remedy)
    with pytest.raises(GuildError, match="cannot be read"):
        read_manifest(tmp_path / "nowhere.db")


async def test_of_a_newer_program(store: Store, out: Path) -> None:
    await backed_up(store, out)
    with sqlite3.connect(out) as connection:
        connection.execute("UPDATE guildgpt_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(GuildError, match=r"damaged|newer"):
        read_manifest(out)


# Disks that are full, processes that are killed


LIMITED = """
import asyncio, json, resource, sys
from datetime import UTC, datetime
from pathlib import Path
from guildgpt.errors import GuildError
from guildgpt.feedback.backups.writing import back_up
from guildgpt.feedback.store import Store

async def main(url, key, out, most):
    async with await Store.open(url, key=bytes.fromhex(key)) as store:
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))
        try:
            await back_up(store, Path(out), now=datetime.now(UTC), key=bytes.fromhex(key))
        except GuildError as error:
            print(json.dumps([error.what, error.where, error.remedy]))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_full_disk(url: str, store: Store, out: Path) -> None:
    await fill(store)
    out.write_text("the backup of yesterday")
    command = [sys.executable, "-c", LIMITED, url, KEY.hex(), str(out), "200000"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    what, where, remedy = json.loads(done.stdout)
    assert what.startswith("the backup cannot be written")
    assert (where, "Make room" in remedy) == (str(out), True)
    assert os.listdir(out.parent) == [out.name]
    assert out.read_text() == "the backup of yesterday"


KILLED = """
import asyncio, os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from guildgpt.feedback.backups.manifest import read_manifest
from guildgpt.feedback.backups.restoring import restore
from guildgpt.feedback.backups.writing import back_up
from guildgpt.feedback.store import Store

def die(done, of):
    if done * 2 > of:
        os.kill(os.getpid(), signal.SIGKILL)

async def main(what, url, key, file):
    key, file = bytes.fromhex(key), Path(file)
    if what == "restore":
        await restore(url, file, read_manifest(file), replace=True, tell=die)
    async with await Store.open(url, key=key) as store:
        await back_up(store, file, now=datetime.now(UTC), key=key, tell=die)

asyncio.run(main(*sys.argv[1:]))
"""


async def killed(what: str, url: str, file: Path) -> None:
    command = [sys.executable, "-c", KILLED, what, url, KEY.hex(), str(file)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr


async def test_killed_in_the_middle_of_a_backup(url: str, store: Store, out: Path) -> None:
    await fill(store)
    await killed("backup", url, out)
    assert not out.exists()
    [stray] = out.parent.iterdir()
    assert stat.S_IMODE(stray.stat().st_mode) == 0o600
    await backed_up(store, out)
    assert os.listdir(out.parent) == [out.name]


async def test_killed_in_the_middle_of_a_restore(store: Store, other: str, out: Path) -> None:
    await fill(store)
    made = await backed_up(store, out)
    async with await Store.open(other, key=KEY) as there:
        await there.members.of_user(4711)
        before = await dump(there)
    await killed("restore", other, out)
    async with await Store.open(other, key=KEY) as there:
        assert await dump(there) == before
    await restore(other, out, made, replace=True)
    async with await Store.open(other, key=KEY) as there:
        assert await kept(there) == await kept(store)
