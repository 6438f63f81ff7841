"""How many threads are spare on a busy machine, and in a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guildgpt.engines.cores import spare_threads


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("load", "quota", "threads"),
    [
        ("0.00 0.00 0.00 1/99 7", "max 100000", None),
        ("9.00 9.00 9.00 1/99 7", "max 100000", None),  # it was busy, but is not now
        ("0.00 0.00 0.00 2/99 7", "max 100000", 4),
        ("0.00 0.00 0.00 7/99 7", "max 100000", 2),
        ("0.00 0.00 0.00 40/99 7", "max 100000", 1),
        ("0.00 0.00 0.00 1/99 7", "250000 100000", 2),
        ("0.00 0.00 0.00 1/99 7", "50000 100000", 1),
        ("nonsense", "nonsense", None),
    ],
)
def test_spare_threads(tmp_path: Path, load: str, quota: str, threads: int | None) -> None:
    (tmp_path / "loadavg").write_text(load + "\n")
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert spare_threads(tmp_path / "loadavg", tmp_path / "cpu.max") == threads


def test_systems_without_proc(tmp_path: Path) -> None:
    assert spare_threads(tmp_path / "absent", tmp_path / "absent") is None
