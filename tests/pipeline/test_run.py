"""Whole runs: from nothing but text, and where they must stop."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from rich.console import Console
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
)

from guildgpt.bases.base import load_base
from guildgpt.bases.config import BaseConfig
from guildgpt.chat import FileTokenizer
from guildgpt.errors import DataError, GuildError, PolicyError, RecipeError
from guildgpt.model import folder as model_folder
from guildgpt.model.provenance import trained_on
from guildgpt.pipeline import run as pipeline
from guildgpt.pipeline.inputs import starts_from
from guildgpt.pipeline.plan import dry_run as plan_of
from guildgpt.pipeline.stage import StageRun
from guildgpt.pipeline.stages import STAGES
from guildgpt.recipe import Recipe, load_recipe
from guildgpt.report.report import read_report
from guildgpt.train import loop

from .runs import QUESTION, SHARED, TUNE, greedy_llama, greedy_torch, hashes, prompt_ids, train

# --- from nothing but text ----------------------------------------------------------------------


class Scratch:
    """A finished run from scratch: tokenizer, pretraining, fine-tuning."""

    def __init__(self, root: Path):
        self.root = root
        self.recipe = tiny.write_run(root)
        self.folder = root / "run"
        self.report, self.printed = train(self.recipe, self.folder)

    def copy(self, to: Path, *, without: str) -> Path:
        shutil.copytree(self.folder, to)
        shutil.rmtree(to / without)
        return to


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    return Scratch(tmp_path_factory.mktemp("scratch"))


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_a_stage_leaves_a_whole_model_folder(scratch: Scratch, stage: str) -> None:
    folder = scratch.folder / stage / "model"
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "metrics.jsonl",
        "model-Q8_0.gguf",
        "model.safetensors",
        "lineage.json",
        "provenance.json",
        "report.html",
        "report.json",
        "template.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    left = {path.name for path in (scratch.folder / stage).iterdir()}
    assert left == {
        "after.json",
        "before.json",
        "done.json",
        "inputs.json",
        "metrics.jsonl",
        "model",
    }
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION[0].content}],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert list(text) == prompt_ids(folder)


def test_it_answers_through_llama_cpp_as_in_transformers(scratch: Scratch) -> None:
    folder = scratch.folder / "sft" / "model"
    ids = prompt_ids(folder)
    answered = greedy_llama(folder / "model-Q8_0.gguf", ids, 12)
    text = FileTokenizer(folder / "tokenizer.json").decode(list(answered))
    assert text.startswith("The")  # as every answer it has seen
    assert answered[:2] == greedy_torch(folder, ids, 12)[:2]


def test_held_out_bits_fall_in_both_stages(scratch: Scratch) -> None:
    for stage, source in (("pretrain", "documents"), ("sft", "rows")):
        report = read_report(scratch.folder / stage / "model")
        (held_out,) = report.held_out
        assert held_out.source == source
        assert held_out.rows > 0
        assert held_out.bits_after < 0.9 * held_out.bits_before  # type: ignore[operator]
    assert read_report(scratch.folder / "sft" / "model") == scratch.report


def test_the_report_is_of_its_stage_and_shows_the_curves_of_all(scratch: Scratch) -> None:
    report = scratch.report
    assert report.title == "tiny: before and after sft"
    assert [(stage.name, stage.outcome.steps) for stage in report.stages] == [
        ("pretrain", 24),
        ("sft", 24),
    ]
    assert all(len(stage.metrics) == 24 for stage in report.stages)
    steps = [(e.step, e.source) for e in report.stages[0].evaluations]
    assert steps == [(0, "documents"), (12, "documents"), (24, "documents")]
    assert [source.name for source, _ in report.sources] == ["rows"]
    assert report.base is not None
    assert report.base.name == "scratch"
    assert [phase.name for phase in report.phases] == [
        "read the data",
        *(
            f"{stage}: {part}"
            for stage in ("pretrain", "sft")
            for part in ("load", "measure before", "train", "save", "measure after")
        ),
    ]
    assert len(report.probes) == report.samples_after.answers == 12  # type: ignore[union-attr]
    assert all(probe.before and probe.after for probe in report.probes)
    first = read_report(scratch.folder / "pretrain" / "model")
    assert [stage.name for stage in first.stages] == ["pretrain"]
    assert [source.name for source, _ in first.sources] == ["documents"]

    page = (scratch.folder / "report.html").read_text()
    assert page == (scratch.folder / "sft" / "model" / "report.html").read_text()
    assert "before and after sft" in page


def test_a_model_knows_what_it_has_learned_from_and_nothing_else(scratch: Scratch) -> None:
    learned = {"pretrain": ["scratch", "documents"], "sft": ["scratch", "documents", "rows"]}
    for stage, names in learned.items():
        record = json.loads((scratch.folder / stage / "model" / "provenance.json").read_text())
        assert [item["name"] for item in record["sources"]] == names
        assert {item["licence"] for item in record["sources"]} == {"own"}
        assert {item["written_by"] for item in record["sources"]} == {"people"}
    assert scratch.report.policy == "strict"
    assert scratch.report.warnings == ()
    card = (scratch.folder / "sft" / "model" / "README.md").read_text()
    assert card.count("Held-out bits per byte fell") == 1


def test_a_finished_run_does_nothing_more(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise AssertionError("it is all done")

    monkeypatch.setattr(pipeline, "load_base", nothing)
    monkeypatch.setattr(pipeline, "gather", nothing)
    before = hashes(scratch.folder)
    report, printed = train(scratch.recipe, scratch.folder)
    assert report == scratch.report
    assert hashes(scratch.folder) == before
    assert "tiny: sft is finished already" in printed


def test_the_price_may_be_told_afterwards(scratch: Scratch, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(scratch.folder, folder)
    report, _ = train(scratch.recipe, folder, ["price_per_hour=3600.0"])
    assert report.cost == pytest.approx(sum(phase.seconds for phase in scratch.report.phases))
    assert read_report(folder / "sft" / "model").price_per_hour == 3600.0


def test_a_stage_alone_needs_the_one_before(scratch: Scratch, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="`sft` starts from what `pretrain` leaves: not there"):
        train(scratch.recipe, tmp_path / "run", stages=["sft"])
    with pytest.raises(RecipeError, match="no stage `reward`") as raised:
        train(scratch.recipe, tmp_path / "run", stages=["pretrain", "reward"])
    assert raised.value.remedy == "It has pretrain, sft."
    assert not (tmp_path / "run" / "pretrain").exists()  # nothing was begun


def test_data_that_is_missing_leaves_what_is_computed(scratch: Scratch, tmp_path: Path) -> None:
    """Then one stage is run alone, once its rows are back; it needs no more documents."""
    folder = scratch.copy(tmp_path / "run", without="sft")
    computed = hashes(folder / "pretrain")
    rows, documents, away = (scratch.root / name for name in ("rows.jsonl", "documents", "away"))
    documents.rename(away)
    try:
        rows.unlink()
        with pytest.raises(DataError, match=r"rows\.jsonl"):
            train(scratch.recipe, folder)
        rows.write_text("{broken\n")
        with pytest.raises(DataError, match=r"rows\.jsonl:1"):
            train(scratch.recipe, folder)
        assert hashes(folder / "pretrain") == computed
        assert not (folder / "sft").exists()
        tiny.write_rows(rows)
        report, _ = train(scratch.recipe, folder, stages=["sft"])
    finally:
        tiny.write_rows(rows)
        away.rename(documents)
    assert hashes(folder / "pretrain") == computed
    assert [stage.name for stage in report.stages] == ["pretrain", "sft"]
    weights = "sft/model/model.safetensors"
    assert (folder / weights).read_bytes() == (scratch.folder / weights).read_bytes()


def test_chat_tokens_are_untrained_after_pretraining(scratch: Scratch) -> None:
    """So that adapters train their rows too, which pretraining never saw."""
    base = load_base(BaseConfig(base=str(scratch.folder / "pretrain" / "model"), context=512))
    assert base.chat.new_tokens == []
    recipe = load_recipe(scratch.recipe)
    marked = pipeline.ready(about_to_tune(recipe, scratch.folder), base)
    names = [base.chat.tokenizer.token_id(name) for name in base.chat.template.control_tokens]
    assert marked.chat.new_tokens == names
    alone = load_recipe(scratch.recipe, ['stages=["sft"]', f"model.base={scratch.folder}"])
    assert pipeline.ready(about_to_tune(alone, scratch.folder), base) is base


def about_to_tune(recipe: Recipe, folder: Path) -> StageRun:
    start = starts_from("sft", recipe, folder)
    nothing: Any = None
    return StageRun(
        "sft", STAGES["sft"], recipe, "", folder, start, nothing, nothing, nothing, nothing
    )


def test_what_an_earlier_run_trained_on_is_not_held_out(scratch: Scratch, tmp_path: Path) -> None:
    """A later run over the same rows may hold out more of them: the model has seen those."""
    first = scratch.folder / "sft" / "model"
    overrides = [f"model.base={first}", 'stages=["sft"]', "data.held_out=0.6", "sft.steps=1"]
    train(scratch.recipe, tmp_path / "run", [*overrides, "evaluate.prompts=0"])
    shares = trained_on(tmp_path / "run" / "sft" / "model")
    assert shares == trained_on(first)
    assert set(shares.values()) == {0.2}


def test_a_changed_recipe_is_refused_in_words(scratch: Scratch) -> None:
    with pytest.raises(RecipeError, match=r"`sft\.steps` was 24 and is 25") as raised:
        train(scratch.recipe, scratch.folder, ["sft.steps=25"])
    assert raised.value.where == str(scratch.folder)
    assert "--out" in str(raised.value.remedy)


def test_changed_data_is_refused_in_words(scratch: Scratch, tmp_path: Path) -> None:
    folder = scratch.copy(tmp_path / "run", without="sft")
    rows = scratch.root / "rows.jsonl"
    kept = rows.read_bytes()
    try:
        tiny.write_rows(rows, houses=7)
        with pytest.raises(DataError, match="rows changed since this run began"):
            train(scratch.recipe, folder)
    finally:
        rows.write_bytes(kept)


def test_a_context_too_short_for_some_questions(tmp_path: Path) -> None:
    """The others are asked, before and after alike; pretraining alone needs no conversations."""
    recipe = tiny.write_run(tmp_path)
    overrides = ["model.context=48", "pretrain.steps=2", 'stages=["pretrain"]', "data.sources=[]"]
    report, printed = train(recipe, tmp_path / "run", overrides)
    assert "of the sampled prompts leave no room for an answer" in printed
    assert report.title == "tiny"
    answered = [probe for probe in report.probes if probe.after]
    assert 0 < len(answered) < len(report.probes)
    assert all((probe.before is None) == (probe.after is None) for probe in report.probes)
    assert report.samples_after is not None
    assert [held_out.source for held_out in report.held_out] == ["documents"]
    assert "# model.context = 48" in report.recipe_text


# --- policy -------------------------------------------------------------------------------------


def test_strict_refuses_the_starter_before_it_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise AssertionError("no weights are needed to say no")

    monkeypatch.setattr("guildgpt.bases.locate.starter_gguf", nothing)
    monkeypatch.setattr(pipeline, "load_base", nothing)
    recipe = tiny.write_run(tmp_path, TUNE.replace("BASE", "starter"))
    lines = [line for line in recipe.read_text().splitlines() if "CC-BY-SA" not in line]
    recipe.write_text("\n".join(line for line in lines if line != 'written_by = "people"'))
    with pytest.raises(PolicyError, match="the strict policy refuses 1 of 2 sources") as raised:
        train(recipe, tmp_path / "run")
    assert "SmolLM2-135M-Instruct" in raised.value.what
    assert "Its text was partly written by a model." in raised.value.what
    assert 'policy = "open"' in str(raised.value.remedy)
    with pytest.raises(PolicyError, match="partly written by a model"):
        plan_of(load_recipe(recipe), Console(file=StringIO()))
    # What the remedy says can be done in the same folder.
    with pytest.raises(GuildError, match="no weights"):
        train(recipe, tmp_path / "run", ["policy=open"])


def test_strict_refuses_documents_of_unknown_hands(tmp_path: Path) -> None:
    recipe = tiny.write_run(tmp_path)
    with pytest.raises(PolicyError, match=r"documents .*: Nobody says who wrote its text"):
        train(recipe, tmp_path / "run", ["pretrain.written_by=unknown"])
    with pytest.raises(PolicyError, match=r"documents .*: Its licence is unknown"):
        train(recipe, tmp_path / "run", ["pretrain.licence=unknown"])


# --- rows that cannot be read -------------------------------------------------------------------


def test_bad_rows_stop_a_run_or_are_listed_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise AssertionError("the rows were read")

    monkeypatch.setattr(pipeline, "load_base", nothing)
    monkeypatch.chdir(tmp_path)
    recipe = tiny.write_run(tmp_path, TUNE.replace("BASE", "starter"))
    rows = tmp_path / "rows.jsonl"
    line = len(rows.read_text().splitlines()) + 1
    rows.write_text(rows.read_text() + '{"title": "no form"}\n')
    with pytest.raises(DataError, match="of no known form"):
        train(recipe, tmp_path / "run", ["policy=open"])
    assert not (tmp_path / "run" / "bad-rows.txt").exists()
    recipe.write_text(recipe.read_text().replace('licence = "own"', 'on_bad_row = "skip"'))
    with pytest.raises(GuildError, match="the rows were read"):
        train(recipe, tmp_path / "run", ["policy=open"])
    (listed,) = (tmp_path / "run" / "bad-rows.txt").read_text().splitlines()
    assert f"rows.jsonl:{line}: the row's keys (title) are of no known form" in listed
    plan = plan_of(load_recipe(recipe, ["policy=open"]), Console(file=StringIO()))
    assert plan["bad_rows"] == [listed]
    warning = f"rows: 1 row could not be read, and was left out, the first at rows.jsonl:{line}"
    assert warning in plan["warnings"]


# --- a dry run ----------------------------------------------------------------------------------


def test_a_dry_run_foretells_what_a_run_counts(scratch: Scratch, tmp_path: Path) -> None:
    """One epoch, so that every row is seen once: the same rows, steps and tokens to the last."""
    epoch = ["pretrain.epochs=1", "sft.epochs=1", "sft.batch_size=5"]
    text = "\n".join(
        line for line in scratch.recipe.read_text().splitlines() if line != "steps = 24"
    )
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(text)
    plan = plan_of(load_recipe(recipe, epoch), Console(file=StringIO()))
    report, _ = train(recipe, tmp_path / "run", [*epoch, "export.gguf=[]"])
    for stage in report.stages:
        planned = plan["stages"][stage.name]
        assert planned["steps"] == stage.outcome.steps
        assert planned["tokens_seen"] == planned["tokens"] == stage.outcome.tokens
        assert planned["trained_tokens"] == sum(row["trained"] or 0 for row in stage.metrics)


# --- what can go wrong at the end ---------------------------------------------------------------


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to write beyond `size` bytes of any file (EFBIG), as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("at", ["_save_weights", "_save_tokenizer", "write_gguf"])
def test_a_disk_that_is_full_when_the_model_is_saved(
    at: str, scratch: Scratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training is not lost, nor done again."""
    base = scratch.folder / "pretrain" / "model"
    recipe = tiny.write_run(tmp_path, TUNE.replace("BASE", str(base)))
    step, save = getattr(model_folder, at), pipeline.save_model

    def on_a_full_disk(*arguments: Any) -> None:
        with no_file_larger_than(1000):
            step(*arguments)

    def saved(*arguments: Any) -> None:
        patched.setattr(model_folder, at, on_a_full_disk)
        save(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "save_model", saved)
        with pytest.raises(GuildError, match="could not be written") as raised:
            train(recipe, tmp_path / "run")
    assert "room" in str(raised.value.remedy)
    place = tmp_path / "run" / "sft"
    assert {path.name for path in place.iterdir()} == {
        "before.json",
        "checkpoints",
        "inputs.json",
        "metrics.jsonl",
    }

    def nothing(*_: object) -> None:
        raise AssertionError("it is trained already")

    monkeypatch.setattr(loop._Stage, "take", nothing)
    report, _ = train(recipe, tmp_path / "run")
    assert report.stages[0].outcome.steps == 3
    assert (place / "model" / "model-F16.gguf").is_file()


