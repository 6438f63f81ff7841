"""`guildgpt compare` and `guildgpt eval --comparisons`, with reward models out of a tiny run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from rich.console import Console
from transformers import AutoModelForSequenceClassification
from typer.testing import CliRunner, Result

from guildgpt.bases.config import ScratchConfig
from guildgpt.bases.scratch import small_gpt, train_tokenizer
from guildgpt.chat import CHATML, FileTokenizer
from guildgpt.cli import app
from guildgpt.data import SourceSpec, load, split_side
from guildgpt.errors import DataError, GuildError, ModelError
from guildgpt.evaluate.head_to_head import win_rate
from guildgpt.model.chat_tokenizer import add_chat_tokens
from guildgpt.model.folder import write_model_folder
from guildgpt.pipeline.run import run
from guildgpt.recipe import load_recipe

STAGES = 'stages = ["pretrain", "sft", "reward", "judge"'


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder: `pretrain`, `sft`, `reward`, `judge`, and beside it what it learned from."""
    folder = tmp_path_factory.mktemp("judging")
    path = tiny.write_feedback_run(folder, tiny.FEEDBACK.replace(f'{STAGES}, "ppo"]', f"{STAGES}]"))
    text = path.read_text(encoding="utf-8")
    run(load_recipe(path), text, folder / "run", console=Console(quiet=True))
    return folder / "run"


