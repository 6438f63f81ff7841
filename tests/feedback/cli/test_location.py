"""Where the store and the key of its members lie."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from guildgpt.errors import GuildError, StoreError
from guildgpt.feedback.storage.location import (
    KEY_VARIABLE,
    STORE_VARIABLE,
    as_url,
    default_store,
    member_key,
    store_file,
)

from .asking import refused, told


def test_the_default_store_lies_in_the_users_data_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform == "linux":
        assert default_store() == f"sqlite:///{home / 'data' / 'guildgpt' / 'feedback.db'}"
    monkeypatch.setenv(STORE_VARIABLE, "postgresql://operator@host/guild")
    assert default_store() == "postgresql://operator@host/guild"
    monkeypatch.setenv(STORE_VARIABLE, str(home / "mine.db"))
    assert default_store() == f"sqlite:///{home / 'mine.db'}"
    assert "mine.db" in str(refused("stats").where)


def test_urls_and_files() -> None:
    assert store_file("sqlite:///a/b.db") == Path("a/b.db")
    assert store_file("sqlite+aiosqlite:////a/b.db?timeout=5") == Path("/a/b.db")
    assert store_file("sqlite://") is None
    assert store_file("postgresql://user:secret@host/name") is None
    assert as_url("~/x.db") == f"sqlite:///{Path.home() / 'x.db'}"


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'feedback.db'}"
    key = member_key(url)
    path = tmp_path / "new" / "feedback.db.key"
    assert len(key) == 32
    assert bytes.fromhex(path.read_text()) == key == member_key(url)
    assert [entry.name for entry in path.parent.iterdir()] == ["feedback.db.key"]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o644)
        assert member_key(url) == key
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_servers_key_lies_in_the_data_folder(home: Path) -> None:
    key = member_key("postgresql://operator:secret@host/guild")
    (path,) = home.rglob("member.key")
    assert bytes.fromhex(path.read_text()) == key


def test_the_key_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, " " + "ab" * 32 + "\n")
    assert member_key(f"sqlite:///{tmp_path / 'x.db'}") == b"\xab" * 32
    assert not list(tmp_path.glob("*.key"))
    for bad in ("hunter2", "ab" * 31, "ä" * 64):
        monkeypatch.setenv(KEY_VARIABLE, bad)
        with pytest.raises(GuildError, match="this is no key") as error:
            member_key("sqlite:///x.db")
        assert bad not in str(error.value)


def test_a_lost_key_is_not_replaced(store: str, tmp_path: Path) -> None:
    key = tmp_path / "feedback.db.key"
    kept = key.read_text()
    key.unlink()
    error = refused("stats", "--store", store)
    assert "the key of this store's members is gone" in error.what
    assert not key.exists()
    key.write_text("0" * 64)
    refused("stats", "--store", store, kind=StoreError)
    key.write_text(kept)
    told("stats", "--store", store)
    key.write_text("not a key")
    assert "this is no key" in refused("stats", "--store", store).what
