"""The samples, laid out where a test can work on them."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent
INPUTS = ("tiny.toml", "documents.txt", "rows.jsonl", "pairs.jsonl")
RUN = Path("runs/tiny")


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(SAMPLES / "runs.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recipe and what it reads; commands run in it."""
    for name in INPUTS:
        shutil.copy(SAMPLES / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def finished(unpacked: Path, here: Path) -> Path:
    return Path(shutil.copytree(unpacked / "finished", here / RUN))
