"""`guildgpt feedback export` and `learned`: what is written where, and who learned from it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from .asking import NEWCOMER, TEACHER, fill, read_rows, refused, told


@pytest.mark.parametrize(
    ("form", "count"), [("oasst", 1), ("preference", 1), ("kto", 1), ("sft", 1), ("arena", 1)]
)
def test_every_form_is_written(store: str, tmp_path: Path, form: str, count: int) -> None:
    out = tmp_path / "rows.jsonl"
    text = told("export", form, "--out", out, "--store", store)
    rows = read_rows(out)
    assert len(rows) == count
    assert "Ferris" not in out.read_text()
    assert text.startswith(f"{out}: {count} row\n")
    if form in ("oasst", "kto", "sft"):
        assert "left out, text of members (the operator's switch is off): 1" in text


def test_members_text_leaves_by_the_switch_that_states_the_rule(store: str, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    found = json.loads(
        told("export", "kto", "--out", out, "--store", store, "--train-on-members", "--json")
    )
    assert found == {"file": str(out), "rows": 2, "left_out": {}}
    assert "Ferris" in out.read_text()
    assert "The Newcomer" not in out.read_text()
    help_text = " ".join(told("export", "--help").replace("│", " ").split())
    assert "--train-on-members" in help_text
    assert "Discord's Developer Policy, rule 21" in help_text
    assert "may not be used to train machine-learning models" in help_text


def test_the_margin(store: str, tmp_path: Path) -> None:
    told("export", "preference", "--out", tmp_path / "p.jsonl", "--store", store, "--margin")
    assert read_rows(tmp_path / "p.jsonl")[0]["margin"] == 1.0


def test_a_zipped_export_is_the_same_each_time(store: str, tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"
    for out in (first, second):
        told("export", "oasst", "--out", out, "--store", store)
    assert first.read_bytes() == second.read_bytes()
    assert read_rows(first)[0]["prompt"]["text"] == "What is TLS?"


def test_an_export_overwrites_only_when_told(store: str, tmp_path: Path) -> None:
    out = tmp_path / "mine.jsonl"
    out.write_text("precious")
    error = refused("export", "sft", "--out", out, "--store", store)
    assert "there already" in error.what
    assert "--force" in str(error.remedy)
    assert out.read_text() == "precious"
    told("export", "sft", "--out", out, "--store", store, "--force")
    assert read_rows(out)


def test_a_failed_export_leaves_no_file_behind(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out" / "rows.jsonl"
    out.parent.mkdir()
    out.write_text("precious")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    error = refused("export", "sft", "--out", out, "--store", store, "--force")
    assert "No space left on device" in error.what
    assert [path.read_text() for path in out.parent.iterdir()] == ["precious"]


def test_an_export_of_nothing_says_why(store: str, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    error = refused("export", "kto", "--out", out, "--store", store, "--guild", 5)
    assert "nothing to export" in error.what
    assert "the operator's switch is off" in str(error.remedy)
    error = refused("export", "arena", "--out", out, "--store", store, "--guild", 404)
    assert error.remedy == "No vote and no rating is in the store."
    assert not out.exists()


def test_an_unknown_form_is_told_the_nearest(store: str, tmp_path: Path) -> None:
    error = refused("export", "preferences", "--out", tmp_path / "x", "--store", store)
    assert str(error.remedy).startswith("Did you mean preference? ")


def test_where_an_export_cannot_go(store: str, tmp_path: Path) -> None:
    assert "is a folder" in refused("export", "sft", "--out", tmp_path, "--store", store).what
    nowhere = tmp_path / "nowhere" / "x.jsonl"
    assert "no such folder" in refused("export", "sft", "--out", nowhere, "--store", store).what


TRAINED = "tonight@1a2b3c4d"


@pytest.mark.parametrize("form", ["oasst", "preference", "kto", "sft", "arena"])
def test_export_train_erase_names_the_version(store: str, tmp_path: Path, form: str) -> None:
    """Only the teacher's vote and rating are in these rows; the question is the operator's."""
    out = tmp_path / "rows.jsonl.gz"
    told("export", form, "--out", out, "--store", store)
    text = told("learned", TRAINED, "--rows", out, "--store", store)
    assert text.startswith(f"{TRAINED} learned from ")
    told("learned", TRAINED, "--rows", out, "--store", store)  # a second time changes nothing
    unconcerned = json.loads(told("erase", NEWCOMER, "--store", store, "--yes", "--json"))
    assert unconcerned["versions"] == []
    erased = json.loads(told("erase", TEACHER, "--store", store, "--yes", "--json"))
    assert TRAINED in erased["versions"]


def test_a_members_own_text_is_traced_as_well(store: str, tmp_path: Path) -> None:
    files = [tmp_path / "sft.jsonl", tmp_path / "kto.jsonl"]
    for file in files:
        told("export", file.stem, "--out", file, "--store", store, "--train-on-members")
    found = json.loads(
        told("learned", TRAINED, "--rows", files[0], "--rows", files[1], "--store", store, "--json")
    )
    assert found == {
        "version": TRAINED,
        "noted": {"message": 4, "rating": 2},
        "gone": 0,
        "rows_unknown": 0,
    }
    erased = json.loads(told("erase", NEWCOMER, "--store", store, "--yes", "--json"))
    assert erased["versions"] == [TRAINED]


def test_what_was_erased_before_it_was_noted_is_told_and_not_kept(
    store: str, tmp_path: Path
) -> None:
    out = tmp_path / "sft.jsonl"
    told("export", "sft", "--out", out, "--store", store, "--train-on-members")
    told("erase", NEWCOMER, "--store", store, "--yes")
    text = told("learned", TRAINED, "--rows", out, "--store", store)
    assert "learned from 2 messages, 1 rating." in text
    assert "3 more are not in the store any more" in text
    again = json.loads(told("erase", NEWCOMER, "--store", store, "--yes", "--json"))
    assert again["versions"] == []


def test_a_model_is_named_by_its_folder(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tonight" / "sft" / "model"
    folder.mkdir(parents=True)
    (folder / "template.json").write_text("{}")
    (folder / "model-q8_0.gguf").write_bytes(b"weights")
    out = tmp_path / "kto.jsonl"
    told("export", "kto", "--out", out, "--store", store)
    text = told("learned", folder, "--rows", out, "--store", store)
    assert text.startswith("sft@9a129038 learned from ")
    erased = json.loads(told("erase", TEACHER, "--store", store, "--yes", "--json"))
    assert "sft@9a129038" in erased["versions"]


def test_rows_that_say_nothing_or_are_of_another_store(store: str, tmp_path: Path) -> None:
    out, other = tmp_path / "kto.jsonl", tmp_path / "other.db"
    told("export", "kto", "--out", out, "--store", store)
    asyncio.run(fill(f"sqlite:///{other}"))
    error = refused("learned", TRAINED, "--rows", out, "--store", other)
    assert "in this store" in error.what
    assert "--store" in str(error.remedy)
    out.write_text('{"messages": []}\n')
    assert "no row says" in refused("learned", TRAINED, "--rows", out, "--store", store).what
    error = refused("learned", "no/such/model", "--rows", out, "--store", store)
    assert "no row says" in error.what  # the rows come first
