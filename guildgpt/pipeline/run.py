"""One run of a recipe: base, stages, measurements, model folder, report.

A run lives in one folder and is resumable: what is finished is not done again, and a stage that
was interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

import errno
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from guildgpt.data.provenance import Provenance
from guildgpt.errors import ModelError, RecipeError
from guildgpt.evaluate.report import Report
from guildgpt.model.base import Base, disk_error, load_base, load_tokenizer
from guildgpt.model.config import BaseConfig
from guildgpt.model.folder import model_card, write_model_folder
from guildgpt.pipeline.before_after import measured_after, measured_before
from guildgpt.pipeline.folder import (
    Clock,
    alone_in,
    claim,
    claim_data,
    finished,
    read_outcome,
    write_failed,
    write_outcome,
)
from guildgpt.pipeline.prepare import Gathered, Prepared, gather, prepare
from guildgpt.pipeline.report import publish, stage_report
from guildgpt.recipe import Recipe, Stage
from guildgpt.train.loop import Outcome
from guildgpt.train.pretrain import pretrain
from guildgpt.train.progress import ProgressWatcher
from guildgpt.train.sft import sft

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, over the quota, file too large


def run(
    recipe: Recipe,
    recipe_text: str,
    folder: Path,
    *,
    stages: Sequence[Stage] | None = None,
    console: Console,
) -> Report:
    """Execute a recipe in `folder` (or only some of its stages); the last stage's report.

    Before anything is loaded, all data is read and held against the recipe's policy.
    """
    wanted = _wanted(recipe, stages)
    with _full_disk_in_words(folder), alone_in(folder):
        claim(folder, recipe)
        clock = Clock(folder / "phases.json")
        reports = {stage: finished(folder / stage) for stage in wanted}
        missing = [stage for stage in wanted if reports[stage] is None]
        if missing:
            with clock("read the data"):
                data = gather(recipe, missing, _base_of(missing[0], recipe, folder))
            claim_data(folder, data.provenance)
            for warning in data.warnings:
                console.print(f"[yellow]{escape(warning)}[/]", soft_wrap=True)
        for stage in wanted:
            if (report := reports[stage]) is None:
                report = _stage(stage, recipe, recipe_text, folder, data, clock, console)
            else:
                console.print(f"{recipe.name}: {stage} is finished already", highlight=False)
                report = replace(report, price_per_hour=recipe.price_per_hour)
            publish(report, stage, folder)
            reports[stage] = report
    last = reports[wanted[-1]]
    assert last is not None
    return last


def _stage(
    stage: Stage,
    recipe: Recipe,
    recipe_text: str,
    folder: Path,
    data: Gathered,
    clock: Clock,
    console: Console,
) -> Report:
    """One stage: load, prepare, measure, train, save, measure again, report."""
    place = folder / stage
    place.mkdir(exist_ok=True)
    base_config = _base_of(stage, recipe, folder)
    phase = f"{stage}: " if len(recipe.stages) > 1 else ""
    console.rule(f"{recipe.name}: {stage}", align="left")

    with clock(f"{phase}load"):
        torch.manual_seed(recipe.seed)
        base = load_base(base_config, documents=[d.text for d in data.documents])
        base = _with_untrained_chat_tokens(base, stage, recipe)
        parameters = sum(p.numel() for p in base.model.parameters())
        prepared = prepare(stage, recipe, data, base.chat)
        provenance = base.provenance + [item for item, _ in prepared.sources]
        _say_sources(prepared, console)

    with clock(f"{phase}measure before"):
        before = measured_before(recipe, stage, place, base, base_config, prepared, console)

    outcome = read_outcome(place)
    if outcome is None:
        with clock(f"{phase}train"):
            model, outcome = _train(stage, recipe, base, prepared, place, console)
        with clock(f"{phase}save"):
            _save(stage, recipe, model, base, provenance, outcome, place, console)
            write_outcome(place, outcome)
        shutil.rmtree(place / "checkpoints", ignore_errors=True)  # several times the model's size
        del model
    del base  # before the trained model is loaded: memory holds one of them

    with clock(f"{phase}measure after"):
        after = measured_after(recipe, stage, place, prepared, console)

    return stage_report(
        recipe,
        recipe_text,
        stage,
        folder,
        prepared=prepared,
        provenance=provenance,
        warnings=data.warnings,
        parameters=parameters,
        outcome=outcome,
        before=before,
        after=after,
        phases=clock.phases(),
    )


@contextmanager
def _full_disk_in_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise disk_error(error, "the run", folder) from error


def _wanted(recipe: Recipe, stages: Sequence[Stage] | None) -> list[Stage]:
    """The stages to run, in the recipe's order."""
    for stage in stages or ():
        if stage not in recipe.stages:
            raise RecipeError(
                f"the recipe has no stage `{stage}`", remedy=f"It has {', '.join(recipe.stages)}."
            )
    return [stage for stage in recipe.stages if not stages or stage in stages]


