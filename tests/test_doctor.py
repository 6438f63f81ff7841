"""`guildgpt doctor`: what this machine can run, told as it is."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from guildgpt import __version__, doctor
from guildgpt.engines.llamacpp_process import cannot_start
from guildgpt.model.starter import GGUF_BYTES
from guildgpt.paths import CACHE_VARIABLE


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that does not exist yet."""
    folder = tmp_path / "not" / "yet"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


def shown(findings: dict, width: int = 80) -> str:
    screen = io.StringIO()
    doctor.show(findings, Console(file=screen, width=width))
    return screen.getvalue()


def test_the_findings_of_this_machine(cache: Path) -> None:
    findings = doctor.examine()
    assert json.loads(json.dumps(findings)) == findings
    assert findings["guildgpt"] == __version__
    assert findings["python"].split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    assert findings["cores"] >= 1
    assert findings["memory"] > 1e8
    assert findings["disk_free"] > 0
    assert findings["cache"] == str(cache)
    assert not cache.exists()
    assert findings["starter_cached"] is False
    # The tests themselves need all of them.
    assert findings["can_chat"] is findings["can_train"] is True
    assert None not in findings["packages"].values()
    assert findings["dtype"] in ("float32", "bfloat16")
    assert findings["gflops"] > 1
    assert "The starter model (93 MB) is fetched when it is first needed." in findings["advice"]
    text = shown(findings)
    assert f"Python {findings['python']}" in text
    assert f"{findings['device']} in {findings['dtype']}" in text
    assert "not ready" not in text
    assert "Not installed" not in text


def test_a_cached_starter_is_seen_if_it_is_whole(cache: Path) -> None:
    file = cache / "starter" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    file.parent.mkdir(parents=True)
    with file.open("wb") as stream:
        stream.truncate(GGUF_BYTES)
    assert doctor.examine()["starter_cached"] is True


def test_half_a_starter_is_none(cache: Path) -> None:
    (cache / "starter").mkdir(parents=True)
    (cache / "starter" / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF")
    assert doctor.examine()["starter_cached"] is False


def test_without_a_cache_to_write_to_there_is_no_starter(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cache.parent.write_text("a file where a folder should be")
    findings = doctor.examine()
    assert findings["can_chat"] is False
    assert f"cannot be fetched: {cache} cannot be written to." in findings["advice"][0]
    assert not [line for line in findings["advice"] if "is fetched when" in line]
    assert "Chat not ready" in [
        " ".join(line.split()) for line in shown(findings, width=120).splitlines()
    ]
    # A model of one's own needs no cache.
    own = tmp_path / "runs" / "mine" / "sft" / "model"
    own.mkdir(parents=True)
    for name in ("template.json", "model.gguf"):
        (own / name).touch()
    assert doctor.examine()["can_chat"] is True


def test_a_llama_cpp_that_does_not_load_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise cannot_start("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor, "check_llamacpp", broken)
    findings = doctor.examine()
    assert findings["can_chat"] is False
    assert "apt-get install libgomp1" in findings["advice"][0]


def test_missing_packages_are_named_with_the_command_that_brings_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: None if name in doctor.TRAINING else there(name)
    )
    findings = doctor.examine()
    assert findings["can_chat"]
    assert not findings["can_train"]
    assert "device" not in findings
    assert findings["advice"][0] == "To train here: pip install 'guildgpt[train]'"
    text = shown(findings, width=120)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "Chat ready" in lines
    assert "Train not ready" in lines
    assert f"Not installed {', '.join(doctor.TRAINING)}" in lines
    assert "· To train here: pip install 'guildgpt[train]'" in text


def test_a_torch_that_does_not_load_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("libgomp.so.1: cannot open shared object file\nand more")

    monkeypatch.setattr(doctor, "_torch", broken)
    findings = doctor.examine()
    assert not findings["can_train"]
    assert "(libgomp.so.1: cannot open shared object file)" in findings["advice"][0]
    assert "--force-reinstall" in findings["advice"][0]
    assert "not ready" in shown(findings)


def test_a_machine_that_does_not_tell_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_memory", lambda: 0)
    line = next(line for line in shown(doctor.examine()).splitlines() if "Machine" in line)
    assert line.rstrip().endswith("cores")


def test_little_disk_and_memory_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 10**9

    monkeypatch.setattr(doctor, "_memory", lambda: 2 * 10**9)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage)
    advice = " ".join(doctor.examine()["advice"])
    assert "Less than 5 GB of disk are free" in advice
    assert "Less than 4 GB of memory" in advice


def test_brackets_in_a_path_are_no_markup() -> None:
    findings = doctor.examine() | {"cache": "/home/[red]me/:100:"}
    assert "/home/[red]me/:100:" in shown(findings, width=120)
