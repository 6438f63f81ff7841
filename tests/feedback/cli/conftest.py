"""Each test of the command has a home and a store of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from guildgpt.feedback.storage.location import KEY_VARIABLE, STORE_VARIABLE

from .asking import fill


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own, and no settings from outside."""
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of a store with a little in it."""
    url = f"sqlite:///{tmp_path / 'feedback.db'}"
    asyncio.run(fill(url))
    return url
