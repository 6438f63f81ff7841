"""Data sets of the Hub by id, subset and split, from a small Hub of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from fake_hub import COMMIT, FakeHub, Repo
from pyarrow import parquet

from guildgpt.data.source import load
from guildgpt.data.spec import SourceSpec
from guildgpt.errors import DataError


def lines(*questions: str) -> bytes:
    rows = [{"prompt": question, "completion": "So."} for question in questions]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(*questions: str) -> bytes:
    rows = [{"prompt": question, "completion": "So."} for question in questions]
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue().to_pybytes())


def asked(hub: FakeHub, folder: Path, **options: Any) -> list[str]:
    spec = SourceSpec(source="hub:owner/name", **options)
    loaded = load(spec, cache_dir=folder, endpoint=hub.url)
    return [row.messages[0].content for row in loaded.conversations]


@pytest.fixture
def sharded(hub: FakeHub) -> FakeHub:
    """Split and sharded as the Hub's own tools do it, with no word of it in the card."""
    hub.sets["owner/name"] = Repo(
        {
            "README.md": b"# A set",
            "data/train-00000-of-00002.parquet": as_parquet("one?"),
            "data/train-00001-of-00002.parquet": as_parquet("two?"),
            "data/test-00000-of-00001.parquet": as_parquet("three?"),
        }
    )
    hub.sets["owner/name"].card = {"license": "cc-by-sa-3.0"}
    return hub


def test_a_set_by_its_name_and_its_splits_by_theirs(sharded: FakeHub, tmp_path: Path) -> None:
    assert asked(sharded, tmp_path) == ["one?", "two?"]
    assert asked(sharded, tmp_path, split="test") == ["three?"]
    with pytest.raises(DataError, match="no split `dev`") as caught:
        asked(sharded, tmp_path, split="dev")
    assert caught.value.remedy == "There are test, train."


def test_where_it_came_from_is_recorded(sharded: FakeHub, tmp_path: Path) -> None:
    spec = SourceSpec(source="hub:owner/name", revision="main")
    loaded = load(spec, cache_dir=tmp_path, endpoint=sharded.url)
    item = loaded.provenance
    assert (item.name, item.origin, item.revision) == ("name", "owner/name", COMMIT)
    assert (item.licence, item.written_by) == ("CC-BY-SA-3.0", "unknown")
    assert item.note == "the split train, 2 files"
    assert str(loaded.conversations[1].source) == "data/train-00001-of-00002.parquet:1"


def test_the_card_says_which_files_belong_to_a_subset_and_a_split(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.sets["owner/name"] = Repo(
        {
            "en/a.jsonl": lines("one?"),
            "en/b.jsonl": lines("two?"),
            "de/a.jsonl": lines("drei?"),
            "de/train.jsonl": lines("vier?"),
            "de/test.jsonl": lines("fünf?"),
        }
    )
    english = [{"split": "train", "path": "en/a*"}, {"split": "rest", "path": ["en/b.jsonl"]}]
    hub.sets["owner/name"].card = {
        "configs": [
            {"config_name": "english", "data_files": english},
            {"config_name": "german", "data_files": "de/*"},
        ]
    }
    with pytest.raises(DataError, match="has 2 subsets") as caught:
        asked(hub, tmp_path)
    assert "There are english, german." in str(caught.value.remedy)
    assert asked(hub, tmp_path, subset="english") == ["one?"]
    assert asked(hub, tmp_path, subset="english", split="rest") == ["two?"]
    assert asked(hub, tmp_path, subset="german") == ["vier?"]
    assert asked(hub, tmp_path, subset="german", split="test") == ["fünf?"]
    for options, said in (({"subset": "french"}, "no subset"), ({"split": "dev"}, "no split")):
        with pytest.raises(DataError, match=said):
            asked(hub, tmp_path, **{"subset": "english", **options})
    hub.sets["owner/name"].card["configs"][0]["default"] = True
    spec = SourceSpec(source="hub:owner/name")
    loaded = load(spec, cache_dir=tmp_path, endpoint=hub.url)
    assert loaded.warnings == ["name: its subset `english`"]


def test_without_a_word_of_subsets_they_are_folders(hub: FakeHub, tmp_path: Path) -> None:
    files = {"en/train.jsonl": lines("one?"), "de/train.jsonl": lines("eins?")}
    hub.sets["owner/name"] = Repo(files)
    assert asked(hub, tmp_path, subset="de") == ["eins?"]
    assert asked(hub, tmp_path) == ["eins?", "one?"]
    with pytest.raises(DataError, match="no subset `fr`") as caught:
        asked(hub, tmp_path, subset="fr")
    assert caught.value.remedy == "There are de, en."


def test_a_set_without_splits_is_read_whole(hub: FakeHub, tmp_path: Path) -> None:
    hub.sets["owner/name"] = Repo(
        {
            "chats.json": b"[" + lines("one?").strip() + b"]",
            "more.csv": b"prompt,completion\na?,b",
        }
    )
    assert asked(hub, tmp_path) == ["one?", "a?"]


def test_a_set_of_other_files_says_where_its_rows_may_be(hub: FakeHub, tmp_path: Path) -> None:
    hub.sets["owner/name"] = Repo({"name.py": b"import datasets", "data.tar": b""})
    with pytest.raises(DataError, match="no file of this data set") as caught:
        asked(hub, tmp_path)
    assert 'revision = "refs/convert/parquet"' in str(caught.value.remedy)


def test_without_a_network_what_was_fetched_serves(
    sharded: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    url, sharded.url = sharded.url, "http://127.0.0.1:9"  # the discard port: nobody listens
    with pytest.raises(DataError) as caught:
        asked(sharded, tmp_path)
    assert "`file:PATH`" in str(caught.value.remedy)
    sharded.url = url
    assert asked(sharded, tmp_path) == ["one?", "two?"]
    sharded.url = "http://127.0.0.1:9"
    assert asked(sharded, tmp_path) == ["one?", "two?"]
    with pytest.raises(DataError, match="cannot be reached"):
        asked(sharded, tmp_path, split="test")  # which was never fetched


def test_what_the_hub_does_not_have(sharded: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no revision v9"):
        asked(sharded, tmp_path, revision="v9")
    spec = SourceSpec(source="hub:owner/other")
    with pytest.raises(DataError, match="knows no such data set"):
        load(spec, cache_dir=tmp_path, endpoint=sharded.url)