def test_a_disk_that_is_full_from_the_start(scratch: Scratch, tmp_path: Path) -> None:
    base = scratch.folder / "pretrain" / "model"
    recipe = tiny.write_run(tmp_path, TUNE.replace("BASE", str(base)))
    with (
        no_file_larger_than(100),
        pytest.raises(GuildError, match=r"the run could not be written .*GB free"),
    ):
        train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "run")


def test_a_model_that_llama_cpp_does_not_take(scratch: Scratch, tmp_path: Path) -> None:
    """It is trained and saved all the same, its answers not sampled."""
    base = tmp_path / "bloom"
    torch.manual_seed(0)
    shape = BloomConfig(vocab_size=512, hidden_size=32, n_layer=2, n_head=2)
    BloomForCausalLM(shape).save_pretrained(base)
    shutil.copyfile(scratch.folder / "sft" / "model" / "tokenizer.json", base / "tokenizer.json")
    recipe = tiny.write_run(tmp_path, TUNE.replace("BASE", str(base)))
    (said,) = plan_of(load_recipe(recipe), Console(quiet=True))["warnings"]
    assert said.startswith("there will be no GGUF (the architecture BloomForCausalLM has no GGUF")
    assert "through torch" in said
    assert not plan_of(load_recipe(recipe, ["export.gguf=[]"]), Console(quiet=True))["warnings"]
    report, printed = train(recipe, tmp_path / "run", ["sft.adapter=none"])
    assert printed.index(said) < printed.index("sft 1/3")
    folder = tmp_path / "run" / "sft" / "model"
    assert "Answers are not sampled: " in printed
    assert "There is no GGUF: " in printed
    assert not list(folder.glob("*.gguf"))
    assert report.samples_after is None
    assert report.held_out[0].bits_after < report.held_out[0].bits_before  # type: ignore[operator]
    assert type(AutoModelForCausalLM.from_pretrained(folder)) is BloomForCausalLM


