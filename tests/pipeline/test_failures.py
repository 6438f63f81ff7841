"""What stops a run is said in words, with what is kept of the training and what helps."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import process
from safetensors.torch import load_file, save_file
from tiny import PLACES, write_rows

from guildgpt.errors import DataError, GuildError, ModelError, RecipeError
from guildgpt.model.locate import locate
from guildgpt.pipeline.failures import ERROR_TXT
from guildgpt.pipeline.folder import checkpoints, read_record
from guildgpt.pipeline.stages import STAGES

from .road import Road, alone, train

# Weight decay of a thousand times the weights: after some steps they are beyond all numbers.
RUNAWAY = [
    *("sft.learning_rate=10", "sft.weight_decay=100", "sft.warmup=0", 'sft.adapter="none"'),
    *("sft.steps=20", "sft.keep_checkpoints=20"),
]
MEASURED = ["sft.learning_rate=0.001", *RUNAWAY[1:]]


@pytest.fixture
def recipe(road: Road, tmp_path: Path) -> Path:
    """Fine-tuning again, of what the road's left."""
    return alone(road, tmp_path, "sft")


def refused(recipe: Path, folder: Path, *overrides: str) -> GuildError:
    with pytest.raises(GuildError) as raised:
        train(recipe, folder, overrides=overrides)
    return raised.value


