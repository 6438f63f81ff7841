"""`guildgpt eval`, beside what transformers says."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from commands import (
    CONTEXT,
    ROWS,
    answered,
    ask,
    conversations,
    data,
    model,
    refused,
    write_rows,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from guildgpt.chat import Conversation
from guildgpt.data import Provenance, split_side
from guildgpt.errors import DataError, GuildError, ModelError
from guildgpt.hashes import file_sha256
from guildgpt.network.hardware import pick_dtype
from guildgpt.network.world import World

__all__ = ["data", "model"]


def by_hand(model: Path, rows: list[Conversation]) -> tuple[float, float]:
    """Bits per byte and perplexity of the answers with transformers' own logits."""
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    nats, tokens, size = 0.0, 0, 0
    for row in rows:
        turns = [message.as_dict() for message in row.messages]
        asked = tokenizer.apply_chat_template(
            turns[:1], add_generation_prompt=True, return_dict=False
        )
        ids = tokenizer.apply_chat_template(turns, return_dict=False)
        assert ids[: len(asked)] == asked
        with torch.no_grad():
            logits = network(torch.tensor([ids])).logits[0].double()
        # The last token is the newline after the end of turn.
        for place in range(len(asked), len(ids) - 1):
            nats -= float(logits[place - 1].log_softmax(-1)[ids[place]])
            tokens += 1
        size += len(row.messages[-1].content.encode())
    return nats / math.log(2) / size, math.exp(nats / tokens)


def tolerance() -> float:
    dtype = pick_dtype("auto", World().device)
    return 1e-4 if dtype == torch.float32 else 3e-2


def test_eval_measures_what_transformers_would(data: Path, model: Path) -> None:
    bits, perplexity = by_hand(model, conversations())
    assert perplexity > 50  # a model that knows nothing, and is not uniform
    report = answered("eval", model, "--data", f"jsonl:{data}", "--json")
    row = report["sources"]["mine"]
    assert (row["rows"], row["note"]) == (len(ROWS), "")
    assert row["bits_per_byte"] == pytest.approx(bits, rel=tolerance())
    assert math.log(row["perplexity"]) == pytest.approx(math.log(perplexity), rel=tolerance())
    assert row["bytes"] == sum(len(one["completion"].encode()) for one in ROWS)
    limited = answered("eval", model, "--data", f"jsonl:{data}", "--json", "--limit", "3")
    few, _ = by_hand(model, conversations()[:3])
    assert limited["sources"]["mine"]["bits_per_byte"] == pytest.approx(few, rel=tolerance())


@pytest.mark.parametrize("said", ["each", "older"])
def test_eval_measures_a_trained_source_on_held_out_rows_only(
    data: Path, model: Path, tmp_path: Path, said: str
) -> None:
    trained = tmp_path / "trained"
    trained.mkdir()
    for file in model.iterdir():
        (trained / file.name).write_bytes(file.read_bytes())
    source = Provenance("mine", licence="own", sha256=file_sha256(data), written_by="people")
    ours = {**asdict(source), "held_out": 0.5}
    older = {key: value for key, value in ours.items() if key != "held_out"}
    sources, share = {  # a record of each source's own share, and one without
        "each": ([{**ours, "held_out": 0.9}, ours], 0.9),
        "older": ([older], 0.5),
    }[said]
    record = {"sources": sources, "recipe": {"data": {"held_out": share}}}
    (trained / "provenance.json").write_text(json.dumps(record))
    held_out = [row for row in conversations() if split_side(row, 0.5) == "held_out"]
    assert 0 < len(held_out) < len(ROWS)
    report = answered("eval", trained, "--data", f"jsonl:{data}", "--json")
    row = report["sources"]["mine"]
    assert row["rows"] == len(held_out)
    assert row["note"].startswith("held-out rows only")
    bits, _ = by_hand(model, held_out)
    assert row["bits_per_byte"] == pytest.approx(bits, rel=tolerance())
    # Any other file is measured whole.
    other = write_rows(tmp_path / "other.jsonl", ROWS[:5])
    report = answered("eval", trained, "--data", f"jsonl:{other}", "--json")
    assert report["sources"]["other"]["rows"] == 5


def test_eval_says_what_of_a_source_it_does_not_measure(model: Path, tmp_path: Path) -> None:
    """Comparisons and tasks beside the rows, columns that are not read, a guessed encoding."""
    more = [
        {"prompt": "Why?", "chosen": "So.", "rejected": "Dunno."},
        {"prompt": "Write it.", "tests": "assert f()", "mood": "größer und schöner, weiß ich"},
    ]
    rows = [json.dumps(row, ensure_ascii=False) for row in (*ROWS, *more)]
    path = tmp_path / "mixed.jsonl"
    path.write_bytes("\n".join(rows).encode("cp1252"))
    report = answered("eval", model, "--data", path, "--json")
    row = report["sources"]["mixed"]
    assert row["rows"] == len(ROWS)
    assert row["note"] == (
        "not measured: 1 comparison, which a reward model orders and 1 task without an answer"
    )
    printed = ask("eval", model, "--data", path).output
    assert "mixed.jsonl: it is not UTF-8, and read as Windows-1252" in printed
    assert "the column `mood` has text in 1 row" in printed


def test_sources_follow_one_data_or_have_each_their_own(
    data: Path, model: Path, tmp_path: Path
) -> None:
    other = write_rows(tmp_path / "other.jsonl", ROWS[:4])
    one, two = f"jsonl:{data}", f"jsonl:{other}"
    together = answered("eval", model, "--data", one, two, "--json")
    assert together == answered("eval", model, "--data", one, "--data", two, "--json")
    assert {name: row["rows"] for name, row in together["sources"].items()} == {
        "mine": len(ROWS),
        "other": 4,
    }


def test_eval_shows_a_table(data: Path, model: Path) -> None:
    result = ask("eval", model, "--data", f"jsonl:{data}")
    assert result.exit_code == 0
    for heading in ("source", "rows", "bits/byte", "perplexity"):
        assert heading in result.output


def test_a_context_beyond_the_models_is_told_in_the_commands_words(data: Path, model: Path) -> None:
    error = refused(ModelError, "eval", model, "--data", f"jsonl:{data}", "--context", "1000")
    assert error.where == "--context"
    assert f"holds {CONTEXT} tokens, and --context asks for 1000" in error.what
    assert error.remedy == f"Set it to {CONTEXT} or less."


def test_eval_of_what_is_not_there(data: Path, model: Path, tmp_path: Path) -> None:
    error = refused(ModelError, "eval", tmp_path / "nope", "--data", f"jsonl:{data}")
    assert error.what.startswith("there is no base")
    assert error.where is None
    error = refused(DataError, "eval", model, "--data", "wiki:x")
    assert error.what == "`wiki` is no known kind of source"
    error = refused(GuildError, "eval", model)
    assert (error.what, error.remedy) == (
        "there is nothing to measure",
        "Give --data SOURCE, --samples, --constraints N, --code TASKS or --harness TASK.",
    )
    assert refused(ModelError, "eval", tmp_path, "--data", f"jsonl:{data}").where == str(tmp_path)
