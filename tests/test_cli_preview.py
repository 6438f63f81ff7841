"""`guildgpt data preview`: what is trained, what is left out, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bases.families import BY_NAME, published_base
from commands import (
    ROWS,
    answered,
    ask,
    conversations,
    data,
    model,
    refused,
    write_rows,
)
from test_wings import guildgpt_without_torch
from transformers import AutoTokenizer

from guildgpt.errors import DataError, ModelError

__all__ = ["data", "model"]


def test_preview_shows_what_is_trained_and_counts_the_rest(data: Path, model: Path) -> None:
    result = ask("data", "preview", f"jsonl:{data}", "--base", model, "-n", "2")
    assert result.exit_code == 0, result.output
    assert "⟦Vienna is the capital of Austria.<|im_end|>⟧" not in result.output
    assert f"⟦{ROWS[0]['completion']}<|im_end|>⟧" in result.output
    assert f"⟦{ROWS[1]['completion']}<|im_end|>⟧" in result.output
    assert ROWS[2]["completion"] not in result.output
    assert "mine.jsonl:1 · " in result.output
    assert f"{len(ROWS)} rows; " in result.output


def test_preview_shows_the_template_of_a_base(data: Path, tmp_path: Path) -> None:
    base = published_base(tmp_path / "base", BY_NAME["gemma-2"])
    result = ask("data", "preview", f"jsonl:{data}", "--base", base, "-n", "1")
    assert result.exit_code == 0, result.output
    assert "the base's chat template has no lasting place for a system text" in result.output
    assert "<bos><start_of_turn>user" in result.output
    assert f"⟦{ROWS[0]['completion']}<end_of_turn>⟧" in result.output


def test_preview_as_json_counts_as_transformers_does(data: Path, model: Path) -> None:
    peer = AutoTokenizer.from_pretrained(model)
    turns = [[message.as_dict() for message in row.messages] for row in conversations()]
    sizes = [len(peer.apply_chat_template(row, return_dict=False)) for row in turns]
    asked = [
        len(peer.apply_chat_template(row[:1], add_generation_prompt=True, return_dict=False))
        for row in turns
    ]
    report = answered("data", "preview", f"jsonl:{data}", "--base", model, "--json")
    row = report[f"jsonl:{data}"]
    assert (row["rows"], row["tokens"], row["longest"]) == (len(ROWS), sum(sizes), max(sizes))
    # The newline after the last end of turn is not trained.
    assert row["trained_tokens"] == sum(sizes) - sum(asked) - len(ROWS)
    assert row["longest_row"] == f"mine.jsonl:{sizes.index(max(sizes)) + 1}"
    assert (row["dropped"], row["comparisons"], row["skipped"]) == (0, 0, {})
    limit = sorted(sizes)[len(sizes) // 2]
    report = answered(
        "data", "preview", f"jsonl:{data}", "--base", model, "--json", "--context", str(limit)
    )
    fits = [size for size in sizes if size - 1 <= limit]
    assert report[f"jsonl:{data}"]["dropped"] == len(sizes) - len(fits)


def test_preview_names_a_column_that_is_not_read(model: Path, tmp_path: Path) -> None:
    row = {"prompt": "Why?", "completion": "So.", "persona": "You are an old sailor."}
    data = write_rows(tmp_path / "mine.jsonl", [row, {**row, "prompt": "How?"}])
    result = ask("data", "preview", f"jsonl:{data}", "--base", model)
    assert result.exit_code == 0, result.output
    assert "mine: the column `persona` has text in 2 rows, and is not read" in result.output
    report = answered("data", "preview", f"jsonl:{data}", "--base", model, "--json")
    assert report[f"jsonl:{data}"]["not_read"] == {"persona": 2}


def test_preview_counts_tasks_and_checks_their_rules(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "tasks.jsonl"
    task = {"prompt": "Add them.", "tests": "assert add(1, 2) == 3"}
    write_rows(data, [task])
    result = ask("data", "preview", f"jsonl:{data}", "--base", model)
    assert "1 task without an answer" in result.output
    report = answered("data", "preview", f"jsonl:{data}", "--base", model, "--json")
    assert report[f"jsonl:{data}"]["tasks"] == 1
    write_rows(data, [task, {"prompt": "Why?", "format": "yaml"}])
    error = refused(DataError, "data", "preview", f"jsonl:{data}", "--base", model)
    assert "no rule 'yaml'" in str(error)
    assert error.where == "tasks.jsonl:2"


def test_preview_needs_the_core_alone_and_counts_the_same(data: Path, starter_base: Path) -> None:
    """With the starter's tokenizer, which llama.cpp then applies."""
    arguments = ("data", "preview", f"jsonl:{data}", "starter", "--json")
    done = guildgpt_without_torch(*arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == answered(*arguments)


def test_preview_takes_several_sources(data: Path, model: Path, tmp_path: Path) -> None:
    pairs = [{"prompt": "Why?", "chosen": "So.", "rejected": "Or."}]
    other = write_rows(tmp_path / "pairs.jsonl", pairs)
    report = answered(
        "data", "preview", f"jsonl:{data}", f"jsonl:{other}", "starter", "--base", model, "--json"
    )
    assert list(report) == [f"jsonl:{data}", f"jsonl:{other}", "starter"]
    assert (report[f"jsonl:{other}"]["rows"], report[f"jsonl:{other}"]["comparisons"]) == (0, 1)
    assert report["starter"]["rows"] >= 240
    assert report["starter"]["licence"] == "CC0-1.0"
    text = ask("data", "preview", f"jsonl:{other}", "--base", model).output
    assert "1 comparison\n" in text
    assert "0 rows" not in text


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "no assistant turn"),
        ({"messages": []}, "empty conversation"),
    ],
)
def test_preview_refuses_a_row_that_trains_nothing(
    tmp_path: Path, model: Path, row: dict[str, Any], reason: str
) -> None:
    path = write_rows(tmp_path / "mine.jsonl", [*ROWS, row, row])
    error = refused(DataError, "data", "preview", f"jsonl:{path}", "--base", model)
    assert error.where == f"{path}:{len(ROWS) + 1}"
    assert error.what == f"nothing in this row is trained ({reason})"
    assert error.remedy == "Mend or delete it; there are 2 such rows."


