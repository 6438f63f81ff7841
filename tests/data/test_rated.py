"""Answers that somebody called good or bad, from rows to token ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guildgpt.chat import CHATML, Comparison, Conversation, FileTokenizer, Message, Rejected, Source
from guildgpt.data import SourceSpec, build, load
from guildgpt.data.examples import rankings
from guildgpt.data.rated import RatedExample, of_rankings, rated_examples, with_others_answers
from guildgpt.data.source import Loaded

SOURCE = Source("hand-made", origin=frozenset({("rating", "r")}))


def said(tokenizer: FileTokenizer, ids: object) -> str:
    return "".join(tokenizer.token_text(int(one)) for one in ids)  # type: ignore[attr-defined]


def talk(*turns: str) -> tuple[Message, ...]:
    roles = ("user", "assistant")
    return tuple(Message(roles[at % 2], text) for at, text in enumerate(turns))  # type: ignore[arg-type]


def rated(
    tokenizer: FileTokenizer, *rows: Conversation | Rejected, context: int = 500
) -> list[RatedExample]:
    return rated_examples(rows, tokenizer, CHATML, context=context)[0]


def loaded(folder: Path, *rows: dict[str, object]) -> Loaded:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load(SourceSpec(source=f"jsonl:{path}"))


def test_a_label_says_what_a_row_is(tmp_path: Path) -> None:
    rows = loaded(
        tmp_path,
        {"prompt": "Why?", "completion": "So.", "label": True},
        {"prompt": "Why?", "completion": "No.", "label": 0},
        {"prompt": "Why?", "completion": "Well."},
    )
    assert [row.rated for row in rows.conversations] == [True, False]
    assert [row.messages[-1].content for row in rows.rejected] == ["No."]
    assert rows.provenance.rows == 3
    dataset = build([rows], held_out=0)
    assert [row.rated for row in sorted(dataset.train, key=lambda row: row.rated)] == [False, True]
    assert len(dataset.train_rejected) == 1  # and nothing imitates it
    assert dataset.report["rows"].train == 3


def test_a_bad_answer_is_held_out_with_the_others_to_its_question(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Question {n}?", "completion": text, "label": text == "Yes."}
        for n in range(40)
        for text in ("Yes.", "No.")
    ]
    dataset = build([loaded(tmp_path, *rows)], held_out=0.3)
    asked = {row.prompt for row in dataset.train}
    assert asked == {row.prompt for row in dataset.train_rejected}
    assert len(dataset.held_out_rejected) == 40 - len(asked) > 0


def test_of_a_rated_talk_the_last_answer_alone_is_predicted(tokenizer: FileTokenizer) -> None:
    turns = talk("hello", "yes", "the", "no")
    good, bad = rated(tokenizer, Conversation(turns, SOURCE, rated=True), Rejected(turns, SOURCE))
    assert (good.good, bad.good) == (True, False)
    for row in (good, bad):
        shown = said(tokenizer, row.example.ids[row.example.mask])
        assert shown == f"no{tokenizer.token_text(CHATML.eos_id(tokenizer))}"
        prompt = CHATML.prompt(turns[:3], tokenizer)
        assert row.example.ids[: row.asked].tolist() == list(prompt)
        assert (row.source, row.origin) == ("hand-made", SOURCE.origin)


def test_what_does_not_fit_is_counted(tokenizer: FileTokenizer) -> None:
    short, long = (Rejected(talk("hi", answer), SOURCE) for answer in ("no", "no " * 200))
    found, counts = rated_examples([short, long], tokenizer, CHATML, context=64)
    assert len(found) == 1
    assert counts == {"rated, and longer than the context": 1}


@pytest.mark.parametrize(
    ("ranks", "verdicts"),
    [
        ((0, 1), {"a": True, "b": False}),
        ((0, 1, 2), {"a": True, "c": False}),  # what stands between says neither
        ((0, 0, 1), {"a": True, "b": True, "c": False}),
    ],
)
def test_comparisons_are_verdicts_too(
    tokenizer: FileTokenizer, ranks: tuple[int, ...], verdicts: dict[str, bool]
) -> None:
    answers = tuple(Message("assistant", text) for text in "abc"[: len(ranks)])
    row = Comparison(talk("hi"), answers, ranks, SOURCE)
    found, _ = rankings([row], tokenizer, CHATML, context=100)
    got = {
        said(tokenizer, one.example.ids[one.example.mask])[0]: one.good
        for one in of_rankings(found)
    }
    assert got == verdicts
    assert {one.origin for one in of_rankings(found)} == {SOURCE.origin}


def test_each_prompt_meets_an_answer_to_another_one(tokenizer: FileTokenizer) -> None:
    asked = [("one", "a"), ("one", "b"), ("two", "c"), ("three", "d")]
    rows = rated(tokenizer, *(Rejected(talk(*turns), SOURCE) for turns in asked))

    def pairs(chosen: list[RatedExample]) -> list[tuple[str, str]]:
        found = []
        for row, pair in zip(chosen, with_others_answers(chosen, rows), strict=True):
            assert pair.ids[: row.asked].tolist() == row.example.ids[: row.asked].tolist()
            prompt = said(tokenizer, pair.ids[: row.asked]).split("user")[1]
            answer = said(tokenizer, pair.ids[pair.mask])
            found.append((next(w for w, _ in asked if w in prompt), answer[0]))
        return found

    assert pairs(rows) == [("one", "c"), ("one", "c"), ("two", "d"), ("three", "a")]
    assert pairs(rows[:2]) == [("one", "c"), ("one", "c")]  # of the rows that are not in the step
    assert pairs(rows[2:3]) == [("two", "a")]
    assert max(map(len, with_others_answers(rows, rows))) <= max(map(len, rows))


def test_one_prompt_alone_meets_its_other_answers(tokenizer: FileTokenizer) -> None:
    rows = rated(tokenizer, *(Rejected(talk("one", text), SOURCE) for text in "ab"))
    answers = [said(tokenizer, one.ids[one.mask])[0] for one in with_others_answers(rows, rows)]
    assert answers == ["b", "a"]
