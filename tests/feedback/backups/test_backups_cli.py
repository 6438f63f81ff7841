"""`guildgpt feedback backup` and `restore` called as an operator calls them."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text

from feedback.cli.asking import NEWCOMER, ask, fill, refused, told
from feedback.versions.asking import model
from guildgpt.feedback.backups.manifest import Manifest, read_manifest, write_manifest
from guildgpt.feedback.commands import with_store
from guildgpt.feedback.people.members import key_print
from guildgpt.feedback.storage.database import migrate
from guildgpt.feedback.storage.location import KEY_VARIABLE, STORE_VARIABLE, member_key
from guildgpt.feedback.versions.registering import register

from .test_backups import NOW


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of the test's own."""
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The file of a store with a little in it."""
    asyncio.run(fill(f"sqlite:///{tmp_path / 'feedback.db'}"))
    return str(tmp_path / "feedback.db")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "guild.db"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Where a store may be made: another machine's folder, as it were."""
    (tmp_path / "new").mkdir()
    return tmp_path / "new" / "feedback.db"


def test_backup_says_what_is_in_it(store: str, out: Path) -> None:
    said = told("backup", out, "--store", store)
    assert f"{out}: " in said
    assert "without the key nobody is recognised, nor can anybody be erased" in said.replace(
        "\n", " "
    )
    assert f"{store}.key" in said
    error = refused("backup", out, "--store", store)
    assert error.remedy == "--force overwrites it."
    shown = json.loads(told("backup", out, "--force", "--json", "--store", store))
    assert (shown["has_key"], "key" in shown, shown["source"]) == (False, False, store)


def test_with_the_key_a_warning_stands_beside(store: str, out: Path) -> None:
    said = told("backup", out, "--key", "--store", store).replace("\n", " ")
    assert "whoever has this file can tell who said what" in said
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert read_manifest(out).key == member_key(f"sqlite:///{store}").hex()
    assert member_key(f"sqlite:///{store}").hex() not in said


def test_restored_where_the_key_is(store: str, out: Path, elsewhere: Path) -> None:
    told("backup", out, "--store", store)
    shutil.copy(f"{store}.key", f"{elsewhere}.key")
    said = told("restore", out, "--store", elsewhere).replace("\n", " ")
    assert "rows are back, as they were on" in said
    assert "erase them again" in said
    before, after = (told("stats", "--json", "--store", one) for one in (store, elsewhere))
    assert before == after
    assert "messages" in told(
        "member", NEWCOMER, "--out", out.with_name("m.json"), "--store", elsewhere
    )


def test_without_a_key_nothing_is_made(store: str, out: Path, elsewhere: Path) -> None:
    told("backup", out, "--store", store)
    error = refused("restore", out, "--store", elsewhere)
    assert "the key of these members is not here" in error.what
    assert f"{elsewhere}.key" in str(error.remedy)
    assert list(elsewhere.parent.iterdir()) == []


def test_the_key_comes_along(store: str, out: Path, elsewhere: Path) -> None:
    told("backup", out, "--key", "--store", store)
    told("restore", out, "--store", elsewhere)
    key = elsewhere.with_name("feedback.db.key")
    assert key.read_text() == Path(f"{store}.key").read_text()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    told("erase", NEWCOMER, "--yes", "--store", elsewhere)


@pytest.mark.parametrize("along", [True, False])
def test_a_store_of_another_key_is_refused(
    along: bool, store: str, out: Path, elsewhere: Path
) -> None:
    asyncio.run(fill(f"sqlite:///{elsewhere}"))
    before = elsewhere.read_bytes()
    told("backup", out, *["--key"] * along, "--store", store)
    error = refused("restore", out, "--replace", "--yes", "--store", elsewhere)
    assert "this store has another key than the one that was backed up" in error.what
    assert f"{elsewhere}.key" in str(error.remedy)
    assert ("take the file that is there away" in str(error.remedy)) == along
    assert elsewhere.read_bytes() == before


def test_a_key_that_was_exchanged_fits_no_store_that_is_there(
    store: str, out: Path, elsewhere: Path
) -> None:
    """Whoever follows the words, and puts the right key beside a store of another, is told so."""
    told("backup", out, "--store", store)
    other = elsewhere.with_name("other.db")
    with_store(str(other), lambda opened: opened.members.of_user(1), make=True)
    shutil.copy(f"{store}.key", f"{other}.key")
    error = refused("restore", out, "--replace", "--yes", "--store", other)
    assert "another key made this store" in error.what


def test_it_asks_before_it_replaces(store: str, out: Path) -> None:
    told("backup", out, "--store", store)
    assert (
        "there is something in this store already" in refused("restore", out, "--store", store).what
    )
    told("erase", NEWCOMER, "--yes", "--store", store)
    gone = told("stats", "--json", "--store", store)
    declined = ask("restore", out, "--replace", "--store", store, answer="n\n")
    assert declined.exit_code == 1
    assert told("stats", "--json", "--store", store) == gone
    said = told("restore", out, "--replace", "--store", store, answer="y\n").replace("\n", " ")
    assert "1 erasure was made since; of whom, is not kept" in said
    assert told("stats", "--json", "--store", store) != gone


def test_models_that_are_not_there_or_are_others(store: str, out: Path, elsewhere: Path) -> None:
    """They are told by what was registered; naming the folder where they lie now mends it."""
    here, moved, same = (out.parent / f"{name}.gguf" for name in ("here", "moved", "same"))
    for one in (here, moved, same):
        model(one)
        with_store(store, lambda opened, one=one: register(opened, str(one)))  # type: ignore[misc]
    told("backup", out, "--store", store)
    shutil.copy(f"{store}.key", f"{elsewhere}.key")
    model(out.parent / "another.gguf").replace(here)
    now = moved.rename(elsewhere.parent / "moved.gguf")
    shown = json.loads(told("restore", out, "--json", "--store", elsewhere))
    lack = {one["id"].partition("@")[0]: one["lack"] for one in shown["lacking"]}
    assert lack == {"here": "another", "moved": "missing", "starter": "missing"}
    with_store(str(elsewhere), lambda opened: register(opened, str(now)))
    said = told("restore", out, "--replace", "--yes", "--store", elsewhere)
    assert "versions register FOLDER" in said.replace("\n", " ")


def test_a_backup_of_an_older_program(
    out: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is brought up to date in a copy, and itself stays as it was."""
    key = b"k" * 32
    engine = create_engine(URL.create("sqlite", database=str(out)))
    now = "'2026-01-01 00:00:00.000000'"
    with engine.begin() as connection:
        migrate(connection, "0003")
        connection.execute(text(f"INSERT INTO members VALUES ('m', 'h', 'chat', {now}, {now})"))
        connection.execute(text(f"INSERT INTO facts VALUES ('member_key', '{key_print(key)}')"))
    engine.dispose()
    write_manifest(out, Manifest(NOW, "0.1", "feedback.db", "0003", 2, key_print(key)))
    before = out.read_bytes()
    monkeypatch.setenv(KEY_VARIABLE, key.hex())
    told("restore", out, "--store", elsewhere)
    assert json.loads(told("stats", "--json", "--store", elsewhere))["members"] == 1
    assert out.read_bytes() == before


def test_what_is_no_backup(store: str, out: Path, elsewhere: Path) -> None:
    error = refused("restore", store, "--store", elsewhere)
    assert error.what == "this is no backup"
    assert not elsewhere.exists()
    assert "there is no such folder" in refused("backup", out / "x" / "y", "--store", store).what
