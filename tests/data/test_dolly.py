from __future__ import annotations

from collections import Counter

import pytest

from guildgpt.chat import Message, Source
from guildgpt.data import dolly
from guildgpt.errors import DataError

ROW = {"instruction": "Why?", "context": "", "response": "Because.", "category": "open_qa"}


def test_context_goes_below_the_instruction(write_lines) -> None:
    path = write_lines("d.jsonl", [ROW, {**ROW, "context": "  A passage.\r\nTwo lines. "}])
    plain, with_context = dolly.read(path, name="dolly", skipped=Counter())
    assert plain.messages == (Message("user", "Why?"), Message("assistant", "Because."))
    assert with_context.messages[0].content == "Why?\n\nA passage.\nTwo lines."
    assert with_context.source == Source("dolly", "d.jsonl", 2)


def test_rows_without_text_are_counted(write_lines) -> None:
    rows = [{**ROW, "response": " \n"}, {**ROW, "instruction": ""}, {**ROW, "response": None}, ROW]
    skipped: Counter[str] = Counter()
    assert len(list(dolly.read(write_lines("d.jsonl", rows), name="d", skipped=skipped))) == 1
    assert skipped == {"empty answer": 2, "empty prompt": 1}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"instruction": "Why?", "output": "So."}, "no `response`"),
        ({"prompt": "Why?"}, "no `instruction` and no `response`"),
        ({**ROW, "context": ["a"]}, "`context` is a list"),
        ({**ROW, "response": 7}, "`response` is a number"),
    ],
)
def test_a_row_of_another_kind_is_named(write_lines, row, said: str) -> None:
    path = write_lines("d.jsonl", [ROW, row])
    with pytest.raises(DataError) as caught:
        list(dolly.read(path, name="dolly", skipped=Counter()))
    assert caught.value.where == f"{path}:2"
    assert said in str(caught.value)
    assert caught.value.remedy


def test_the_real_file(shared_data) -> None:
    skipped: Counter[str] = Counter()
    rows = list(dolly.read(shared_data("dolly-dev.jsonl"), name="dolly", skipped=skipped))
    assert len(rows) + skipped.total() == 11_920
    assert len(rows) >= 11_900
    assert sum("\n\n" in row.messages[0].content for row in rows) >= 11_920 - 8_281


@pytest.mark.parametrize("column", ["history", "system", "input", "output"])
def test_text_that_dolly_has_no_place_for_is_refused(write_lines, column: str) -> None:
    row = {"instruction": "Why?", "context": "", "response": "So.", "category": "open_qa"}
    path = write_lines("d.jsonl", [{**row, column: ["Hi", "Hello"]}])
    with pytest.raises(DataError, match=f"`{column}` holds text") as caught:
        list(dolly.read(path, name="dolly", skipped=Counter()))
    assert caught.value.where == f"{path}:1"
    path = write_lines("d.jsonl", [{**row, column: None, "topic": "How it all began here"}])
    assert len(list(dolly.read(path, name="dolly", skipped=Counter()))) == 1
