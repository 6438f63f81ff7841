"""JSON of every shape, told apart by how it begins; every fault names its line."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.data import lines
from guildgpt.data.files import read_records
from guildgpt.data.lines import json_records
from guildgpt.data.rows import clean
from guildgpt.errors import DataError
from guildgpt.hashes import file_sha256

PACK = {".gz": gzip.compress, ".zst": lambda data: pyarrow.compress(data, "zstd", asbytes=True)}
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


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is what the remedy tells to run")
@pytest.mark.parametrize("name", ["two lists.json", "it's.json.gz", "a.json.zst"])
@pytest.mark.parametrize("key", ["train", 'the "good" ones'])
def test_one_of_several_lists_is_taken_out_as_the_remedy_says(
    tmp_path: Path, name: str, key: str
) -> None:
    content = json.dumps({key: [{"messages": TALK}, TALK], "test": [{"messages": TALK}]}, indent=2)
    path = tmp_path / name
    path.write_bytes(PACK.get(path.suffix, bytes)(content.encode()))
    with pytest.raises(DataError, match="several lists") as caught:
        rows_of(path)
    _, _, command = str(caught.value.remedy).partition(": ")
    subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, check=True)
    assert rows_of(tmp_path / "rows.jsonl") == [{"messages": TALK}, {"messages": TALK}]


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


# A row that is broken in the middle of a list, and those around it.
BROKEN_ROWS = [
    '{"a": 1, "b": [{"a": 7}, {"a": 8}]',
    '{"a": 1 "b": 2}',
    '{"a": "one\ntwo"}',
    '{"a": tru}',
    '{"a": 1}}',
    '{"a": [1, {"b": 2}}',
    '{"a": ' + "9" * 5000 + "}",
    "x",
    '{"a": "',
]


@pytest.mark.parametrize("broken", BROKEN_ROWS)
@pytest.mark.parametrize("layout", ["[\n  ROWS\n]", "[\nROWS\n]\n", "[\n\tROWS]"])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_broken_row_of_a_list_can_be_passed_over(
    tmp_path: Path, broken: str, layout: str, place: int
) -> None:
    """Where each row begins a line of its own, the next is told from what is broken."""
    path = tmp_path / "a.json"
    rows = [json.dumps({"a": number, "b": [{"a": -1}]}) for number in range(3)]
    rows.insert(place, broken)
    edge = layout.partition("ROWS")[0].rpartition("\n")[2]
    path.write_text(layout.replace("ROWS", f",\n{edge}".join(rows)))
    faults: list[DataError] = []
    read = [row["a"] for _, row in read_records(path, fault=faults.append)]
    assert [a for a in read if a != 1 or broken != '{"a": 1}}'] in ([0, 1, 2], [0, 2])
    assert faults
    number = int(str(faults[0].where).rpartition(":")[2])
    assert place + 2 <= number <= len(path.read_text().splitlines())
    with pytest.raises(DataError):
        rows_of(path)


@pytest.mark.parametrize(
    "text", ['[{"a": 0}, {"a" 1}, {"a": 2}]', '[{"a": 0},\n{"a" 1}, {"a": 2}\n]', '[{"a" 1}, {}]']
)
def test_what_cannot_be_told_apart_stops_all_the_same(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match="the JSON is broken here"):
        list(read_records(path, fault=lambda _: None))


def test_a_broken_object_over_several_lines_can_be_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{\n "a": 0\n}\n{\n "a": [{\n "b": 1}\n "c": 2\n}\n{\n "a": 2\n}\n')
    faults: list[DataError] = []
    assert [row for _, row in read_records(path, fault=faults.append)] == [{"a": 0}, {"a": 2}]
    assert [fault.where for fault in faults] == [f"{path}:7"]


def test_a_talk_with_a_broken_message_is_no_talk(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    talk = [json.dumps(message) for message in TALK]
    path.write_text("[\n" + ",\n".join([talk[0], '{"role" "user"}', talk[1]]) + "\n]")
    faults: list[DataError] = []
    assert not list(read_records(path, fault=faults.append))
    assert [fault.where for fault in faults] == [f"{path}:3", f"{path}:1"]


def test_rows_of_a_wrapped_list_that_are_none_can_be_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"data": [{"a": 1}, [1, 2], {"a": 3}]}')
    faults: list[DataError] = []
    assert [row for _, row in read_records(path, fault=faults.append)] == [{"a": 1}, {"a": 3}]
    assert len(faults) == 1


@given(st.data())
def test_of_a_list_with_broken_rows_the_others_are_read(tmp_path_factory, data) -> None:
    """Whatever is broken, and however the text is cut into pieces."""
    values = st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
        max_leaves=5,
    )
    rows = data.draw(st.lists(st.fixed_dictionaries({"a": values}), min_size=1, max_size=6))
    texts = [json.dumps(row) for row in rows]
    bad = data.draw(st.sets(st.integers(0, len(rows) - 1)))
    for index in bad:
        cut = data.draw(st.integers(1, len(texts[index]) - 1))
        texts[index] = texts[index][:cut]  # no whole object is left
    text = "[\n" + ",\n".join(texts) + "\n]"
    size = data.draw(st.integers(1, len(text)))
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    faults: list[DataError] = []
    read = [row for _, row in json_records(Path("a.json"), iter(pieces), faults.append)]
    assert read == [row for index, row in enumerate(rows) if index not in bad]
    assert len(faults) == len(bad)