def test_a_loss_that_is_no_number_says_what_to_change_and_where_it_goes_on(
    recipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    error = refused(recipe, folder, *RUNAWAY)
    assert re.search(r"the loss is .* at step \d+", error.what)
    step = int(error.what.rpartition(" ")[2])
    assert step > 1
    assert checkpoints(folder / "sft")[-1] == step - 1
    assert error.remedy
    assert "--set sft.learning_rate=2 " in error.remedy
    assert f"goes on from step {step - 1}" in error.remedy
    # The learning rate may change now, and nothing else.
    assert "`sft.batch_size`" in refused(recipe, folder, *MEASURED, "sft.batch_size=5").what
    for spoiled in checkpoints(folder / "sft")[1:]:
        shutil.rmtree(folder / "sft" / "checkpoints" / f"step-{spoiled:07d}")
    report, _ = train(recipe, folder, overrides=MEASURED)
    assert report.stages[0].outcome.resumed_from == 1
    assert report.stages[0].outcome.steps == 20
    # Once it is past that, the recipe is the run's again.
    assert "`sft.learning_rate`" in refused(recipe, folder, *RUNAWAY).what


def test_a_checkpoint_that_is_spoiled_is_told_of(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    refused(recipe, folder, *RUNAWAY)
    again = refused(recipe, folder, *RUNAWAY)
    assert again.remedy
    assert "spoiled already" in again.remedy
    assert f"--reuse {folder}" in again.remedy
    assert read_record(folder / "sft" / "stopped.json")["from"] == checkpoints(folder / "sft")[-1]


def test_a_first_step_without_numbers_wants_another_precision_or_base(
    recipe: Path, road: Road, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(road.folder / "sft" / "model", base)
    weights = load_file(base / "model.safetensors")
    huge = {name: tensor * 1e30 for name, tensor in weights.items()}
    save_file(huge, base / "model.safetensors", metadata={"format": "pt"})
    error = refused(recipe, tmp_path / "run", f"model.base={base}")
    assert "at step 1" in error.what
    assert "name another base" in str(error.remedy)
    error = refused(recipe, tmp_path / "other", f"model.base={base}", "sft.dtype=bfloat16")
    assert "--set sft.dtype=float32" in str(error.remedy)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_no_numbers_are_named_before_anything_is_trained(
    recipe: Path, road: Road, tmp_path: Path, value: float
) -> None:
    base = tmp_path / "base"
    shutil.copytree(road.folder / "sft" / "model", base)
    weights = load_file(base / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    error = refused(recipe, tmp_path / "run", f"model.base={base}")
    assert isinstance(error, ModelError)
    assert "(in model.layers.1.mlp.up_proj.weight)" in error.what
    assert not (tmp_path / "run" / "sft" / "before.json").exists()


def breaks(*_: Any) -> Any:
    raise KeyError("lm_head.weight")


def test_what_a_library_raises_is_told_with_its_package_and_kept_whole(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STAGES, "sft", replace(STAGES["sft"], train=breaks))
    error = refused(recipe, tmp_path / "run")
    assert error.what == "`sft` stopped: 'lm_head.weight' (KeyError, in pipeline)"
    assert "Nothing was trained yet." in str(error.remedy)
    assert str(tmp_path / "run" / ERROR_TXT) in str(error.remedy)
    assert "in breaks" in (tmp_path / "run" / ERROR_TXT).read_text()


def test_what_is_kept_is_told(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    real = STAGES["sft"].train

    def trained_and_broken(*arguments: Any) -> Any:
        real(*arguments)
        raise TypeError("odd")

    with monkeypatch.context() as patched:
        patched.setitem(STAGES, "sft", replace(STAGES["sft"], train=trained_and_broken))
        error = refused(recipe, folder)
    assert "Nothing before step 2 is lost" in str(error.remedy)
    report, _ = train(recipe, folder)
    assert report.stages[0].outcome.resumed_from == 2


def test_a_report_that_cannot_be_written_costs_no_model(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "report.html").mkdir(parents=True)
    report, printed = train(recipe, folder)
    assert report.stages
    assert "the report of `sft` could not be written" in printed
    assert locate(str(folder / "sft" / "model")).folder
    (folder / "report.html").rmdir()
    _, printed = train(recipe, folder)
    assert "sft is finished already" in printed
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("name", ["data.json", "recipe.json", "sft/inputs.json", "sft/before.json"])
def test_a_folder_in_the_place_of_a_file_is_named(recipe: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    (folder / name).mkdir(parents=True)
    error = refused(recipe, folder)
    assert "directory" in error.what
    assert error.where == str(folder / name)
    (folder / name).rmdir()
    train(recipe, folder)


@pytest.mark.parametrize("name", ["phases.json", "data.json", "sft/inputs.json", "recipe.json"])
@pytest.mark.parametrize("text", ["[1]", "3", '{"a": ', '{"read the data": "x", "rows": 3}'])
def test_notes_of_a_run_that_hold_something_else_are_made_anew(
    recipe: Path, tmp_path: Path, name: str, text: str
) -> None:
    file = tmp_path / "run" / name
    file.parent.mkdir(parents=True)
    file.write_text(text)
    train(recipe, tmp_path / "run", stages=["sft"])
    assert isinstance(json.loads(file.read_text()), dict)


ODD = [
    "new\nline",
    'it\'s "so"',
    "<script>alert(1)<",
    "[red]x[",
    "🎉 é",
    "-rf",
    "x" * 200,
    "\x1b[31m",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_all_the_way_to_the_report(road: Road, tmp_path: Path, name: str) -> None:
    """Of the base, the file of rows and the run's folder."""
    recipe = alone(road, tmp_path, "sft")
    shutil.copytree(road.folder / "sft" / "model", tmp_path / name / "base")
    write_rows(tmp_path / name / "rows.jsonl", houses=2)
    place = json.dumps(str(tmp_path / name), ensure_ascii=False).replace("\x1b", "\\u001b")
    text = recipe.read_text()
    text = re.sub("^base = .*", lambda _: f'base = {place[:-1]}/base"', text, flags=re.M)
    own = 'licence = "own", written_by = "people"'
    sources = f'sources = [{{source = "file:{place[1:-1]}/rows.jsonl", {own}}}]\n'
    start, end = text.index("sources = ["), text.index("held_out")
    recipe.write_text(text[:start] + sources + text[end:])
    overrides = ['export.gguf=["Q8_0"]']
    report, _ = train(recipe, tmp_path / name / "run", overrides=overrides)
    assert report.samples_after
    page = (tmp_path / name / "run" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "\x1b" not in page


def test_a_file_whose_name_is_no_text_is_read_and_named(road: Road, tmp_path: Path) -> None:
    """It was trained on, and the model could not be written."""
    recipe = alone(road, tmp_path, "sft")
    folder = tmp_path / "rows"
    folder.mkdir()
    try:
        write_rows(folder / "gr\udcfc.jsonl", houses=2)
    except OSError:
        pytest.skip("this disk takes only names in UTF-8")
    source = f'{{source = "{folder}", licence = "own", written_by = "people"}}'
    report, _ = train(recipe, tmp_path / "run", overrides=[f"data.sources=[{source}]"])
    assert report.sources[0][0].origin == "rows/gr\\udcfc.jsonl"


@pytest.mark.parametrize(
    ("rows", "stages", "said", "remedy"),
    [
        ([], ["sft"], "no row is left to train on: there are none", "Name a source with rows"),
        ([{"prompt": "Why?", "completion": "So."}], ["sft"], "1 held out", "data.held_out = 0"),
        (
            [{"prompt": "Why?", "chosen": "So.", "rejected": "So."}] * 3,
            ["dpo"],
            "3 left out: both answers are the same",
            "guildgpt data preview",
        ),
        (
            [{"prompt": f"Is {place} far?"} for place in PLACES],
            ["sft"],
            "no conversations to fine-tune on, only .* prompts without an answer",
            "prompts alone `ppo` and `grpo`",
        ),
        (
            [{"prompt": "far " * 600 + place, "completion": "So."} for place in PLACES],
            ["sft"],
            r"no row fits into a context of 512 tokens; the shortest has \d",
            "Raise it",
        ),
        (
            [{"prompt": "far " * 600 + p, "chosen": "So.", "rejected": "Or."} for p in PLACES],
            ["dpo"],
            "with a prompt longer than the context",
            "Raise model.context",
        ),
        (
            [{"prompt": "far " * 600 + place} for place in PLACES],
            ["grpo"],
            r"no prompt fits into 256 tokens; the shortest has \d",
            "Raise it, or name sources with shorter prompts",
        ),
    ],
)
def test_rows_that_leave_nothing_to_learn_say_what_became_of_them(
    road: Road, tmp_path: Path, rows: list[Any], stages: list[str], said: str, remedy: str
) -> None:
    more = "terms.length.weight = 1\n" if stages == ["grpo"] else ""
    recipe = alone(road, tmp_path, stages[0], more)
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f'{{source = "{path}", licence = "own", written_by = "people"}}'
    share = f"data.held_out={0.9 if said == '1 held out' else 0}"
    with pytest.raises((DataError, RecipeError), match=said) as raised:
        train(recipe, tmp_path / "run", overrides=[f"data.sources=[{source}]", share])
    assert remedy in str(raised.value.remedy)


def test_the_command_says_what_nobody_foresaw(tmp_path: Path) -> None:
    """An error of the machine's, before there is a run: its words, and no traceback."""
    done = process("train", "starter", "--dry-run", "--set", f"data.sources=['{'x' * 300}.jsonl']")
    assert done.returncode == 1
    assert "File name too long" in done.stderr
    assert "Traceback" not in done.stderr