def _base_of(stage: Stage, recipe: Recipe, folder: Path) -> BaseConfig:
    """The recipe's base, or what the stage before this one left."""
    position = recipe.stages.index(stage)
    if position == 0:
        return recipe.model
    earlier = folder / recipe.stages[position - 1]
    if read_outcome(earlier) is None:
        raise RecipeError(
            f"`{stage}` starts from what `{recipe.stages[position - 1]}` leaves: not there",
            where=earlier / "model",
            remedy="Run the earlier stage first, or all of them.",
        )
    return recipe.model.model_copy(update={"base": str(earlier / "model")})


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


def _train(
    stage: Stage,
    recipe: Recipe,
    base: Base,
    prepared: Prepared,
    place: Path,
    console: Console,
) -> tuple[Any, Outcome]:
    watcher = ProgressWatcher(console, stage)
    try:
        if stage == "pretrain":
            return pretrain(
                base,
                prepared.train,
                prepared.held_out,
                recipe.pretrain,
                place,
                context=recipe.model.context,
                seed=recipe.seed,
                watcher=watcher,
            )
        return sft(
            base,
            prepared.train,
            prepared.held_out,
            recipe.sft,
            place,
            seed=recipe.seed,
            watcher=watcher,
        )
    finally:
        watcher.close()


def _save(
    stage: Stage,
    recipe: Recipe,
    model: Any,
    base: Base,
    provenance: Sequence[Provenance],
    outcome: Outcome,
    place: Path,
    console: Console,
) -> None:
    """Write the model folder; where its form has no GGUF, without one."""
    card = model_card(
        recipe.name,
        base.chat,
        provenance,
        stages=recipe.stages[: recipe.stages.index(stage) + 1],
        figures=[f"{outcome.tokens:,} tokens seen in {outcome.steps:,} steps"],
    )

    def write(gguf: Sequence[str]) -> None:
        write_model_folder(
            place / "model",
            model,
            base.chat,
            context=recipe.model.context,
            provenance=provenance,
            recipe=recipe.model_dump(mode="json"),
            card=card,
            dtype=recipe.export.dtype,
            gguf=gguf,
            metrics=outcome.metrics,
        )

    try:
        write(recipe.export.gguf)
    except ModelError as error:
        if write_failed(error):
            raise
        console.print(f"[yellow]There is no GGUF: {escape(error.what)}.[/]", soft_wrap=True)
        write(())


def _say_sources(prepared: Prepared, console: Console) -> None:
    # The report counts comparisons too, which these stages do not read.
    conversations = Counter(row.source.name for row in prepared.conversations)
    for item, report in prepared.sources:
        rows = conversations[item.name] or report.train
        held_out = len(prepared.held_out.get(item.name, ()))
        console.print(
            f"{item.name}: {rows:,} to train on, {held_out:,} held out, "
            f"{report.duplicates:,} duplicates, {sum(report.skipped.values()):,} left out",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for reason, count in prepared.dropped.items():
        console.print(f"  {count:,} rows {reason}", highlight=False)
