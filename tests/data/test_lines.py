from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.data.lines import file_sha256, read_json_lines, require_file
from guildgpt.data.rows import clean
from guildgpt.errors import DataError


def test_lines_are_numbered_as_an_editor_does_and_blank_ones_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": "one\xe2\x80\xa8line"}\r\n\n  \n{"b": 2}')
    assert list(read_json_lines(path)) == [(1, {"a": "one\u2028line"}), (4, {"b": 2})]


def test_gzip_is_told_by_content(tmp_path: Path) -> None:
    path = tmp_path / "named-plainly.jsonl"
    path.write_bytes(gzip.compress(b'{"a": 1}\n'))
    assert list(read_json_lines(path)) == [(1, {"a": 1})]


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b'{"a": 1}\n{"a": \n', 2, "not JSON"),
        (b'{"a": 1}\n\n{"a": "\xff"}\n', 3, "byte 8 of the line is not UTF-8"),
        (b'{"a": 1}\n[1, 2]\n', 2, "a list"),
        (b"[\n{}\n]\n", 1, "jq -c"),
        (b"null\n", 1, "null"),
        (b"version https://git-lfs.github.com/spec/v1\n", 1, "git lfs pull"),
        (b"[" * 100_000 + b"\n", 1, "not JSON"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, content: bytes, line: int, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_json_lines(path))
    assert caught.value.where == f"{path}:{line}"
    assert said in str(caught.value)
    assert caught.value.remedy


def test_a_truncated_gzip_gives_its_whole_lines_and_then_the_place(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b'{"number": %d}\n' % i for i in range(20_000)))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    read = 0
    with pytest.raises(DataError, match="cut off") as caught:
        for read, _ in read_json_lines(path):  # noqa: B007
            pass
    assert read > 0
    assert caught.value.where == f"{path}:{read + 1}"


def test_a_damaged_gzip_is_a_data_error(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(b'{"a": 1}\n' * 1000))
    whole[20] ^= 0xFF
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(bytes(whole))
    with pytest.raises(DataError, match="damaged"):
        list(read_json_lines(path))


def test_a_missing_file_brings_up_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "dolly-15k.jsonl").touch()
    (tmp_path / "zebra.png").touch()
    with pytest.raises(DataError) as caught:
        require_file(tmp_path / "doly-15k.jsonl")
    assert "dolly-15k.jsonl" in (caught.value.remedy or "")
    assert "zebra" not in str(caught.value)
    with pytest.raises(DataError, match="no folder"):
        require_file(tmp_path / "nowhere" / "a.jsonl")
    with pytest.raises(DataError, match="a folder, not a file"):
        require_file(tmp_path)


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
