from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.chat import Source
from guildgpt.data.documents import document_side, documents_provenance, read_documents
from guildgpt.errors import DataError


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_folder_gives_its_texts_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    write(folder / "b.txt", "\ufeffTwo.\r\nLines.\r\n")
    write(folder / "a" / "deep" / "c.MD", "One.")
    write(folder / "picture.png", b"\xff\xd8")
    write(folder / ".git" / "d.txt", "hidden")
    write(folder / "empty.txt", " \n")
    documents = read_documents([folder])
    assert [(d.text, d.source.file) for d in documents] == [
        ("One.", "books/a/deep/c.MD"),
        ("Two.\nLines.", "books/b.txt"),
    ]


def test_a_file_named_outright_may_end_as_it_likes(tmp_path: Path) -> None:
    (document,) = read_documents([write(tmp_path / "story.rst", "Once.")], name="tales")
    assert document.source == Source("tales", "story.rst", 1)


def test_a_zero_byte_is_a_character_as_any_other(tmp_path: Path) -> None:
    (document,) = read_documents([write(tmp_path / "a.txt", "a\0b and so on")])
    assert document.text == "a\0b and so on"


def test_a_separator_line_ends_a_document(tmp_path: Path) -> None:
    path = write(tmp_path / "all.txt", "----\n\nOne.\n----- not\n\n----\n----\nTwo.\n\n----\n")
    documents = read_documents([path], separator="----")
    assert [(d.text, d.source.row) for d in documents] == [("One.\n----- not", 3), ("Two.", 8)]
    (whole,) = read_documents([path])
    assert whole.text.startswith("----")


BODY = st.text(st.characters(codec="utf-8", exclude_characters="\r=\ufeff\0"))


@given(st.lists(BODY.map(str.strip).filter(bool), min_size=1, max_size=5))
def test_joined_texts_come_apart_again(tmp_path_factory, bodies: list[str]) -> None:
    path = write(tmp_path_factory.mktemp("docs") / "a.txt", "\n===\n".join(bodies))
    assert [d.text for d in read_documents([path], separator="===")] == bodies


def test_a_stray_byte_is_named_and_an_old_encoding_guessed(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.txt", "größer: ".encode() + b"caf\xe9 au lait")
    with pytest.raises(DataError, match="byte 14 of the file is not UTF-8") as caught:
        read_documents([path])
    assert caught.value.where == str(path)
    text = "Die Straße ist für Fußgänger gesperrt."
    old = write(tmp_path / "old.txt", text.encode("cp1252"))
    wide = write(tmp_path / "wide.txt.gz", gzip.compress(text.encode("utf-16")))
    notices: list[str] = []
    assert [one.text for one in read_documents([old, wide], notices=notices)] == [text, text]
    assert "Windows-1252" in notices[0]
    assert "UTF-16" in notices[1]


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text"):
        read_documents([tmp_path])
    with pytest.raises(DataError, match="no such file"):
        read_documents([tmp_path / "a.txt"])


def test_the_side_is_the_texts_own(tmp_path: Path) -> None:
    for number in range(200):
        write(tmp_path / f"{number}.txt", f"Text {number}.")
    documents = read_documents([tmp_path])
    sides = {d.text: document_side(d, 0.3) for d in documents}
    assert 30 < list(sides.values()).count("held_out") < 90
    (alone,) = read_documents([write(tmp_path / "sub" / "x.txt", "  text  7.\n")])
    assert document_side(alone, 0.3) == sides["Text 7."]


def test_where_they_came_from(tmp_path: Path) -> None:
    for name in "abcde":
        write(tmp_path / "docs" / f"{name}.txt", name)
    item = documents_provenance(read_documents([tmp_path / "docs"]), licence="cc0-1.0")
    assert (item.rows, item.licence) == (5, "CC0-1.0")
    assert item.origin == "docs/a.txt, docs/b.txt, docs/c.txt and 2 more"
    write(tmp_path / "docs" / "a.txt", "changed")
    assert documents_provenance(read_documents([tmp_path / "docs"])).sha256 != item.sha256


@pytest.mark.parametrize(
    ("name", "content", "said", "remedy"),
    [
        ("a.txt", b"PAR1\x15", "a Parquet or Arrow file", "Name a file of text"),
        ("a.txt", b"%PDF-1.7", "a PDF", "pdftotext"),
        ("a.jsonl", b'{"text": "Once."}\n', "JSON lines", "jq -r .text a.jsonl > a.txt"),
    ],
)
def test_what_is_no_plain_text_is_named(
    tmp_path: Path, name: str, content: bytes, said: str, remedy: str
) -> None:
    """Packed or marked up it would be learned as it lies there."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_documents([path])
    assert remedy in str(caught.value.remedy)