# --- real rows ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_few_steps_on_real_rows(scratch: Scratch, tmp_path: Path) -> None:
    files = {"dolly": "dolly-dev.jsonl", "oasst": "oasst1-en-dev.trees.jsonl.gz"}
    paths = {kind: SHARED / "data" / name for kind, name in files.items()}
    if not all(path.is_file() for path in paths.values()):
        pytest.skip("the development data is not beside this checkout")
    base = scratch.folder / "pretrain" / "model"
    recipe = tiny.write_run(tmp_path, TUNE.replace("BASE", str(base)))
    sources = f'[{{source="dolly:{paths["dolly"]}", limit=40}}, "oasst:{paths["oasst"]}"]'
    report, _ = train(recipe, tmp_path / "run", [f"data.sources={sources}"])
    assert [source.name for source, _ in report.sources] == ["dolly", "oasst"]
    assert report.sources[0][1].rows == 40
    assert report.sources[0][1].skipped["over the limit"] == 11_880
    assert {held_out.source for held_out in report.held_out} == {"dolly", "oasst"}
    for held_out in report.held_out:
        assert held_out.rows > 0
        assert held_out.bits_after < held_out.bits_before  # type: ignore[operator]
    credits = (tmp_path / "run" / "sft" / "model" / "README.md").read_text()
    assert "Databricks" in credits
    assert "Open-Assistant" in credits
