"""What a model learned from, kept in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guildgpt.errors import ModelError
from guildgpt.model.lineage import LINEAGE_FILE, read_lineage, write_lineage

EVENTS = {("vote", "b"), ("vote", "a"), ("message", "m:1"), ("rating", "r")}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_lineage(tmp_path, EVENTS)
    assert read_lineage(tmp_path) == EVENTS
    assert read_lineage(str(tmp_path / "model-Q8_0.gguf")) == EVENTS
    assert json.loads((tmp_path / LINEAGE_FILE).read_text()) == {
        "format": 1,
        "events": {"message": ["m:1"], "rating": ["r"], "vote": ["a", "b"]},
    }


def test_nothing_learned_is_noted_too(tmp_path: Path) -> None:
    write_lineage(tmp_path, set())
    assert read_lineage(tmp_path) == set()
    assert json.loads((tmp_path / LINEAGE_FILE).read_text()) == {"format": 1, "events": {}}


def test_a_folder_of_before_is_read(tmp_path: Path) -> None:
    assert read_lineage(tmp_path) == set()
    assert read_lineage(tmp_path / "model.gguf") == set()


def test_a_newer_file_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    file = tmp_path / LINEAGE_FILE
    file.write_text('{"format": 2, "stages": []}')
    with pytest.raises(ModelError, match="a newer GuildGPT wrote this file") as caught:
        read_lineage(tmp_path)
    assert caught.value.where == str(file)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"events": ["vote:a"]}', '{"events": {"vote": [1]}}']
)
def test_a_broken_file_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / LINEAGE_FILE).write_text(content)
    with pytest.raises(ModelError) as caught:
        read_lineage(tmp_path)
    assert caught.value.where == str(tmp_path / LINEAGE_FILE)
