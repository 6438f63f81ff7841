"""Each test of the command has a store of its own, and models that are whole by their look."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from feedback.conftest import KEY
from guildgpt.feedback.storage.location import KEY_VARIABLE, STORE_VARIABLE

from .asking import listed, model, told


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, made_file: Path) -> str:
    """A store in SQLite, without rows."""
    path = tmp_path / "feedback.db"
    path.write_bytes(made_file.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture(autouse=True)
def chosen(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The store that the environment names."""
    monkeypatch.setenv(KEY_VARIABLE, KEY.hex())
    monkeypatch.setenv(STORE_VARIABLE, url)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return model(tmp_path / "old.gguf")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return model(tmp_path / "new.gguf")


@pytest.fixture
def trial(old: Path, new: Path) -> str:
    """`old` serves, `new` is the candidate; its id."""
    told("serve", old)
    told("canary", new)
    return str(listed("new")["id"])


@pytest.fixture
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same on PostgreSQL."""
    cluster, name = request.getfixturevalue("cluster"), "versions_cli"
    made = request.getfixturevalue("made_database")
    asyncio.run(cluster.execute(f"CREATE DATABASE {name} TEMPLATE {made}"))
    monkeypatch.setenv(STORE_VARIABLE, cluster.url(name))
    return str(cluster.url(name))
