"""What the rows of an export rest on, read back from its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from guildgpt.data.origin import read_origin, written
from guildgpt.errors import DataError


def file_of(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    first, second = {("vote", "b"), ("message", "a")}, {("message", "a"), ("rating", "c:d")}
    assert written(first) == ["message:a", "vote:b"]
    rows = [{"prompt": "q", "origin": written(one)} for one in (first, second)]
    found = read_origin(file_of(tmp_path, *rows, {"prompt": "from elsewhere"}))
    assert found.events == first | second
    assert (found.rows, found.unknown) == (3, 1)


def test_the_messages_of_a_tree_name_themselves(tmp_path: Path) -> None:
    leaf = {"message_id": "leaf", "replies": []}
    prompt = {"message_id": "root", "replies": [{"message_id": "middle", "replies": [leaf]}]}
    found = read_origin(file_of(tmp_path, {"prompt": prompt, "origin": ["vote:v"]}))
    assert found.events == {
        ("message", "root"),
        ("message", "middle"),
        ("message", "leaf"),
        ("vote", "v"),
    }


@pytest.mark.parametrize("origin", ["vote:v", {"vote": "v"}, [1], ["vote"], ["vote:"], [":v"]])
def test_an_origin_that_cannot_be_read_is_told_with_its_line(
    tmp_path: Path, origin: object
) -> None:
    path = file_of(tmp_path, {"origin": ["vote:v"]}, {"origin": origin})
    with pytest.raises(DataError, match="`origin`") as caught:
        read_origin(path)
    assert str(caught.value.where).endswith("rows.jsonl:2")
