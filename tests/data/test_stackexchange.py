"""A dump's Posts.xml of our own making: what is taken, under which licence, and what is refused."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest

from guildgpt.chat import Comparison, Conversation
from guildgpt.data import stackexchange, xml_rows
from guildgpt.data.provenance import attributions, check
from guildgpt.data.source import load
from guildgpt.data.spec import SourceSpec
from guildgpt.errors import DataError

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<posts>\n'


def row(**values: object) -> str:
    said = {"CreationDate": "2012-05-06T07:08:09.010", "Score": 0, **values}
    return (
        f"  <row {' '.join(f'{key}={quoteattr(str(value))}' for key, value in said.items())} />\n"
    )


def asked(post: int, **values: object) -> str:
    said = {"Title": f"Why {post}?", "Body": f"<p>Tell me of {post}.</p>", **values}
    return row(Id=post, PostTypeId=1, **said)


def answer(post: int, home: int, score: int, **values: object) -> str:
    said = {"Body": f"<p>Answer {post}.</p>", **values}
    return row(Id=post, PostTypeId=2, ParentId=home, Score=score, **said)


POSTS = [
    asked(1, AcceptedAnswerId=4),
    asked(2),
    answer(3, 1, 7),
    answer(4, 1, 0),  # accepted: a grade of 1
    answer(5, 2, 3),
    row(Id=6, PostTypeId=5, Body="a tag's wiki"),
    answer(7, 2, 3),  # as many votes: no pair
    answer(8, 1, -2, Body="<p>No &lt;b&gt; at all.</p>"),
]


def write(path: Path, *rows: str, end: str = "</posts>\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + "".join(rows) + end, encoding="utf-8")
    return path


def spec(path: Path, **options: Any) -> SourceSpec:
    return SourceSpec.model_validate({"source": f"stackexchange:{path}", **options})


def refused(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        load(spec(path))
    assert caught.value.remedy
    return caught.value


def test_answers_are_compared_by_the_distance_of_their_grades(tmp_path: Path) -> None:
    loaded = load(spec(write(tmp_path / "Posts.xml", *POSTS)))
    (compared,) = loaded.comparisons
    assert [m.content for m in compared.prompt] == ["Why 1?\n\nTell me of 1."]
    texts = [m.content for m in compared.answers]
    assert texts == ["Answer 3.", "Answer 4.", "No <b> at all."]
    assert compared.ranks == (0, 2, 4)  # grades 3, 1 and -1
    assert (compared.source.file, compared.source.row) == ("Posts.xml", 1)
    (talk,) = loaded.conversations
    assert [m.content for m in talk.messages] == ["Why 1?\n\nTell me of 1.", "Answer 3."]
    assert loaded.skipped == {
        "fewer than two answers with different votes": 1,
        "neither a question nor an answer": 1,
    }
    assert loaded.warnings == []


def test_licence_credit_and_month_are_recorded(tmp_path: Path) -> None:
    rows = [
        asked(1, CreationDate="2010-01-02T00:00:00", ContentLicense="CC BY-SA 2.5"),
        answer(2, 1, 5, CreationDate="2011-04-08T00:00:00.000"),  # not said: by its day
        answer(3, 1, 0, ContentLicense="CC BY-SA 4.0", CreationDate="2020-01-01T00:00:00"),
        asked(4, CreationDate="2023-11-30T01:02:03"),
    ]
    loaded = load(spec(write(tmp_path / "cooking.stackexchange.com" / "Posts.xml", *rows)))
    item = loaded.provenance
    assert (item.licence, item.written_by, item.revision) == ("CC-BY-SA-4.0", "people", "2023-11")
    assert "1 CC-BY-SA-2.5, 1 CC-BY-SA-3.0, 1 CC-BY-SA-4.0" in item.note
    assert "https://cooking.stackexchange.com/q/N" in item.attribution
    assert "Share-alike" in attributions([item])
    assert check("strict", [item]) == []
    assert item.rows == 2
    named = load(spec(tmp_path / "cooking.stackexchange.com" / "Posts.xml", revision="2024-04"))
    assert named.provenance.revision == "2024-04"


def test_a_dump_under_the_new_terms_is_warned_of(tmp_path: Path) -> None:
    late = asked(9, CreationDate="2024-09-01T00:00:00")
    (warning,) = load(spec(write(tmp_path / "Posts.xml", *POSTS, late))).warnings
    assert "2024-09" in warning
    assert "July 2024" in warning


def test_a_licence_that_is_not_theirs_is_left_out(tmp_path: Path) -> None:
    strange = answer(4, 1, 0, ContentLicense="CC BY-NC 4.0")
    loaded = load(spec(write(tmp_path / "Posts.xml", asked(1), answer(3, 1, 7), strange)))
    assert loaded.comparisons == []
    assert loaded.skipped == {"under a licence that is not known": 1}
    assert loaded.provenance.licence == "unknown"


def test_few_of_many_answers_and_a_limit(tmp_path: Path) -> None:
    many = [answer(10 + n, 1, score) for n, score in enumerate([0, 1, 3, 7, 15, 31, 63])]
    others = [
        row for n in (2, 3, 4) for row in (asked(n), answer(50 + n, n, 9), answer(60 + n, n, 0))
    ]
    path = write(tmp_path / "Posts.xml", asked(1), *many, *others)
    loaded = load(spec(path, limit=2))
    assert [one.ranks for one in loaded.comparisons] == [(0, 2, 4, 6), (0, 3)]
    assert loaded.skipped["over four answers to one question"] == 3
    assert loaded.skipped["over the limit"] >= 1
    assert len(load(spec(path)).comparisons) == 4


def test_texts_that_are_empty_and_questions_that_are_missing(tmp_path: Path) -> None:
    rows = [
        asked(1, Title="", Body="<p> </p>"),
        answer(2, 1, 5),
        answer(3, 1, 0),
        asked(4),
        answer(5, 4, 5, Body="<img src='x'>"),
        answer(6, 4, 0),
        answer(7, 99, 5),
        answer(8, 99, 0),
    ]
    loaded = load(spec(write(tmp_path / "Posts.xml", *rows)))
    assert loaded.comparisons == loaded.conversations == []
    assert loaded.skipped == {
        "empty prompt": 1,
        "empty answer": 1,
        "fewer than two answers with different votes": 1,
        "its question is not in the file": 1,
    }


def test_without_an_answer_there_is_no_row(tmp_path: Path) -> None:
    loaded = load(spec(write(tmp_path / "Posts.xml", asked(1))))
    assert not loaded.comparisons
    assert not loaded.conversations
    assert loaded.skipped == {"fewer than two answers with different votes": 1}
    assert load(spec(write(tmp_path / "Posts.xml"))).skipped == {}


@pytest.mark.parametrize("usable", [29, 2])
def test_unusable_questions_are_not_of_the_limit(tmp_path: Path, usable: int) -> None:
    missing = [one for n in range(1, 6) for one in (answer(100 + n, n, 7), answer(200 + n, n, 0))]
    blank = [
        one
        for n in range(10, 16)
        for one in (asked(n), answer(100 + n, n, 7, Body="<img>"), answer(200 + n, n, 0))
    ]
    good = [
        one
        for n in range(20, 20 + usable)
        for one in (asked(n), answer(300 + n, n, 7), answer(400 + n, n, 0))
    ]
    path = write(tmp_path / "Posts.xml", *missing, *blank, *good)
    assert len(load(spec(path)).comparisons) == usable
    loaded = load(spec(path, limit=3))
    assert [one.source.row for one in loaded.comparisons] == [20, 21, 22][:usable]
    assert len(loaded.conversations) == min(3, usable)
    assert loaded.provenance.note.endswith(f"posts taken: {3 * min(3, usable)} CC-BY-SA-3.0")
    assert loaded.skipped["over the limit"] == max(usable - 3, 0)
    assert loaded.skipped["its question is not in the file"] == 5
    assert loaded.skipped["empty answer"] == 6


def test_of_an_id_the_first_row_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "Posts.xml", *POSTS)
    once = load(spec(path))
    write(path, *POSTS, *POSTS)
    twice = load(spec(path))
    assert twice.comparisons == once.comparisons
    assert twice.conversations == once.conversations
    assert twice.skipped == {
        "fewer than two answers with different votes": 1,
        "neither a question nor an answer": 2,
        "has the Id of an earlier post": 7,
    }
    later = [answer(3, 1, 0, Body="Later."), answer(1, 2, 9), asked(4), asked(1, Title="Later?")]
    write(path, POSTS[0], POSTS[2], *later, *POSTS[1:2], *POSTS[3:])
    mixed = load(spec(path))
    assert [m.content for m in mixed.comparisons[0].prompt] == ["Why 1?\n\nTell me of 1."]
    texts = [m.content for m in mixed.comparisons[0].answers]
    assert texts == ["Answer 3.", "No <b> at all."]  # the Id 4 is that of a question
    assert mixed.skipped["has the Id of an earlier post"] == 4


def test_what_was_deleted_is_left_out(tmp_path: Path) -> None:
    gone = {"DeletionDate": "2013-01-01T00:00:00"}
    rows = [
        *POSTS,
        answer(9, 1, 63, **gone),
        asked(10, **gone),
        answer(11, 10, 7),
        answer(12, 10, 0),
    ]
    path = write(tmp_path / "Posts.xml", *rows)
    loaded = load(spec(path))
    (compared,) = loaded.comparisons
    assert compared.answers[0].content == "Answer 3."
    assert loaded.skipped == {
        "fewer than two answers with different votes": 1,
        "neither a question nor an answer": 1,
        "deleted": 2,
        "its question was deleted": 1,
    }
    write(path, answer(3, 1, 63, Body="Old.", **gone), *POSTS)
    assert load(spec(path)).comparisons == [compared]


def test_unknown_fields_are_named(tmp_path: Path) -> None:
    loaded = load(spec(write(tmp_path / "Posts.xml", *POSTS, asked(9, Summary="In short: so."))))
    assert loaded.notes.unread == {"Summary": 1}
    assert "`Summary` has text in 1 row" in loaded.warnings[0]
    assert len(loaded.comparisons) == 1


def test_a_file_that_is_cut_says_what_came_before(tmp_path: Path) -> None:
    whole = write(tmp_path / "Posts.xml", *POSTS).read_bytes()
    cut = tmp_path / "cut.xml"
    cut.write_bytes(whole[: whole.index(b"Answer 5")])
    error = refused(cut)
    assert error.what == "the file is cut off here, after 4 rows"
    assert error.where == f"{cut}:7"
    cut.write_bytes(whole[: whole.index(b"</posts>")])
    assert refused(cut).what == "the file is cut off here, after 8 rows"
    cut.write_bytes(b"")
    assert "cut off" in refused(cut).what
    packed = tmp_path / "Posts.xml.gz"
    packed.write_bytes(gzip.compress(whole))
    assert len(load(spec(packed)).comparisons) == 1
    packed.write_bytes(gzip.compress(whole)[:-20])
    assert "the file is cut off" in refused(packed).what


def test_entities_that_multiply_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "Posts.xml"
    path.write_text(
        '<?xml version="1.0"?>\n<!DOCTYPE posts [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>\n'
        '<posts><row Id="1" PostTypeId="1" Score="0" Body="&b;"/></posts>',
        encoding="utf-8",
    )
    assert "document type" in refused(path).what
    path.write_text(
        '<!DOCTYPE posts SYSTEM "file:///etc/hostname"><posts></posts>', encoding="utf-8"
    )
    assert "document type" in refused(path).what


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"{HEAD}{POSTS[0]}  <row Id='2' Body='&nbsp;'/></posts>",
            "that XML does not know, after 1",
        ),
        (f"{HEAD}{POSTS[0]}  <row Id='2' <</posts>", "this is not XML (not well-formed"),
        ("<users><row Id='1'/></users>", "holds `users`, not `posts`"),
        (f"{HEAD}<post Id='1'/></posts>", "`post` stands where a row should"),
        (f"{HEAD}<row Id='1' Score='1'/></posts>", "no `PostTypeId`, only Id, Score"),
        (f"{HEAD}<row PostTypeId='1'/></posts>", "no `Id`"),
        (f"{HEAD}<row Id='1e3' PostTypeId='1'/></posts>", "`Id` is '1e3', no whole number"),
        (f"{HEAD}<row Id='1' PostTypeId='2' Score='3'/></posts>", "no `ParentId`"),
        (f"{HEAD}<row Id='{10**30}' PostTypeId='1'/></posts>", "no whole number"),
        ("not XML at all", "this is not XML"),
        ("<?xml version='1.0' encoding='nosuch'?><posts/>", "encoding that its first line names"),
        ("<?xml version='1.0' encoding='shift_jis'?><posts/>", "(multi-byte encodings are not"),
        ("<?xml version='1.0' encoding='idna'?><posts/>", "encoding that its first line names"),
        ("<?xml version='1.0' encoding='utf-16'?><posts/>", "encoding that its first line names"),
    ],
)
def test_what_is_no_dump_is_told_of(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "Posts.xml"
    path.write_text(text, encoding="utf-8")
    error = refused(path)
    assert said in error.what
    assert str(error.where).startswith(f"{path}:")


def test_a_row_without_an_end_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xml_rows, "CHUNK", 100)
    monkeypatch.setattr(xml_rows, "LONGEST", 1000)
    path = write(tmp_path / "Posts.xml", *POSTS)
    assert len(load(spec(path)).comparisons) == 1  # rows across the chunks' borders
    path.write_text(f"{HEAD}<row Id='1' Body='{'x' * 5000}'/></posts>", encoding="utf-8")
    assert "does not end" in refused(path).what


def test_a_packed_dump_and_a_source_without_a_path(tmp_path: Path) -> None:
    packed = tmp_path / "Posts.7z"
    packed.write_bytes(b"7z\xbc\xaf\x27\x1c rest")
    with pytest.raises(DataError, match="7z archive"):
        load(spec(packed))
    with pytest.raises(DataError, match="needs a path"):
        SourceSpec.parse("stackexchange")


def test_rows_come_while_the_file_is_read(tmp_path: Path) -> None:
    """What is whole is given at once, not at the file's end."""
    rows = [
        one
        for n in range(0, 300, 3)
        for one in (asked(n), answer(n + 1, n, 9), answer(n + 2, n, 0))
    ]
    path = write(tmp_path / "Posts.xml", *rows)
    dump = stackexchange.Dump(path)
    counts: dict[str, Counter[str]] = {"skipped": Counter(), "unread": Counter()}
    found = stackexchange.read(path, name="s", **counts, dump=dump)
    assert isinstance(next(found), Conversation)
    assert isinstance(next(found), Comparison)
    assert dump.licences.total() == 3
    assert len(list(found)) == 198
