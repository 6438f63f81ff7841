"""The API answers on while the store is locked, full, read-only or gone, and follows after it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from engines.conftest import file_tokenizer  # noqa: F401 (a fixture)
from feedback.postgres import Cluster

from guildgpt.chat import FileTokenizer
from guildgpt.errors import StoreError
from guildgpt.serve import models
from guildgpt.talk import following

from .releasing import StandIns, releasing
from .slow import until
from .test_releases import metric, open_there, who

TROUBLES = {
    "full": ("the disk is full", "write"),
    "read-only": ("the database is read-only", "write"),
    "gone": ("the database server cannot be reached", "read", "write"),
}


@pytest.fixture
def stand_ins(
    file_tokenizer: FileTokenizer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> StandIns:
    monkeypatch.setattr(following, "FOLLOW_SECONDS", 0.05)
    monkeypatch.setattr(models, "WATCH_SECONDS", 0.05)
    return StandIns(file_tokenizer)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_store_in_trouble(
    stand_ins: StandIns, tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is swapped in meanwhile is noted afterwards."""
    what, *methods = TROUBLES[trouble]

    async def fail(*_: object, **__: object) -> None:
        raise StoreError(what)

    with releasing(stand_ins, tmp_path / "feedback.db") as served:
        served.release(old=1)
        until(lambda: open_there(served) == [served.ids["old"]])
        served.register("new")
        with monkeypatch.context() as broken:
            for method in methods:
                broken.setattr(served.store.database, method, fail)
            if "read" not in methods:  # what is released can be read all the same
                served.release(new=1)
                until(lambda: open_there(served) == [served.ids["new"]])
                until(lambda: metric(served, "guildgpt_store_writes_waiting") > 0)
            until(lambda: metric(served, "guildgpt_store_open") == 0)
            assert who(served) in ("old", "new")
        if "read" in methods:
            served.release(new=1)
        until(lambda: open_there(served) == [served.ids["new"]])
        until(lambda: metric(served, "guildgpt_store_open") == 1)
        until(lambda: metric(served, "guildgpt_store_writes_waiting") == 0)
        assert who(served) == "new"


def test_a_locked_file(stand_ins: StandIns, tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    with releasing(stand_ins, path) as served:
        served.release(old=1)
        until(lambda: open_there(served) == [served.ids["old"]])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE versions SET name = name")
        assert [who(served) for _ in range(5)] == ["old"] * 5
        other.execute("COMMIT")
        other.close()
        served.release(new=1)
        until(lambda: open_there(served) == [served.ids["new"]])


def test_a_database_server_that_is_gone_for_a_while(
    stand_ins: StandIns,
    database: str,
    cluster: Cluster,
) -> None:
    with releasing(stand_ins, database) as served:
        served.release(old=1)
        until(lambda: open_there(served) == [served.ids["old"]])
        cluster.stop()
        try:
            until(lambda: metric(served, "guildgpt_store_open") == 0)
            assert who(served) == "old"
        finally:
            cluster.start()
        until(lambda: metric(served, "guildgpt_store_open") == 1)
        served.release(new=1)
        until(lambda: open_there(served) == [served.ids["new"]])
