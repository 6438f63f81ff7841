from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.data.lines import read_json_lines, require_file
from guildgpt.data.rows import clean
from guildgpt.errors import DataError
from guildgpt.hashes import file_sha256


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
        (b'{\n "a": 1\n}\n', 1, "jq -c"),
        (b'[{"a": 1},\n{"a": 2}\n', 2, "it does not end"),
        (b'[\n\n{"a": 1},\n{"a" 2}]\n', 4, "this JSON list is broken"),
        (b'[{"a": 1},\n]\n', 2, "this JSON list is broken"),
        (b'[{"a": 1}]\n{"a": 1}\n', 1, "more behind its end"),
        (b'[{"a": 1},\n{"a": "\xff"}]\n', 2, "not UTF-8"),
        (b'[{"a": 1},\n\n3]\n', 3, "a number, not an object"),
        (b"null\n", 1, "null"),
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


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf[{"a": "[1,"},\n  {"b": 2}\n]\n',
        b'[{"a": "[1,"}, \n\r\n{"b": 2}]',
        b'\n[\n{"a": "[1,"},{"b": 2}]\n',
        gzip.compress(b'[{"a": "[1,"},{"b": 2}]', mtime=0),
    ],
)
def test_one_long_list_of_objects_is_read_too(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert [row for _, row in read_json_lines(path)] == [{"a": "[1,"}, {"b": 2}]


def test_the_objects_of_a_list_have_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('\n[\n{"a": 1},\n\n{\n"a": 2\n}, {"a": 3}\n]\n')
    assert [number for number, _ in read_json_lines(path)] == [3, 5, 7]
    path.write_text("[]\n")
    assert list(read_json_lines(path)) == []


@pytest.mark.parametrize(
    ("name", "content", "said", "remedy"),
    [
        ("a.parquet", b"PAR1\x15\x00", "a Parquet file", "read_parquet('HERE/a.parquet')"),
        ("a.jsonl", b"PAR1\x15\x00", "a Parquet file", "to_json('HERE/a-2.jsonl'"),
        ("a.arrow", b"ARROW1\x00\x00", "an Arrow file", "read_feather"),
        (
            "a.jsonl.zst",
            b"\x28\xb5\x2f\xfd\x24",
            "compressed with zstd",
            "zstd -d HERE/a.jsonl.zst",
        ),
        ("a.jsonl.xz", lzma.compress(b"{}"), "compressed with xz", "xz -dk"),
        ("a.jsonl.bz2", bz2.compress(b"{}"), "compressed with bzip2", "bunzip2"),
        ("a.zip", b"PK\x03\x04\x14", "a zip archive", "unzip"),
        ("a.csv", b"prompt,completion\nWhy?,So.\n", "a table", "delimiter=',')"),
        ("a.tsv", b"Why\tSo\n", "a table", "delimiter='\\t')"),
        ("a.csv.gz", gzip.compress(b"prompt,completion\n", mtime=0), "a table", "csv.DictReader"),
        ("a.jsonl", b'"prompt","completion"\nWhy?,So.\n', "a table", "> HERE/a-2.jsonl"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16"), "UTF-16", "iconv -f UTF-16"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "git lfs pull"),
    ],
)
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, name: str, content: bytes, said: str, remedy: str
) -> None:
    """With what makes JSON lines of it; nobody is told to mend a line of a Parquet file."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_json_lines(path))
    assert caught.value.where == str(path)
    assert said in caught.value.what
    assert remedy.replace("HERE", str(tmp_path)) in str(caught.value.remedy)


def test_what_is_said_of_a_table_makes_json_lines_of_it(tmp_path: Path) -> None:
    path = tmp_path / "my a.csv"
    path.write_text('prompt,completion\nWhy?,"So,\nand so."\n', encoding="utf-8-sig")
    with pytest.raises(DataError) as caught:
        list(read_json_lines(path))
    command = str(caught.value.remedy).partition(": ")[2].replace("python3", sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    rows = [row for _, row in read_json_lines(tmp_path / "my a.jsonl")]
    assert rows == [{"prompt": "Why?", "completion": "So,\nand so."}]


def test_a_folder_of_parts_is_named(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"part-{number}.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="a folder, not a file") as caught:
        require_file(tmp_path)
    assert "It holds 3 files, such as part-0.jsonl" in str(caught.value.remedy)
    assert f"awk 1 {tmp_path}/*.jsonl > {tmp_path.name}.jsonl" in str(caught.value.remedy)
    for number in range(1, 3):
        (tmp_path / f"part-{number}.jsonl").unlink()
    with pytest.raises(DataError) as caught:
        require_file(tmp_path)
    assert caught.value.remedy == f"Name the file in it: {tmp_path / 'part-0.jsonl'}"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-0.parquet").touch()
    with pytest.raises(DataError) as caught:
        require_file(tmp_path)
    assert "such as data/train-0.parquet" in str(caught.value.remedy)
    assert "make one" not in str(caught.value.remedy)


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
    whole = bytearray(gzip.compress(b'{"a": 1}\n' * 1000, mtime=0))
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
