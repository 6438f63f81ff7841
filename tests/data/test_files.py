"""Files of every kind, packing and encoding, folders and patterns of them."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv, feather, ipc, parquet

from guildgpt.data import files
from guildgpt.data.files import data_files, of_split, read_records, require_file, split_of
from guildgpt.data.packed import ENDINGS
from guildgpt.errors import DataError

ROWS = [{"prompt": "Why?", "completion": 'So,\nand "so".'}, {"prompt": "Ä?", "completion": "Ö."}]


def packed(packing: str, data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, packing) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: packed("zstd", data),
    ".lz4": lambda data: packed("lz4", data),
}


def write_arrow(path: Path) -> None:
    table = pyarrow.Table.from_pylist(ROWS)
    with ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)


def write_stream(path: Path) -> None:
    """As `datasets` saves a set."""
    table = pyarrow.Table.from_pylist(ROWS)
    with ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def written(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(text.encode()) and None


KINDS: dict[str, Callable[[Path], None]] = {
    "a.jsonl": written("".join(json.dumps(row) + "\n" for row in ROWS)),
    "a.ndjson": written("".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in ROWS)),
    "a.json": written(json.dumps(ROWS, indent=2)),
    "a.csv": lambda path: csv.write_csv(pyarrow.Table.from_pylist(ROWS), path),
    "b.csv": written('\ufeffprompt;completion\r\nWhy?;"So,\nand ""so""."\r\n\r\nÄ?;Ö.\r\n'),
    "a.tsv": written('prompt\tcompletion\nWhy?\t"So,\nand ""so""."\nÄ?\tÖ.\n'),
    "export": written('prompt,completion\nWhy?,"So,\nand ""so""."\nÄ?,Ö.\n'),
    "a.parquet": lambda path: parquet.write_table(pyarrow.Table.from_pylist(ROWS), path),
    "a.arrow": write_arrow,
    "data-00000-of-00001.arrow": write_stream,
    "a.feather": lambda path: feather.write_feather(pyarrow.Table.from_pylist(ROWS), str(path)),
}


def test_every_ending_is_tried() -> None:
    assert {Path(name).suffix for name in KINDS} >= files.KINDS.keys()
    assert {*PACKINGS} == {*ENDINGS}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    KINDS[name](tmp_path / name)
    assert [row for _, row in read_records(tmp_path / name)] == ROWS


@pytest.mark.parametrize("ending", PACKINGS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_packed_files_are_unpacked(tmp_path: Path, name: str, ending: str) -> None:
    """Told by content: the ending may say something else, or nothing."""
    KINDS[name](tmp_path / name)
    for called in (f"{name}{ending}", name):
        path = tmp_path / "packed" / called
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PACKINGS[ending]((tmp_path / name).read_bytes()))
        assert [row for _, row in read_records(path)] == ROWS


@pytest.mark.parametrize("ending", PACKINGS)
def test_a_packed_file_that_is_cut_off_gives_its_whole_lines_and_then_the_place(
    tmp_path: Path, ending: str
) -> None:
    lines = "".join(f'{{"number": {i}, "text": "{i * 7919 % 1009}"}}\n' for i in range(200_000))
    whole = PACKINGS[ending](lines.encode())
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    read = 0
    with pytest.raises(DataError, match="cut off") as caught:
        for read, _ in read_records(path):  # noqa: B007
            pass
    assert read > 0
    assert caught.value.where == f"{path}:{read + 1}"


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "data-00000-of-00001.arrow"])
def test_a_table_of_columns_that_is_cut_off_is_named(tmp_path: Path, name: str) -> None:
    KINDS[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cut off or damaged") as caught:
        list(read_records(tmp_path / name))
    assert caught.value.where == f"{tmp_path / name}:1"
    assert "again" in str(caught.value.remedy)


def test_a_damaged_gzip_is_a_data_error(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(b'{"a": 1}\n' * 1000, mtime=0))
    whole[20] ^= 0xFF
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(bytes(whole))
    with pytest.raises(DataError, match="damaged"):
        list(read_records(path))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl.zst"])
def test_without_the_library_the_command_that_brings_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    KINDS[name.removesuffix(".zst")](tmp_path / name)
    if name.endswith(".zst"):
        (tmp_path / name).write_bytes(PACKINGS[".zst"]((tmp_path / name).read_bytes()))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="pyarrow is needed") as caught:
        list(read_records(tmp_path / name))
    assert caught.value.remedy == "pip install 'guildgpt[files]'"
    KINDS["a.jsonl"](tmp_path / "a.jsonl")
    assert len(list(read_records(tmp_path / "a.jsonl"))) == 2


@pytest.mark.parametrize(
    ("name", "content", "said", "remedy"),
    [
        ("a.zip", b"PK\x03\x04\x14", "a zip archive", "unzip"),
        ("a.xlsx", b"PK\x03\x04\x14", "a spreadsheet", "CSV"),
        ("a.pdf", b"%PDF-1.7", "a PDF", "pdftotext"),
        ("a.tar", b"a.jsonl".ljust(257, b"\0") + b"ustar\0", "a tar archive", "tar xf"),
        ("a.pkl", b"\x80\x04\x95\x00", "a Python pickle", "JSON lines"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "git lfs pull"),
        ("a.parquet.gz", gzip.compress(b"PAR1\x15", mtime=0), "inside a gzip file", "Unpack"),
        ("a.bin", bytes(range(256)) * 9, "no text", "JSON"),
    ],
)
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, name: str, content: bytes, said: str, remedy: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_records(path))
    assert str(caught.value.where).startswith(str(path))
    assert said in caught.value.what
    assert remedy in str(caught.value.remedy)


# --- tables --------------------------------------------------------------------------------------


def test_a_cell_with_nothing_in_it_is_null_and_rows_have_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('prompt,system,completion\n"a\nb",,c\n\nd,e\n')
    first, second = read_records(path)
    assert first == (2, {"prompt": "a\nb", "system": None, "completion": "c"})
    assert second == (5, {"prompt": "d", "system": "e", "completion": None})


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("prompt,completion\na,b\nc,d,e\n", 3, "3 cells, and the table 2 columns"),
        ("prompt,prompt\na,b\n", 1, "two columns are called `prompt`"),
        ('prompt,completion\na,b\n"c"d,e\n', 3, "the table is broken"),
        ('prompt,completion\na,"b\n', 2, "the table is broken"),
    ],
)
def test_a_broken_table_names_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        list(read_records(path))
    assert caught.value.where == f"{path}:{line}"


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"prompt,completion\nWhy?,{'so ' * 100_000}\n")
    ((_, row),) = read_records(path)
    assert len(row["completion"]) == 300_000


TEXTS = st.text('[]{}",:;1 \n\r\0äa\t', max_size=40)
CELL = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1)


@given(
    st.lists(st.fixed_dictionaries({"prompt": CELL, "completion": CELL}), min_size=1, max_size=5)
)
def test_tables_give_back_what_was_written(tmp_path_factory, rows: list[dict[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("table")
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, folder / "a.parquet")
    csv.write_csv(table, folder / "a.csv")
    assert [row for _, row in read_records(folder / "a.parquet")] == rows
    seen = [row for _, row in read_records(folder / "a.csv")]
    # A line of blanks alone is no row.
    assert seen == [row for row in rows if "".join(row.values()).strip()]


# --- encodings -----------------------------------------------------------------------------------

SAID = {
    "cp1252": ("Die Straße ist für Fußgänger gesperrt, größere Umwege.", "Windows-1252"),
    "cp1251": ("Сегодня хорошая погода, и мы идём гулять в парк.", "Windows-1251"),
    "gb18030": ("今天天气很好，我们一起去公园散步吧。", "GBK"),
    "cp932": ("今日はとても良い天気ですね。公園へ散歩に行きましょう。", "Shift-JIS"),
}


@pytest.mark.parametrize("encoding", SAID)
@pytest.mark.parametrize("before", [0, 3 * (1 << 18)])
def test_old_encodings_are_guessed_and_said(tmp_path: Path, encoding: str, before: int) -> None:
    """However late in the file it shows."""
    text, name = SAID[encoding]
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"a": "x" * 1000})] * (before // 1000)
    lines += [json.dumps({"a": text}, ensure_ascii=False)] * 3
    path.write_bytes("\n".join(lines).encode(encoding))
    notices: list[str] = []
    rows = [row for _, row in read_records(path, notices)]
    assert [row["a"] for row in rows[-3:]] == [text] * 3
    (notice,) = notices
    assert notice.startswith("a.jsonl: it is not UTF-8, and read as " + name)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "b.csv"])
def test_utf16_is_read_and_said(tmp_path: Path, encoding: str, name: str) -> None:
    KINDS[name](tmp_path / name)
    text = (tmp_path / name).read_text("utf-8-sig")
    (tmp_path / name).write_bytes(text.encode(encoding))
    notices: list[str] = []
    assert [row for _, row in read_records(tmp_path / name, notices)] == ROWS
    assert len(notices) == (encoding != "utf-8-sig")
    assert all(encoding[:6].upper() in notice for notice in notices)


def test_a_stray_byte_in_utf8_makes_it_no_other_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = json.dumps({"a": "größer, schöner, weiß"}, ensure_ascii=False).encode()
    path.write_bytes(good + b'\n{"a": "caf\xe9"}\n' + good)
    with pytest.raises(DataError, match="byte 11 of the line is not UTF-8") as caught:
        list(read_records(path))
    assert caught.value.where == f"{path}:2"


MARKS = (b"", b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0",
         b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\xff\xfe", b"\xef\xbb\xbf", b"[", b'{"a": ',
         b"a,b\n", b"PK\x03\x04")  # fmt: skip


@given(
    st.sampled_from(MARKS),
    st.binary(max_size=60) | TEXTS.map(str.encode) | TEXTS.map(lambda text: text.encode("utf-16")),
    st.sampled_from(["a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.arrow", "a.xlsx", "a"]),
)
def test_any_bytes_are_rows_or_named(tmp_path_factory, mark: bytes, rest: bytes, name: str) -> None:
    """No library's own exception reaches the person."""
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(mark + rest)
    try:
        rows = [row for _, row in read_records(path)]
    except DataError as error:
        where, rows = str(error.where), []
    else:
        where = str(path)
    assert where.startswith(str(path))
    assert all(isinstance(row, dict) for row in rows)


