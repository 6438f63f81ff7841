"""Stores that GuildGPT 0.1.0 wrote, opened with the code of today; see tests/old/README.md."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from feedback.postgres import Cluster
from guildgpt.feedback.cli import feedback_app
from guildgpt.feedback.storage.location import KEY_VARIABLE

SAMPLES = Path(__file__).parents[2] / "old"
FORMS = ("arena", "kto", "oasst", "preference", "sft")
EXPORTS = {
    **{f"{form}.jsonl": [form] for form in FORMS},
    **{f"{form}-members.jsonl": [form, "--train-on-members"] for form in FORMS},
    "margin.jsonl.gz": ["preference", "--margin", "--train-on-members"],
    "slash.jsonl.gz": ["oasst", "--train-on-slash"],
}
UNJUDGED = ("oasst-members.jsonl", "slash.jsonl.gz")
"""These hold a tree that nobody judged: today it has an `origin`, too."""
SPEAKER = "80351110224678001"
_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBERS = count()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "6f" * 32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The SQLite store."""
    path = tmp_path / "feedback.db"
    path.write_bytes(gzip.decompress((SAMPLES / "feedback.db.gz").read_bytes()))
    return path


@pytest.fixture
def server(cluster: Cluster) -> str:
    """The store in PostgreSQL."""
    name = f"old{next(_NUMBERS)}"
    asyncio.run(cluster.execute(f"CREATE DATABASE {name}"))
    dump = gzip.decompress((SAMPLES / "feedback.sql.gz").read_bytes())
    asyncio.run(cluster.execute(dump.decode(), name))
    return cluster.url(name)


@pytest.fixture(params=["file", "server"])
def store(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def ask(*arguments: str, store: str | Path) -> Result:
    environment = {"COLUMNS": "200", "TERM": "dumb"}
    return CliRunner().invoke(feedback_app, [*arguments, "--store", str(store)], env=environment)


def told(*arguments: str, store: str | Path) -> Any:
    """What a command says in JSON; it must succeed."""
    result = ask(*arguments, "--json", store=store)
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def unpacked(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()


def lines(path: Path) -> Iterator[Any]:
    """The rows of an export without their ids: those of the two samples differ."""
    for line in _ID.sub("id", unpacked(path)).splitlines():
        row = json.loads(line)
        yield row | {"origin": sorted(row.get("origin", []))}


@pytest.mark.parametrize("name", EXPORTS)
def test_it_exports_the_same(name: str, file: Path, server: str, tmp_path: Path) -> None:
    out, sample = tmp_path / name, SAMPLES / "exports" / name
    told("export", *EXPORTS[name], "--out", str(out), store=file)
    if name not in UNJUDGED:
        assert out.read_bytes() == sample.read_bytes()
    assert unpacked(out) == unpacked(sample).replace("[]}}\n", '[]}, "origin": []}\n')
    told("export", *EXPORTS[name], "--out", str(out), "--force", store=server)
    assert list(lines(out)) == list(lines(sample))


def test_it_hands_out_the_same_of_a_member(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "member.json"
    told("member", SPEAKER, "--out", str(out), store=file)
    kept = json.loads(out.read_bytes())
    for new in ("corrections", "prompts", "accounts", "sessions", "invitations", "chats"):
        assert kept.pop(new) == []
    assert kept.pop("voter")["by_position_since"] is None
    assert kept == json.loads((SAMPLES / "exports" / "member.json").read_bytes())


def test_it_counts_the_same(store: str) -> None:
    stats = told("stats", store=store)
    counted = {key: value for key, value in stats.items() if isinstance(value, int)}
    assert counted == {
        "members": 3,
        "conversations": 7,
        "messages": 16,
        "answers": 9,
        "up": 4,
        "down": 3,
        "comparisons": 3,
        "reports": 2,
    }
    assert stats["votes"] == {"ranked": 4, "tie": 1, "both_bad": 0, "skip": 0}
    assert stats["consents"] == {"none": 1, "chat": 1, "train": 1}
    assert stats["win_rates"] == {
        "tiny-ppo@4e5f6071": {"wins": 4, "losses": 0, "ties": 0, "rate": 1.0},
        "tiny@0a1b2c3d": {"wins": 0, "losses": 4, "ties": 0, "rate": 0.0},
    }
    seen = [(one["reason"], bool(one["resolved_at"])) for one in told("reports", store=store)]
    assert seen == [("wrong river", False)]
    assert len(told("reports", "--all", store=store)) == 2


def test_it_erases_the_same(store: str) -> None:
    assert told("erase", SPEAKER, "--yes", store=store) == {
        "counts": {
            "deliveries": 4,
            "ratings": 3,
            "reports": 1,
            "votes": 6,
            "comparisons": 1,
            "messages": 8,
            "conversations": 3,
            "members": 1,
        },
        "versions": ["tiny-ppo@4e5f6071"],
    }


def test_a_newer_one_is_refused_and_stays_as_it_was(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("UPDATE guildgpt_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = file.read_bytes()
    error = ask("stats", store=file).exception
    assert "a newer GuildGPT wrote this store" in str(error)
    assert "pip install -U guildgpt" in str(error)
    assert file.read_bytes() == before