def ask(*arguments: object) -> Result:
    return CliRunner().invoke(
        app, [*map(str, arguments)], env={"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    )


def answered(*arguments: object) -> Any:
    result = ask(*arguments, "--json")
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout)


def refused(kind: type[GuildError], *arguments: object) -> GuildError:
    error = ask(*arguments).exception
    assert isinstance(error, kind), repr(error)
    return error


def compared(models: Path, a: str, b: str, *more: object) -> Any:
    folders = (models / one / "model" for one in (a, b))
    judge = ("--judge", models / "judge" / "model", "--max-tokens", 10)
    return answered("compare", *folders, *judge, *more)


# --- guildgpt compare ------------------------------------------------------------------------


def test_with_a_and_b_exchanged_the_verdict_is_mirrored(models: Path) -> None:
    there = compared(models, "pretrain", "sft")
    back = compared(models, "sft", "pretrain")
    rate, mirror = there["win_rate"], back["win_rate"]
    assert (rate["wins"], rate["losses"]) == (mirror["losses"], mirror["wins"])
    assert rate["ties"] == mirror["ties"]
    assert rate["rate"] == pytest.approx(1 - mirror["rate"], abs=1e-15)
    assert rate["wins"] + rate["losses"] > 0  # else it would show nothing
    for low, high in (("low", "high"), ("controlled_low", "controlled_high")):
        assert rate[low] == pytest.approx(1 - mirror[high], abs=1e-9)
        assert rate[high] == pytest.approx(1 - mirror[low], abs=1e-9)
    assert rate["controlled"] == pytest.approx(1 - mirror["controlled"], abs=1e-9)
    assert there["better"] == {"a": "b", "b": "a", None: None}[back["better"]]
    for key in ("judge_scores", "samples"):
        assert there[key] == {"a": back[key]["b"], "b": back[key]["a"]}
    assert [(one["a"], one["b"]) for one in there["answers"]] == [
        (one["b"], one["a"]) for one in back["answers"]
    ]


def test_mirrored_is_what_the_other_side_sees() -> None:
    draw = np.random.default_rng(1)
    ours, theirs = draw.normal(0.4, 1, 40), draw.normal(size=40)
    lengths, others = draw.integers(5, 50, 40) * 1.0, draw.integers(5, 90, 40) * 1.0
    there = win_rate(ours, theirs, lengths, others, np.arange(40))
    back = win_rate(theirs, ours, others, lengths, np.arange(40))
    assert there.rate != 0.5
    assert asdict(there.mirrored) == pytest.approx(asdict(back))


def test_json_says_who_met_on_what_and_how_it_ended(models: Path) -> None:
    result = compared(models, "pretrain", "sft", "--limit", 7, "--seed", 3, "--temperature", 0)
    assert result["model_a"] == str(models / "pretrain" / "model")
    assert result["model_b"] == str(models / "sft" / "model")
    assert result["judge"] == str(models / "judge" / "model")
    assert (result["prompts"], result["too_long"], result["prompts_from"]) == (7, 0, ["starter"])
    assert result["sampling"] == {"max_tokens": 10, "temperature": 0.0, "seed": 3}
    rate = result["win_rate"]
    assert rate["comparisons"] == rate["wins"] + rate["losses"] + rate["ties"] == 7
    assert rate["controlled_low"] <= rate["controlled"] <= rate["controlled_high"]
    assert result["better"] in ("a", "b", None)
    assert result["samples"]["a"]["answers"] == len(result["answers"]) == 7
    assert result["samples"]["b"]["tokens_mean"] <= 10
    assert result["notes"] == []
    assert result["agreement"] is None  # neither was trained against a reward model
    assert len(result["judge_data"]) == 1
    assert result["judge_data"][0].endswith(" comparisons of pairs")
    assert all(CHATML.end not in one["a"] + one["b"] for one in result["answers"])


def test_a_model_against_itself_ties_and_nothing_more_is_claimed(models: Path) -> None:
    same = ("compare", models / "sft" / "model", models / "sft" / "model")
    result = ask(*same, "--judge", models / "judge" / "model", "--max-tokens", 6, "--limit", 5)
    assert result.exit_code == 0, repr(result.exception)
    words = " ".join(result.output.split())
    assert "5 held-out prompts" in words
    assert "names no clear winner" in words
    assert "includes half" in words
    assert "5 of 5 were ties." in words
    assert "The judge learned from" in words


def test_prompts_of_a_source_are_those_that_no_model_was_trained_on(models: Path) -> None:
    rows = models.parent / "pairs.jsonl"
    held_out = {
        row.prompt[-1].content
        for row in load(SourceSpec.parse(f"jsonl:{rows}")).comparisons
        if split_side(row, 0.2) == "held_out"
    }
    result = compared(models, "pretrain", "sft", "--data", f"jsonl:{rows}")
    assert {one["prompt"] for one in result["answers"]} == held_out
    assert 0 < len(held_out) < 40


def test_who_was_trained_against_the_judge_is_named(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "sft", tmp_path / "ppo")
    shutil.copytree(models / "reward", tmp_path / "reward")
    shutil.copytree(models / "judge", tmp_path / "judge")
    asked = ("compare", models / "sft" / "model", tmp_path / "ppo" / "model", "--max-tokens", 4)
    asked = (*asked, "--limit", 2, "--judge")
    (note,) = answered(*asked, tmp_path / "reward" / "model")["notes"]
    assert note.startswith(f"{tmp_path / 'ppo' / 'model'} was trained against this judge")
    assert answered(*asked, tmp_path / "judge" / "model")["notes"] == []


def test_the_judge_is_held_against_the_reward_model_of_a_run(models: Path, tmp_path: Path) -> None:
    for stage, as_stage in (("sft", "ppo"), ("reward", "reward"), ("judge", "judge")):
        shutil.copytree(models / stage, tmp_path / as_stage)
    asked = ("compare", models / "pretrain" / "model", tmp_path / "ppo" / "model", "--limit", 6)
    result = answered(*asked, "--max-tokens", 6, "--judge", tmp_path / "judge" / "model")
    agreement = result["agreement"]
    assert agreement["low"] <= agreement["share"] <= agreement["high"]
    assert 0 < agreement["pairs"] <= 6
    assert "it agrees with the reward model on" in result["judge_words"]


def test_a_judge_must_be_a_reward_model_and_a_contestant_must_not(models: Path) -> None:
    sft, judge = models / "sft" / "model", models / "judge" / "model"
    error = refused(ModelError, "compare", sft, sft, "--judge", sft)
    assert error.what.startswith("this is not a reward model")
    assert error.where == str(sft)
    assert "judge/model" in (error.remedy or "")
    error = refused(ModelError, "compare", sft, judge, "--judge", judge)
    assert error.what == "this is a reward model: it scores answers and writes none"
    assert error.where == str(judge)


def test_a_judge_with_another_tokenizer_is_refused_before_anything_is_written(
    models: Path, tmp_path: Path
) -> None:
    chat = add_chat_tokens(train_tokenizer(["some other text"], 300).to_str(), CHATML)
    shape = ScratchConfig(
        vocabulary=300, hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=32
    )
    network = small_gpt(shape, len(chat.tokenizer), 256)
    other = write_model_folder(
        tmp_path / "model", network, chat, context=256, provenance=[], recipe={}, card="", gguf=()
    )
    judge = models / "judge" / "model"
    error = refused(ModelError, "compare", models / "sft" / "model", other, "--judge", judge)
    assert f"cannot read what {other} writes" in error.what
    assert "another tokenizer" in error.what
    assert error.where == str(judge)


def test_answers_that_do_not_fit_are_told(models: Path) -> None:
    sft = models / "sft" / "model"
    asked = ("compare", sft, sft, "--judge", models / "judge" / "model", "--max-tokens", 512)
    error = refused(DataError, *asked)
    assert "leaves room for an answer of 512 tokens" in error.what
    assert "--max-tokens" in (error.remedy or "")


# --- where they are served -------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(models: Path) -> Iterator[str]:
    """The address of a GuildGPT that serves two of them."""
    folders = [str(models / one / "model") for one in ("pretrain", "sft")]
    command = [sys.executable, "-m", "guildgpt", "serve", *folders, "--port", "0"]
    command += ["--context", "512"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        told = ""
        while "API at " not in told:
            told = process.stdout.readline()
            assert told, "it did not start"
        yield told.split()[-1]
        process.terminate()


def test_answers_are_judged_that_a_server_writes(models: Path, served: str) -> None:
    more = ("--temperature", 0, "--limit", 12)
    here = compared(models, "pretrain", "sft", *more)
    there = compared(models, "pretrain", "sft", *more, "--engine", served)
    assert (here["engine"], there["engine"]) == (None, served)
    for side in ("a", "b"):  # the file that is served is rounded, and one slip makes another answer
        texts = [[one[side] for one in result["answers"]] for result in (here, there)]
        same = sum(a == b for a, b in zip(*texts, strict=True))
        assert same > 6, texts
    assert [one["a"] for one in there["answers"]] != [one["b"] for one in there["answers"]]
    sides = compared(models, "sft", "pretrain", *more, "--engine", served)
    assert sides["win_rate"]["wins"] == there["win_rate"]["losses"]


def test_one_model_of_a_server_is_not_compared_with_itself(models: Path, served: str) -> None:
    folders = (models / one / "model" for one in ("pretrain", "sft"))
    judge = ("--judge", models / "judge" / "model")
    error = refused(ModelError, "compare", *folders, *judge, "--engine", f"{served}#guildgpt")
    assert "would be answered by guildgpt" in error.what


def test_eval_of_answers_that_a_server_writes(models: Path, served: str) -> None:
    model = models / "sft" / "model"
    result = answered("eval", model, "--samples", "--constraints", 2, "--engine", served)
    assert result["engine"] == served
    assert result["samples"]["answers"] == len(result["answers"]) > 20
    own = answered("eval", model, "--constraints", 2)
    for name, found in own["constrained_answers"].items():
        told = result["constrained_answers"][name]
        assert [one["prompt"] for one in told] == [one["prompt"] for one in found]
        assert [one["kinds"] for one in told] == [one["kinds"] for one in found]


@pytest.mark.parametrize("asked", ["--chat", "--plain"])
def test_code_that_a_server_writes(models: Path, served: str, asked: str) -> None:
    model, other = models / "sft" / "model", models / "pretrain" / "model"
    more = ("--limit", 2, "--max-tokens", 12, "--against", other, asked)
    result = answered("eval", model, "--code", "starter", *more, "--engine", served)
    assert [one["chat"] for one in result["models"]] == [asked == "--chat"] * 2
    assert all(sum(one["outcomes"].values()) == 2 for one in result["models"])
    texts = [one["answer"] for task in result["tried"] for each in task["answers"] for one in each]
    assert len(texts) == 4
    assert any(texts)


@pytest.mark.parametrize("option", ["--data", "--comparisons", "--harness"])
def test_what_a_server_cannot_tell_is_said_in_words(models: Path, option: str) -> None:
    engine = ("--engine", "http://127.0.0.1:9/v1")  # nobody is asked
    error = refused(GuildError, "eval", models / "sft" / "model", option, "starter", *engine)
    assert f"{option} is measured by the probabilities" in error.what
    assert "--samples" in str(error.remedy)


# --- guildgpt eval REWARD_MODEL --comparisons ------------------------------------------------


def by_hand(folder: Path, rows: list[Any]) -> float:
    """The share of pairs that plain transformers, reading at the last token, puts in order."""
    tokenizer = FileTokenizer(folder / "tokenizer.json")
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    right = []
    for row in rows:
        scores = []
        for one in row.answers:
            ids = [*CHATML.prompt(row.prompt, tokenizer), *tokenizer.encode(one.content)]
            ids.append(CHATML.eos_id(tokenizer))
            with torch.no_grad():
                scores.append(float(network(torch.tensor([ids])).logits[0, 0]))
        right.append(scores[0] > scores[1])
    return sum(right) / len(right)


def test_only_held_out_comparisons_of_a_trained_source_are_measured(models: Path) -> None:
    source = f"jsonl:{models.parent / 'pairs.jsonl'}"
    folder = models / "reward" / "model"
    rows = load(SourceSpec.parse(source)).comparisons
    held_out = [row for row in rows if split_side(row, 0.2) == "held_out"]
    assert 0 < len(held_out) < len(rows)
    measured = answered("eval", folder, "--comparisons", source)["sources"]["pairs"]
    assert measured["prompts"] == measured["pairs"] == len(held_out)
    assert measured["note"].startswith("held-out rows only")
    assert measured["chance"] == 0.5
    assert measured["low"] <= measured["accuracy"] <= measured["high"]
    assert sum(one["pairs"] for one in measured["bins"]) == len(held_out)
    assert measured["better_than_length"] == (measured["low"] > measured["by_length"])
    level = measured["equal_length"]
    for one in filter(None, (level["matched"], level["regressed"])):
        assert one["low"] <= one["accuracy"] <= one["high"]
        assert 0 < one["pairs"] <= len(held_out)
    few = answered("eval", folder, "--comparisons", source, "--limit", 2)
    assert few["sources"]["pairs"]["pairs"] == 2


def test_a_source_that_the_reward_model_never_saw_is_measured_whole(
    models: Path, tmp_path: Path
) -> None:
    lines = (models.parent / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[:9]
    turned = [json.loads(line) for line in lines]
    for row in turned[:4]:  # so that neither all nor none is right
        row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    path = tmp_path / "other.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in turned), encoding="utf-8")
    folder = models / "judge" / "model"
    measured = answered("eval", folder, "--comparisons", f"jsonl:{path}")["sources"]["other"]
    assert (measured["pairs"], measured["note"]) == (9, "")
    rows = load(SourceSpec.parse(f"jsonl:{path}")).comparisons
    assert measured["accuracy"] == pytest.approx(by_hand(folder, rows))
    assert 0 < measured["accuracy"] < 1


def test_the_table_shows_the_baselines_and_the_margins(models: Path) -> None:
    source = f"jsonl:{models.parent / 'pairs.jsonl'}"
    result = ask("eval", models / "reward" / "model", "--comparisons", source)
    assert result.exit_code == 0, repr(result.exception)
    words = " ".join(result.output.split())
    for piece in ("right", "95% interval", "length", "chance", "pairs, by margin"):
        assert piece in words
    assert "better than length alone" in words
    assert "pairs: at equal length" in words
    assert "held-out rows only" in words


def test_what_cannot_be_measured_is_told(models: Path) -> None:
    reward, source = models / "reward" / "model", f"jsonl:{models.parent / 'rows.jsonl'}"
    error = refused(ModelError, "eval", models / "sft" / "model", "--comparisons", source)
    assert error.what.startswith("this is not a reward model")
    error = refused(DataError, "eval", reward, "--comparisons", source)
    assert (error.what, error.where) == ("there is no comparison to measure", "rows")
    error = refused(ModelError, "eval", reward, "--data", source)
    assert (error.where, error.remedy) == (str(reward), "Give --comparisons SOURCE.")
    error = refused(GuildError, "eval", reward, "--comparisons", source, "--samples")
    assert error.where == "--comparisons"
    error = refused(ModelError, "eval", reward, "--comparisons", source, "--context", 4096)
    assert (error.where, error.remedy) == ("--context", "Set it to 512 or less.")


# --- what cannot be measured, and folders around a model -----------------------------------------


def test_eval_of_comparisons_says_what_puts_them_in_order(models: Path) -> None:
    """It printed nothing, and ended well."""
    data = f"jsonl:{models.parent / 'pairs.jsonl'}"
    error = refused(DataError, "eval", models / "sft" / "model", "--data", data)
    assert (error.what, error.where) == ("there is no conversation to measure", data)
    assert "It holds 40 comparisons" in str(error.remedy)
    assert f"--comparisons {data}" in str(error.remedy)


def test_eval_says_why_nothing_is_left_to_measure(models: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "Why?", "completion": "So.", "label": 0}\n')
    error = refused(DataError, "eval", models / "sft" / "model", "--data", f"jsonl:{bad}")
    assert error.remedy == "It holds 1 answer rated bad, and none to imitate."

    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"prompt": "Why? " * 50, "completion": "So. " * 50}) + "\n")
    arguments = ("eval", models / "sft" / "model", "--data", f"jsonl:{long}", "--context", 32)
    assert "raise --context" in str(refused(DataError, *arguments).remedy)

    rows = models.parent / "rows.jsonl"
    copy = tmp_path / "model"
    shutil.copytree(models / "sft" / "model", copy)
    record = json.loads((copy / "provenance.json").read_text())
    for source in record["sources"]:
        source["held_out"] = 0.0
    (copy / "provenance.json").write_text(json.dumps(record))
    error = refused(DataError, "eval", copy, "--data", f"jsonl:{rows}")
    assert "trained on all of them" in str(error.remedy)


