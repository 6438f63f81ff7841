"""Stages that learn to score: the reward model, and the judge that it never meets."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from guildgpt.bases.base import load_base
from guildgpt.bases.locate import locate_base, weights_sha256
from guildgpt.data.origin import learned_from
from guildgpt.data.provenance import Provenance
from guildgpt.evaluate.preferences import PreferenceFigures, measure_preferences
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.folder import model_card, write_model_folder
from guildgpt.network.hardware import pick_dtype
from guildgpt.network.reward_model import (
    RewardRecord,
    classifier,
    load_reward_model,
    require_classifier,
    reward_files,
)
from guildgpt.pipeline.folder import keep, kept, read_outcome, write_outcome
from guildgpt.pipeline.prepare import Compared, prepare_comparisons
from guildgpt.pipeline.report import stage_report
from guildgpt.pipeline.stage import StageRun, card_figures, save_settings, stage_rows
from guildgpt.report.report import PreferenceReport, Report
from guildgpt.train.progress import ProgressWatcher
from guildgpt.train.reward import HAT, TrainedReward, train_reward


def reward_stage(run: StageRun) -> Report:
    """Load, prepare, train, save, measure, report."""
    recipe, place = run.recipe, run.place
    with run.phase("load"):
        torch.manual_seed(recipe.seed)
        base = load_base(run.base)
        parameters = sum(p.numel() for p in base.model.parameters())
        require_classifier(base.model.config)
        prepared, provenance = stage_rows(run, base)
        compared = prepare_comparisons(run.stage, recipe, run.data, base.chat)
        _say_comparisons(compared, run)
        demonstrations = [e for rows in prepared.held_out.values() for e in rows]
        demonstrations = demonstrations or prepared.train[:64]
        if not demonstrations:
            run.say("no conversation is there to score 0: scores are not shifted")

    outcome = read_outcome(place)
    if outcome is None:
        run.learned.update(learned_from(compared.train))
        watcher = ProgressWatcher(run.console, run.stage)
        with run.phase("train"):
            try:
                trained = train_reward(
                    base,
                    compared.train,
                    compared.held_out,
                    demonstrations,  # scores are shifted so that what people wrote scores 0
                    recipe.reward,
                    run.job(watcher),
                )
            finally:
                watcher.close()
        outcome = trained.outcome
        with run.phase("save"):
            _save(run, trained, base.chat, provenance)
            write_outcome(place, outcome)
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
        (place / "best.safetensors").unlink(missing_ok=True)
        del trained
    del base

    with run.phase("measure"):
        figures = run.measured("the reward model", lambda: _measured(run, compared)) or {}
    for source, one in figures.items():
        run.say(preferences_line(source, one))
    return stage_report(
        run,
        prepared=prepared,
        provenance=provenance,
        parameters=parameters,
        outcome=outcome,
        before=None,
        after=None,
        preferences=[PreferenceReport(run.stage, name, one) for name, one in figures.items()],
    )


def preferences_line(source: str, figures: PreferenceFigures) -> str:
    """A reward model's figures on one source in a line."""
    return (
        f"{source}: {figures.accuracy:.1%} of {figures.pairs:,} held-out pairs in the right order "
        f"(95 % interval {figures.low:.1%} to {figures.high:.1%}; by length alone "
        f"{figures.by_length:.1%}, by chance 50 %)"
    )


def _measured(run: StageRun, compared: Compared) -> dict[str, PreferenceFigures]:
    """The saved model's figures on held-out comparisons, measured once and kept."""
    file = run.place / "preferences.json"
    if (known := kept(file, dict[str, PreferenceFigures])) is not None:
        return known
    device = run.world.device
    model = load_reward_model(
        run.place / "model", pick_dtype(run.recipe.reward.dtype, device), device
    )
    figures = measure_preferences(model, compared.held_out)
    keep(file, dict[str, PreferenceFigures], figures)
    return figures


def _save(
    run: StageRun, trained: TrainedReward, chat: ChatTokenizer, provenance: Sequence[Provenance]
) -> None:
    """Write the model folder: a sequence classifier, its adapter alone, and its record."""
    head = trained.model.head
    record = RewardRecord(
        bias=float(head.bias),
        base_sha256=base_sha256(run),
        adapter=trained.hats.config(HAT).model_dump(),
    )
    files = reward_files(trained.hats, HAT, record)
    model = classifier(trained.hats.merged(HAT), head.to("cpu"), chat)
    card = model_card(
        f"{run.recipe.name} ({run.stage})",
        chat,
        provenance,
        stages=run.recipe.stages[: run.recipe.stages.index(run.stage) + 1],
        figures=card_figures(
            trained.outcome, [f"the weights of step {trained.best_step} were the best and kept"]
        ),
        task="text-classification",
        introduction="It scores answers: the higher, the better people would like it. Read the "
        "score at the end-of-turn token, and use differences between answers to one prompt.",
    )
    write_model_folder(
        run.place / "model",
        model,
        chat,
        card=card,
        gguf=(),
        metrics=trained.outcome.metrics,
        files=files,
        **save_settings(run, provenance),
    )


def base_sha256(run: StageRun) -> str:
    """The hash of the weights that a stage starts from."""
    return weights_sha256(Path(locate_base(run.base)[0]))


def _say_comparisons(compared: Compared, run: StageRun) -> None:
    held_out = sum(map(len, compared.held_out.values()))
    pairs = sum(len(ranking.pairs) for ranking in compared.train)
    run.say(
        f"{len(compared.train):,} comparisons to train on ({pairs:,} pairs), {held_out:,} held out"
    )
    for reason, count in compared.dropped.items():
        run.say(f"  {count:,} {reason}")
