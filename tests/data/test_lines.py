"""JSON of every shape, told apart by how it begins; every fault names its line."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.data import lines
from guildgpt.data.files import read_records
from guildgpt.data.lines import json_records
from guildgpt.data.rows import clean
from guildgpt.errors import DataError
from guildgpt.hashes import file_sha256

TALK = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]


def rows_of(path: Path) -> list[dict]:
    return [row for _, row in read_records(path)]


def test_lines_are_numbered_as_an_editor_does_and_blank_ones_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": "one\xe2\x80\xa8line"}\r\n\n  \n{"b": 2}')
    assert list(read_records(path)) == [(1, {"a": "one\u2028line"}), (4, {"b": 2})]


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b'{"a": 1}\n{"a": \n', 2, "not JSON"),
        ('{"a": 1}\n\n{"ä": "\n'.encode() + b"\xff", 3, "not JSON"),
        ('{"ä": 1}\n\n{"a": "'.encode() + b'\xff"}\n', 3, "byte 8 of the line is not UTF-8"),
        (b'{"a": 1}\n[1, 2]\n', 2, "a list"),
        (b'{\n "a": 1,\n}\n', 3, "the JSON is broken here"),
        (b'{\n "a": 1\n} 2\n', 3, "a number, not an object"),
        (b'{\n "a": 1\n', 3, "it does not end"),
        (b'[{"a": 1},\n{"a": 2}\n', 3, "it does not end"),
        (b'[\n\n{"a": 1},\n{"a" 2}]\n', 4, "the JSON is broken here"),
        (b'[{"a": 1},\n]\n', 2, "the JSON is broken here"),
        (b'[{"a": 1}]\n{"a": 1}\n', 2, "more behind its end"),
        ('[{"ä": 1},\n{"a": "'.encode() + b'\xff"}]\n', 2, "not UTF-8"),
        (b'[{"a": 1},\n\n3]\n', 3, "a number, not an object"),
        (b"null\n", 1, "null"),
        (b"[" * 100_000 + b"\n", 1, "it goes too deep"),
        (b'{"train": [{"a": 1}], "test": [{"a": 2}]}', None, "several lists: train, test"),
        (b'{"data": [{"a": 1}, [2]]}', None, "this row is a list"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, content: bytes, line, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_records(path))
    assert caught.value.where == (f"{path}:{line}" if line else caught.value.where)
    assert str(caught.value.where).startswith(str(path))
    assert said in str(caught.value)
    assert caught.value.remedy


def test_rows_that_are_passed_over_are_told_and_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"ä": 1}\nno\n{"a": "'.encode() + b'\xff"}\n[2]\n{"b": 2}\n')
    faults: list[DataError] = []
    assert list(read_records(path, fault=faults.append)) == [(1, {"ä": 1}), (5, {"b": 2})]
    assert [fault.where for fault in faults] == [f"{path}:{line}" for line in (2, 3, 4)]


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf[{"a": "[1,"},\n  {"b": 2}\n]\n',
        b'[{"a": "[1,"}, \n\r\n{"b": 2}]',
        b'\n[\n{"a": "[1,"},{"b": 2}]\n',
        b'{\n  "a": "[1,"\n}\n{\n  "b": 2\n}\n',  # as jq prints them
        b'{"a": "[1,"}\n{\n  "b": 2}'.replace(b"\n  ", b" "),
        b'{"version": "1", "data": [{"a": "[1,"}, {"b": 2}]}',
        b'{\n  "data": [\n    {"a": "[1,"},\n    {"b": 2}\n  ]\n}\n',
    ],
)
def test_lists_and_objects_of_any_layout(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert rows_of(path) == [{"a": "[1,"}, {"b": 2}]


@pytest.mark.parametrize(
    "content",
    [
        {"messages": TALK},
        {"id": 1, "history": [["a", "b"]], "prompt": "c"},
        {"id": 4},
        {"data": [1, 2]},
    ],
)
def test_a_file_of_one_object_is_one_row(tmp_path: Path, content: dict) -> None:
    path = tmp_path / "a.json"
    for indent in (None, 2):
        path.write_text(json.dumps(content, indent=indent))
        assert rows_of(path) == [content]


@pytest.mark.parametrize(
    "text",
    [
        f"{json.dumps(TALK)}\n{json.dumps(TALK)}\n",  # as nanochat keeps them
        json.dumps([TALK, TALK]),
        json.dumps([TALK, {"messages": TALK}], indent=1),
        f"{json.dumps({'messages': TALK})}\n{json.dumps(TALK)}\n",
    ],
)
def test_a_list_of_messages_is_a_row(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    assert rows_of(path) == [{"messages": TALK}] * 2


def test_one_talk_over_several_lines_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("\n" + json.dumps(TALK, indent=2))
    assert list(read_records(path)) == [(2, {"messages": TALK})]


def test_the_objects_of_a_list_have_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('\n[\n{"a": 1},\n\n{\n"a": 2\n}, {"a": 3}\n]\n')
    assert [number for number, _ in read_records(path)] == [3, 5, 7]
    for empty in ("[]\n", "", " \n"):
        path.write_text(empty)
        assert list(read_records(path)) == []


def test_of_a_very_long_list_little_is_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    row = json.dumps({"prompt": "Why?", "completion": "So it is. " * 200})
    path.write_text("[" + ",\n".join([row] * 15_000) + "]")
    size = path.stat().st_size
    assert size > 30_000_000
    tracemalloc.start()
    count = sum(1 for _ in read_records(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 15_000
    assert peak < size / 4


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(), JSON, min_size=1, max_size=3), min_size=2, max_size=4)


@given(OBJECTS, st.booleans(), st.sampled_from([None, 1]), st.integers(1, 9))
def test_objects_come_back_however_the_text_is_cut(
    objects: list[dict], ascii: bool, indent: int | None, step: int
) -> None:
    """In pieces of a few characters, which is as if each were longer than a piece."""
    options = {"ensure_ascii": ascii, "indent": indent}
    listed = json.dumps(objects, **options)
    apart = "\n".join(json.dumps(one, **options) for one in objects)
    for text in (listed, apart):
        pieces = [text[place : place + step] for place in range(0, len(text), step)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lines, "CHUNK", step)
            found = [row for _, row in json_records(Path("a.json"), pieces)]
        assert found == objects


@given(st.text(alphabet='[]{}",:1 \nae\\', max_size=40))
def test_what_is_no_json_is_refused_with_its_place(text: str) -> None:
    try:
        rows = [row for _, row in json_records(Path("a.json"), [text])]
    except DataError as error:
        place, rows = str(error.where), []
    else:
        place = "a.json"
    assert place.startswith("a.json")
    assert all(isinstance(row, dict) for row in rows)


def test_the_hash_is_of_the_file_as_it_lies_there(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(path) == expected


def test_clean_text() -> None:
    assert clean(" \r\n a\r\n  b \n") == "a\n  b"
    assert clean("half \ud83d a pair, a whole one \U0001f600") == (
        "half \N{REPLACEMENT CHARACTER} a pair, a whole one \U0001f600"
    )


@given(st.text(alphabet=st.characters(codec=None)))
def test_clean_text_is_utf8_and_stays_clean(text: str) -> None:
    once = clean(text)
    once.encode("utf-8")
    assert clean(once) == once
