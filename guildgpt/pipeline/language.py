"""Stages that train a language model on text: pretraining and supervised fine-tuning."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from guildgpt.bases.base import Base, load_base, load_tokenizer
from guildgpt.data.origin import learned_from
from guildgpt.data.provenance import Provenance
from guildgpt.errors import GuildError
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.folder import model_card, write_model_folder
from guildgpt.pipeline.before_after import measured_after, measured_before
from guildgpt.pipeline.folder import is_disk_full, read_outcome, write_outcome
from guildgpt.pipeline.prepare import Prepared
from guildgpt.pipeline.report import stage_report
from guildgpt.pipeline.stage import StageRun, card_figures, save_settings, stage_rows
from guildgpt.recipe import Recipe, Stage
from guildgpt.report.report import Report
from guildgpt.train.loop import Outcome
from guildgpt.train.pretrain import pretrain
from guildgpt.train.progress import ProgressWatcher
from guildgpt.train.sft import sft


def language_stage(run: StageRun) -> Report:
    """Load, prepare, measure, train, save, measure again, report."""
    stage, recipe, place, console = run.stage, run.recipe, run.place, run.console
    with run.phase("load"):
        torch.manual_seed(recipe.seed)
        base = load_base(run.base, documents=[d.text for d in run.data.documents])
        base = _with_untrained_chat_tokens(base, stage, recipe)
        parameters = sum(p.numel() for p in base.model.parameters())
        prepared, provenance = stage_rows(run, base)

    with run.phase("measure before"):
        before = measured_before(recipe, stage, place, base, run.base, prepared, console, run.world)

    outcome = read_outcome(place)
    if outcome is None:
        run.learned.update(learned_from(prepared.train))
        with run.phase("train"):
            model, outcome = _train(run, base, prepared)
        with run.phase("save"):
            save_language_model(run, model, base.chat, provenance, outcome)
            write_outcome(place, outcome)
        shutil.rmtree(place / "checkpoints", ignore_errors=True)  # several times the model's size
        del model
    del base  # before the trained model is loaded: memory holds one of them

    with run.phase("measure after"):
        after = run.measured(
            "the trained model",
            lambda: measured_after(recipe, stage, place, prepared, console, run.world),
        )

    return stage_report(
        run,
        prepared=prepared,
        provenance=provenance,
        parameters=parameters,
        outcome=outcome,
        before=before,
        after=after,
    )


def _with_untrained_chat_tokens(base: Base, stage: Stage, recipe: Recipe) -> Base:
    """Pretraining sees no conversation: chat tokens that were new before it are so after it."""
    if stage != "sft" or stage == recipe.stages[0]:
        return base
    if recipe.model.base == "scratch":
        tokens = [base.chat.tokenizer.token_id(name) for name in base.chat.template.control_tokens]
        new = [token for token in tokens if token is not None]
    else:
        new = load_tokenizer(recipe.model)[0].new_tokens
    return replace(base, chat=replace(base.chat, new_tokens=new))


def _train(run: StageRun, base: Base, prepared: Prepared) -> tuple[Any, Outcome]:
    recipe = run.recipe
    watcher = ProgressWatcher(run.console, run.stage)
    job = run.job(watcher)
    try:
        if run.stage == "pretrain":
            return pretrain(
                base,
                prepared.train,
                prepared.held_out,
                recipe.pretrain,
                job,
                context=recipe.model.context,
            )
        return sft(base, prepared.train, prepared.held_out, recipe.sft, job)
    finally:
        watcher.close()


def save_language_model(
    run: StageRun,
    model: Any,
    chat: ChatTokenizer,
    provenance: Sequence[Provenance],
    outcome: Outcome,
) -> None:
    """Write the model folder; where no GGUF can be made of it, without one."""
    recipe = run.recipe
    card = model_card(
        recipe.name,
        chat,
        provenance,
        stages=recipe.stages[: recipe.stages.index(run.stage) + 1],
        figures=card_figures(outcome),
    )

    def write(gguf: Sequence[str]) -> None:
        write_model_folder(
            run.place / "model",
            model,
            chat,
            card=card,
            gguf=gguf,
            metrics=outcome.metrics,
            **save_settings(run, provenance),
        )

    try:
        write(recipe.export.gguf)
    except Exception as error:  # whatever stops the GGUF, the weights are worth more
        if is_disk_full(error):
            raise
        said = error.what if isinstance(error, GuildError) else f"{type(error).__name__}: {error}"
        run.warn(f"There is no GGUF: {said}")
        write(())