CONSTRAINED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "Say a.", "completion": "One, two."}, "the row's own answer breaks"),
    ({"prompt": "Say a.", "chosen": "One, two.", "rejected": "No."}, "the row's own answer breaks"),
    ({"prompt": "Say a.", "chosen": "So.", "rejected": "No.", "more": True}, "'nosuch'"),
    ({"prompt": "Say a.", "more": True}, "'nosuch'"),
]


@pytest.mark.parametrize(("row", "reason"), CONSTRAINED)
def test_preview_refuses_constraints_that_are_broken_or_unknown(
    tmp_path: Path, model: Path, row: dict[str, Any], reason: str
) -> None:
    asked = [{"kind": "no_commas"}, *([{"kind": "nosuch"}] if "more" in row else [])]
    own = {key: value for key, value in row.items() if key != "more"}
    path = write_rows(tmp_path / "mine.jsonl", [*ROWS, {**own, "constraints": asked}])
    error = refused(DataError, "data", "preview", f"jsonl:{path}", "--base", model)
    assert error.where == f"{path.name}:{len(ROWS) + 1}"
    assert reason in error.what


def test_preview_counts_what_else_is_left_out_and_says_where(tmp_path: Path, model: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl", [*ROWS, {"prompt": "Why?", "completion": " "}])
    result = ask("data", "preview", f"jsonl:{path}", "--base", model)
    assert f"left out, empty answer: 1 (first: {path}:{len(ROWS) + 1})" in result.output


def test_preview_refuses_a_broken_line_by_number(tmp_path: Path, model: Path) -> None:
    path = write_rows(tmp_path / "mine.jsonl", [ROWS[0], '{"prompt": "a", "compl'])
    error = refused(DataError, "data", "preview", f"jsonl:{path}", "--base", model)
    assert error.where == f"{path}:2"
    assert error.what.startswith("this line is not JSON")


@pytest.mark.parametrize(
    ("rows", "remedy"),
    [([], "The file is empty."), ([{"prompt": "a", "completion": ""}], "(empty answer: 1)")],
)
def test_preview_of_nothing_is_an_error(
    tmp_path: Path, model: Path, rows: list[Any], remedy: str
) -> None:
    path = write_rows(tmp_path / "none.jsonl", rows)
    error = refused(DataError, "data", "preview", f"jsonl:{path}", "--base", model)
    assert error.what == "there is no row to train on"
    assert remedy in (error.remedy or "")


def test_preview_shows_forged_markup_and_tokens_as_text(tmp_path: Path, model: Path) -> None:
    forged = "[red]no[/red] :100: [/] <|im_end|> \x1b[31m"
    name = "[bold]:1:.jsonl"
    write_rows(tmp_path / name, [{"prompt": forged, "completion": f"{forged} it is"}])
    result = ask("data", "preview", f"jsonl:{tmp_path / name}", "--base", model)
    assert result.exit_code == 0, result.exception
    shown = forged.replace("\x1b", "␛")
    assert f"user\n{shown}<|im_end|>" in result.output
    assert f"⟦{shown} it is<|im_end|>⟧" in result.output
    assert f"({name}:1)" in result.output
    assert "\x1b" not in result.output


def test_preview_names_what_it_can_take_a_tokenizer_from(data: Path) -> None:
    error = refused(ModelError, "data", "preview", f"jsonl:{data}", "--base", "nope")
    assert str(error).startswith("there is no base `nope`")
    assert "scratch" not in (error.remedy or "")
