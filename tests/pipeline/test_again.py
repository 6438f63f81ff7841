"""A run that goes on otherwise: measured by other settings, with less memory, or one of its stages
tuned again in another folder, what came before it taken over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import write_feedback_run

from guildgpt.errors import DataError, GuildError, RecipeError
from guildgpt.pipeline.folder import finished
from guildgpt.train import loop

from .road import SHORT, Road, alone, train
from .runs import hashes
from .test_kept import nothing, stopped, tuned


def weights(folder: Path, stage: str) -> bytes:
    return (folder / stage / "model" / "model.safetensors").read_bytes()


# --- how it is measured --------------------------------------------------------------------------


def test_how_it_is_measured_may_change_when_it_is_finished(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = tuned(road, tmp_path), tmp_path / "run"
    report, _ = train(recipe, folder)
    trained = weights(folder, "sft")
    monkeypatch.setattr(loop._Stage, "take", nothing)
    more = ["evaluate.constrained=2", "evaluate.max_tokens=4"]
    again, _ = train(recipe, folder, overrides=more)
    assert not report.kept
    assert {kept.name for kept in again.kept}
    assert all(kept.before and kept.after for kept in again.kept)
    assert again.held_out == report.held_out  # measured anew, and the same
    assert weights(folder, "sft") == trained
    assert finished(folder / "sft") == again
    assert "is finished already" in train(recipe, folder, overrides=more)[1]


def test_how_it_is_measured_may_change_on_the_way(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = tuned(road, tmp_path), tmp_path / "run"
    stopped(recipe, folder, monkeypatch)
    report, _ = train(recipe, folder, overrides=["evaluate.constrained=2"])
    assert all(kept.before and kept.after for kept in report.kept)
    assert len(report.kept) >= 1
    with pytest.raises(RecipeError, match=r"`sft\.learning_rate` was"):
        train(recipe, folder, overrides=["evaluate.constrained=3", "sft.learning_rate=1"])


def test_what_a_smaller_machine_needs_may_change_on_the_way(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = tuned(road, tmp_path), tmp_path / "run"
    stopped(recipe, folder, monkeypatch)
    report, _ = train(recipe, folder, overrides=["sft.micro_tokens=64", "sft.keep_checkpoints=1"])
    assert report.stages[0].outcome.resumed_from > 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate mem"
                     "ory: you tried to allocate 400000000000 bytes."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)  # fmt: skip
def test_too_little_memory_is_told_in_words(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    recipe, folder = tuned(road, tmp_path), tmp_path / "run"

    def full(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(loop._Stage, "take", full)
        with pytest.raises(GuildError, match="not enough memory") as raised:
            train(recipe, folder)
    assert "micro_tokens" in str(raised.value.remedy)
    train(recipe, folder, overrides=["sft.micro_tokens=32"])  # as it was told


# --- a stage tuned again -------------------------------------------------------------------------


def test_a_stage_is_tuned_again_and_the_others_are_taken_over(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hashes(road.folder)
    folder = tmp_path / "again"
    with pytest.raises(RecipeError, match=r"`ppo\.steps` was 3 and is 2") as raised:
        train(road.recipe, road.folder, overrides=["ppo.steps=2"])
    assert f"--reuse {road.folder}" in str(raised.value.remedy)
    report, printed = train(road.recipe, folder, reuse=road.folder, overrides=["ppo.steps=2"])
    taken = ["pretrain", "sft", "reward", "judge"]
    assert [f"{stage} is taken over" in printed for stage in taken] == [True] * 4
    assert [one.name for one in report.stages] == [*taken, "ppo"]
    assert report.stages[-1].outcome.steps == 2
    assert all(weights(folder, stage) == weights(road.folder, stage) for stage in taken)
    assert report.phases[0].seconds > 0
    after = hashes(road.folder)
    assert {name: after[name] for name in before} == before  # that run is as it was
    monkeypatch.setattr(loop._Stage, "take", nothing)
    printed = train(road.recipe, folder, reuse=road.folder, overrides=["ppo.steps=2"])[1]
    assert "is taken over" not in printed  # the same command, and nothing is to be done


def test_what_a_changed_stage_leaves_is_trained_again(road: Road, tmp_path: Path) -> None:
    """Another reward model trains another policy; and the judge read the other half, as before."""
    folder = tmp_path / "again"
    _, printed = train(
        road.recipe, folder, ["pretrain", "sft", "reward"],
        reuse=road.folder, overrides=["reward.learning_rate=1e-3"],
    )  # fmt: skip
    assert "sft is taken over" in printed
    assert "judge is taken over" not in printed  # it is trained by the same section
    assert weights(folder, "reward") != weights(road.folder, "reward")


def test_measured_otherwise_it_is_measured_again(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop._Stage, "take", nothing)
    folder = tmp_path / "again"
    report, _ = train(
        road.recipe, folder, ["pretrain", "sft"],
        reuse=road.folder, overrides=["evaluate.constrained=2"],
    )  # fmt: skip
    assert report.kept
    assert finished(road.folder / "sft")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["seed=3"], "`seed` was 0 and is 3"),
        (["model.context=256"], "`model.context` was 512 and is 256"),
        (["pretrain.steps=5"], "`pretrain.steps` was 6 and is 5"),
    ],
)
def test_where_everything_changes_nothing_is_taken_over(
    road: Road, tmp_path: Path, overrides: list[str], said: str
) -> None:
    with pytest.raises(RecipeError, match="nothing of this run can be taken over") as raised:
        train(road.recipe, tmp_path / "again", reuse=road.folder, overrides=overrides)
    assert said in raised.value.what
    assert "Leave --reuse out" in str(raised.value.remedy)


def test_what_is_no_run_is_named(road: Road, tmp_path: Path) -> None:
    with pytest.raises(GuildError, match="not the folder of a run"):
        train(road.recipe, tmp_path / "again", reuse=tmp_path)
    with pytest.raises(RecipeError, match="cannot take over from itself"):
        train(road.recipe, road.folder, reuse=road.folder)


def test_data_that_changed_since_is_refused(tmp_path: Path) -> None:
    recipe = write_feedback_run(tmp_path, SHORT)
    train(recipe, tmp_path / "run", ["pretrain", "sft"])
    rows = tmp_path / "rows.jsonl"
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match="rows changed since this run began"):
        train(recipe, tmp_path / "again", ["pretrain", "sft", "reward"], reuse=tmp_path / "run")


# --- further epochs ------------------------------------------------------------------------------


def test_a_finished_model_is_trained_on(road: Road, tmp_path: Path) -> None:
    """A run whose base is what another left, on the same rows: the same ones are held out."""
    recipe = alone(road, tmp_path, "sft")
    report, _ = train(recipe, tmp_path / "more")
    first = json.loads((road.folder / "sft" / "after.json").read_text())
    (before,) = (one.bits_before for one in report.held_out)
    (there,) = (one["nats"] for one in first["bits"].values())
    again = json.loads((tmp_path / "more" / "sft" / "before.json").read_text())
    (here,) = (one["nats"] for one in again["bits"].values())
    assert here == pytest.approx(there, rel=1e-6)
    assert before > 0