# --- folders and patterns ------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    for name in ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet",
                 "data/test-00000-of-00001.parquet", "more/b.jsonl", "a.csv.gz", "README.md",
                 "dataset_info.json", ".hidden/c.jsonl"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_folder_is_its_files_of_rows_in_order(shards: Path) -> None:
    notices: list[str] = []
    labels = [file.label for file in data_files(shards, None, notices)]
    assert labels == [
        "set/a.csv.gz",
        "set/data/test-00000-of-00001.parquet",
        "set/data/train-00000-of-00002.parquet",
        "set/data/train-00001-of-00002.parquet",
        "set/more/b.jsonl",
    ]
    assert notices == ["set: not read for their endings: set/README.md"]


def test_a_split_and_a_pattern_choose_among_them(shards: Path) -> None:
    assert len(data_files(shards, "train", [])) == 2
    assert [file.label for file in data_files(shards / "data" / "test-*", None, [])] == [
        "test-00000-of-00001.parquet"
    ]
    assert [file.label for file in data_files(shards / "**" / "*.parquet", "test", [])] == [
        "data/test-00000-of-00001.parquet"
    ]
    with pytest.raises(DataError, match="no split `dev`") as caught:
        data_files(shards, "dev", [])
    assert caught.value.remedy == "There are test, train."
    with pytest.raises(DataError, match="no split `test`") as caught:
        data_files(shards / "more" / "b.jsonl", "test", [])
    assert caught.value.remedy == "No file's name tells a split."
    for nothing in (shards / "*.zip", shards / ".hidden" / "none"):
        with pytest.raises(DataError):
            data_files(nothing, None, [])


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/train_sft-00000-of-00003-ab12.parquet", "train_sft"),
        ("default/validation/0000.parquet", "validation"),
        ("dev.jsonl", "validation"),
        ("my-test-set.json", "test"),
        ("training.csv", "train"),
        ("trainer.csv", ""),
        ("chats.jsonl", ""),
    ],
)
def test_a_name_tells_its_split(name: str, split: str) -> None:
    assert split_of(name) == split
    if split:
        assert of_split([name, "chats.jsonl"], split, "here") == [name]


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


def test_a_row_with_wrong_quotes_is_passed_over_within_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n"x"y,3\n4,"5"\n"un""closed"z,\n6,7\n')
    faults: list[DataError] = []
    read = [row for _, row in read_records(path, fault=faults.append)]
    assert read == [{"a": "1", "b": "2"}, {"a": "4", "b": "5"}, {"a": "6", "b": "7"}]
    assert [fault.where for fault in faults] == [f"{path}:3", f"{path}:5"]


@pytest.mark.parametrize("end", ['4"5,6\n7,8\n', "4,5\n6,7\n"])
def test_quotes_over_several_lines_that_are_wrong_stop_all_the_same(
    tmp_path: Path, end: str
) -> None:
    """Those lines may be one row or many."""
    path = tmp_path / "a.csv"
    path.write_text(f'a,b\n1,2\n"3\n{end}')
    with pytest.raises(DataError, match="cannot be told") as raised:
        list(read_records(path, fault=lambda _: None))
    assert raised.value.where == f"{path}:3"
