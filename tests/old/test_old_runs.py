"""Run folders, model folders and exports that older code wrote, opened with the code of today."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from guildgpt.cli import app
from guildgpt.errors import GuildError

from .samples import RUN, SAMPLES, finished, here, unpacked

__all__ = ["finished", "here", "unpacked"]


def told(*arguments: str) -> str:
    """What a command prints; it must succeed."""
    result = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def refused(*arguments: str) -> GuildError:
    result = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200", "TERM": "dumb"})
    assert isinstance(result.exception, GuildError), result.output
    return result.exception


def losses(stage: Path) -> list[tuple[int, float]]:
    """Each optimizer step or iteration with its first figure."""
    rows = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    key = "reward" if stage.name in ("grpo", "ppo") else "loss"
    return [(row["step"], row[key]) for row in rows if key in row]


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the lock, which says who is at work."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".lock")
    }


@pytest.mark.parametrize("stage", ["pretrain", "sft", "reward", "dpo", "grpo", "ppo"])
def test_a_run_that_was_killed_goes_on(stage: str, unpacked: Path, here: Path) -> None:
    """From its last checkpoint, to the figures that the older code came to, but for rounding: it
    may have run on another machine."""
    shutil.copytree(unpacked / f"killed-in-{stage}", here / RUN)
    before = losses(RUN / stage)
    printed = told("train", "tiny.toml", "--stage", stage)
    assert "going on from step" in printed
    after = losses(RUN / stage)
    assert after[: len(before)] == before
    assert before
    expected = losses(unpacked / "finished" / stage)
    assert [step for step, _ in after] == [step for step, _ in expected]
    assert [loss for _, loss in after] == pytest.approx([loss for _, loss in expected], rel=1e-3)
    assert (RUN / stage / "model" / "model.safetensors").is_file()


def test_a_run_that_was_over_is_over(finished: Path) -> None:
    """The report is shown again, and no stage is trained or measured again."""
    before = content(finished)
    assert "wins under the judge" in told("train", "tiny.toml")
    after = content(finished)
    # Written anew in today's form; of the recipe the keys go that nothing ever read.
    pages = ("report.html", "report.json", "phases.json", "README.md", "recipe.json")
    assert {name for name in before if not name.endswith(pages)} == {
        name for name in after if not name.endswith(pages)
    }
    for name, bytes_ in before.items():
        if not name.endswith(pages):
            assert after[name] == bytes_, name


def test_a_finished_run_answers_with_its_report(finished: Path) -> None:
    report: dict[str, Any] = json.loads(told("train", "tiny.toml", "--json"))
    kept = json.loads((finished / "ppo" / "model" / "report.json").read_text())
    assert report.keys() == kept.keys()
    assert {key for key in kept if report[key] != kept[key]} <= {"created", "phases"}


def test_a_model_is_talked_to(finished: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "guildgpt", "chat", RUN / "ppo" / "model", "--max-tokens", "4"],
        input="Where is the bell of house 1?\n",
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_is_measured_and_compared(finished: Path) -> None:
    model, judge = str(RUN / "sft" / "model"), str(RUN / "judge" / "model")
    figures = json.loads(told("eval", model, "--data", "jsonl:rows.jsonl", "--json"))
    kept = json.loads((finished / "sft" / "after.json").read_text())
    bits = kept["bits"]["rows"]
    assert figures["sources"]["rows"]["bits_per_byte"] == pytest.approx(
        bits["nats"] / math.log(2) / bits["bytes"], rel=1e-3
    )
    told("eval", str(RUN / "reward" / "model"), "--comparisons", "jsonl:pairs.jsonl", "--json")
    compared = json.loads(
        told(
            "compare", model, str(RUN / "ppo" / "model"), "--judge", judge, "--limit", "2", "--json"
        )
    )
    assert compared


def test_a_model_is_exported_and_trained_on(finished: Path, here: Path) -> None:
    model = RUN / "sft" / "model"
    told("export", str(model), "--gguf", "F16")
    assert (model / "model-F16.gguf").is_file()
    recipe = here / "more.toml"
    recipe.write_text(
        f'name = "more"\nmodel.base = "{model}"\nmodel.context = 512\n'
        'data.sources = [{ source = "jsonl:rows.jsonl", licence = "own", written_by = "people" }]\n'
        'sft = { steps = 2, dtype = "float32" }\nevaluate = { prompts = 0, max_tokens = 4 }\n'
    )
    told("train", str(recipe))
    assert (here / "runs" / "more" / "sft" / "model" / "provenance.json").is_file()


@pytest.mark.parametrize(
    ("source", "stage", "kinds"),
    [
        ("jsonl:sft.jsonl", "sft", {"message", "rating"}),
        ("jsonl:kto.jsonl", "sft", {"message", "rating"}),
        ("oasst:oasst.jsonl", "sft", {"message", "vote", "rating", "comparison"}),
        ("jsonl:preference.jsonl", "reward", {"message", "vote", "comparison"}),
        ("jsonl:margin.jsonl.gz", "reward", {"message", "vote", "comparison"}),
    ],
)
def test_an_export_is_trained_on(
    source: str, stage: str, kinds: set[str], finished: Path, here: Path
) -> None:
    """And the model folder says what it learned from."""
    form, _, name = source.partition(":")
    trees = "keep_synthetic = true, keep_unreviewed = true, " if form == "oasst" else ""
    recipe = here / "votes.toml"
    recipe.write_text(
        f'name = "votes"\npolicy = "open"\nstages = ["{stage}"]\n'
        f'model.base = "{RUN / "sft" / "model"}"\nmodel.context = 512\n'
        f'data.sources = [{{ source = "{form}:{SAMPLES / "exports" / name}", {trees}'
        'licence = "own" }]\n'
        f'{stage} = {{ steps = 1, dtype = "float32" }}\n'
        "evaluate = { prompts = 0, max_tokens = 4 }\n"
    )
    told("train", str(recipe))
    lineage = json.loads((here / "runs" / "votes" / stage / "model" / "lineage.json").read_text())
    assert lineage["events"].keys() == kinds


def test_exported_trees_are_imported(here: Path) -> None:
    exported = str(SAMPLES / "exports" / "oasst-members.jsonl")
    assert "messages: 14" in told("feedback", "import", exported, "--store", "sqlite:///other.db")


def numbered(file: Path, format: int) -> None:
    record = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**record, "format": format}))


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("sft/model/template.json", ("chat", str(RUN / "sft" / "model"))),
        ("sft/model/template.json", ("export", str(RUN / "sft" / "model"))),
        (
            "judge/model/template.json",
            ("eval", str(RUN / "judge" / "model"), "--comparisons", "jsonl:pairs.jsonl"),
        ),
        (
            "sft/model/provenance.json",
            ("eval", str(RUN / "sft" / "model"), "--data", "jsonl:rows.jsonl"),
        ),
        (
            "sft/model/lineage.json",
            ("train", "tiny.toml", "--set", f"model.base={RUN / 'sft' / 'model'}", "--out", "more"),
        ),
        ("recipe.json", ("train", "tiny.toml")),
        ("recipe.json", ("train", "tiny.toml", "--set", "sft.steps=7")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_a_newer_guildgpt_wrote_is_left_alone(
    finished: Path, file: str, command: tuple[str, ...]
) -> None:
    numbered(finished / file, 2)
    before = content(finished)
    error = refused(*command)
    assert error.what == "a newer GuildGPT wrote this file (format 2, known here: 1)"
    assert error.where
    assert error.where.endswith(file.rpartition("/")[2])
    assert content(finished) == before