@pytest.mark.parametrize(
    "command",
    [
        ("eval", "RUN", "--data", "starter"),
        ("eval", "RUN", "--comparisons", "starter"),
        ("export", "RUN"),
        ("data", "preview", "starter", "--base", "RUN"),
        ("compare", "RUN", "starter", "--judge", "RUN"),
    ],
)
@pytest.mark.parametrize("inside", ["", "sft"])
def test_the_folder_around_a_model_names_the_models_in_it(
    models: Path, tmp_path: Path, command: tuple[str, ...], inside: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(models, folder, ignore=shutil.ignore_patterns("*.gguf", ".lock*"))
    shutil.copytree(models / "sft" / "model", folder / "sft" / ".model.writing")
    place = folder / inside
    error = refused(ModelError, *(place if word == "RUN" else word for word in command))
    assert error.where == str(place)
    assert str(folder / "sft" / "model") in str(error.remedy)
    assert ".writing" not in str(error.remedy)
    if not inside:
        assert error.what == "this is the folder of a run, and no model"
        assert str(folder / "judge" / "model") in str(error.remedy)


def test_the_folder_of_a_run_with_no_model_yet(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    assert "has left no model yet" in refused(ModelError, "export", tmp_path).what


def test_a_run_s_folder_is_no_base(models: Path) -> None:
    path = models.parent / "again.toml"
    text = (models.parent / "tiny.toml").read_text(encoding="utf-8")
    path.write_text(text.replace('base = "scratch"', f'base = "{models}"'), encoding="utf-8")
    error = refused(ModelError, "train", path, "--out", models.parent / "again")
    assert str(models / "sft" / "model") in str(error.remedy)
