"""One run of a recipe: base, stages, measurements, model folder, report.

A run lives in one folder and is resumable: what is finished is not done again, and a stage that
was interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from guildgpt.bases.base import Base, load_base, load_tokenizer
from guildgpt.network.proof import prove, refuse_no_numbers
from guildgpt.network.trunk import trunk_for
from guildgpt.network.world import World
from guildgpt.pipeline.checks import check_names, writes_answers
from guildgpt.pipeline.claims import as_begun, claim, claim_data
from guildgpt.pipeline.failures import in_words
from guildgpt.pipeline.feedback import with_feedback
from guildgpt.pipeline.folder import (
    ADAPTER,
    Clock,
    alone_in,
    finished,
    is_disk_full,
    read_outcome,
    write_outcome,
)
from guildgpt.pipeline.inputs import claim_inputs, stage_inputs, starts_from
from guildgpt.pipeline.measuring import (
    measure_after,
    measure_against_start,
    measure_before,
    measure_scores,
    preferences_line,
)
from guildgpt.pipeline.prepare import foresee, gather, prepare
from guildgpt.pipeline.reading import Reading
from guildgpt.pipeline.report import Figures, chat_command, publish, stage_report
from guildgpt.pipeline.reuse import take_over
from guildgpt.pipeline.saving import inherited_by, save_model
from guildgpt.pipeline.stage import Prepared, StageRun, in_short
from guildgpt.pipeline.stages import STAGES
from guildgpt.pipeline.trackers import TrackerName
from guildgpt.pipeline.tracking import final_figures, track_stage
from guildgpt.recipe import Recipe, Stage
from guildgpt.report.report import Report
from guildgpt.terminal import visible
from guildgpt.train.progress import ProgressWatcher

BAD_ROWS = "bad-rows.txt"  # what `on_bad_row` passed over: file, row and why


def run(
    recipe: Recipe,
    recipe_text: str,
    folder: Path,
    *,
    stages: Sequence[Stage] | None = None,
    reuse: Path | None = None,
    track: TrackerName | None = None,
    console: Console,
) -> Report:
    """Execute a recipe in `folder` (or only some of its stages); the last stage's report. What the
    run in `reuse` has finished, and this one would do alike, is taken over. `track` names who is
    told the figures besides.

    Before anything is loaded, all data is read and held against the recipe's policy.
    """
    wanted = recipe.chosen(stages)
    with in_words(folder, recipe):
        check_names(recipe, folder)
    with in_words(folder, recipe), alone_in(folder):
        recipe = as_begun(folder, with_feedback(recipe, folder))
        if reuse:
            for stage in take_over(reuse, folder, recipe):
                console.print(f"{recipe.name}: {stage} is taken over", highlight=False)
        claim(folder, recipe)
        world = World()
        clock = Clock(folder / "phases.json")
        done = {stage: left for stage in wanted if (left := finished(folder / stage))}
        missing = [stage for stage in wanted if stage not in done]
        if missing:
            with clock("read the data"):
                data = gather(recipe, missing, starts_from(missing[0], recipe, folder).base)
            claim_data(folder, data.provenance)
            if data.bad_rows:
                listed = "".join(f"{line}\n" for line in data.bad_rows)
                (folder / BAD_ROWS).write_text(listed, "utf-8", "backslashreplace")
            for warning in data.warnings:
                console.print(visible(warning), style="yellow", soft_wrap=True)
        for stage in wanted:
            if stage in done:
                console.print(f"{recipe.name}: {stage} is finished already", highlight=False)
                report = replace(done[stage], price_per_hour=recipe.price_per_hour)
            else:
                start = starts_from(stage, recipe, folder)
                claim_inputs(folder / stage, stage_inputs(stage, recipe, start))
                console.rule(f"{recipe.name}: {stage}", align="left")
                one = StageRun(
                    stage,
                    STAGES[stage],
                    recipe,
                    recipe_text,
                    folder,
                    start,
                    data,
                    clock,
                    console,
                    world,
                    later=missing[1:] if stage == missing[0] else (),
                    track=track,
                )
                with in_words(folder, recipe, stage):
                    report = run_stage(one)
            if world.is_main:
                _published(report, stage, folder, console)
    return report


def _published(report: Report, stage: Stage, folder: Path, console: Console) -> None:
    """Write the report. The stage stands without it, and the same command writes it another time;
    only a full disk stops the run."""
    try:
        publish(report, stage, folder)
    except Exception as error:  # whatever it is, the model is worth more
        if is_disk_full(error):
            raise
        line = f"the report of `{stage}` could not be written ({in_short(error)})"
        console.print(visible(line), style="yellow", highlight=False, soft_wrap=True)


def run_stage(run: StageRun) -> Report:
    """One stage, of whatever kind: load, prepare, measure, train, save, measure again, report."""
    kind, place = run.kind, run.place
    with run.phase("load"):
        torch.manual_seed(run.recipe.seed)
        base = ready(run, load_base(run.start.base, documents=[d.text for d in run.data.documents]))
        if run.start.earlier is None:
            prove_all(run, base)
        parameters = sum(p.numel() for p in base.model.parameters())
        rows = _rows_of(run, base)
        _say_rows(run, rows)
        if base.adapter:
            run.say(
                f"the adapter in {run.start.base.base} is trained further, in place of sft.lora"
            )
        read = [item for item, _ in rows.sources if item not in base.provenance]
        figures = Figures(base.provenance + read, parameters)
        inherited = inherited_by(run)

    if not kind.scores:
        with run.phase("measure before"):
            figures.before = measure_before(run, base, rows)

    outcome = read_outcome(place)
    tracking = track_stage(run.track, run.recipe, run.stage, place, run.warn)
    if outcome is None:
        with run.phase("train"), closing(ProgressWatcher(run.console, run.stage)) as watcher:
            trained = kind.train(run, base, rows, run.job(tracking.watching(watcher)))
        with run.phase("save"):
            outcome = trained.outcome
            if run.world.is_main:
                save_model(run, trained, base.chat, figures.provenance, rows, inherited)
                write_outcome(place, outcome)
            run.world.barrier()
        if kind.reads == "conversations" and run.stage != run.recipe.stages[-1]:
            run.say(f"You can talk to it already, in another terminal: {chat_command(run)}")
        shutil.rmtree(place / "checkpoints", ignore_errors=True)  # several times the model's size
        (place / "best.safetensors").unlink(missing_ok=True)
        del trained
    del base
    gc.collect()  # before a model is loaded again: memory holds one of them

    if kind.scores:
        with run.phase("measure"):
            scored = run.measured("the reward model", lambda: measure_scores(run, rows))
        figures.preferences = scored or {}
        for source, one in figures.preferences.items():
            run.say(preferences_line(source, one))
    if kind.changes_answers:
        with run.phase("compare"):
            figures.head_to_head = run.measured(
                "the policy beside what it came from", lambda: measure_against_start(run)
            )
        (place / ADAPTER).unlink(missing_ok=True)
    if not kind.scores:
        with run.phase("measure after"):
            figures.after = run.measured("the trained model", lambda: measure_after(run, rows))
    report = stage_report(run, rows, outcome, figures)
    tracking.finish(final_figures(report))
    return report


def prove_all(run: StageRun, base: Base) -> None:
    """ModelError where what comes could not be done with a base that is new to the run."""
    refuse_no_numbers(base.model)
    model = base.model.to(run.world.device)
    prove(trunk_for(model, model.dtype), writes=writes_answers(run.recipe))
    base.model.to("cpu")


def ready(run: StageRun, base: Base) -> Base:
    """The base as the stage can take it, with a warning where it does not suit."""
    chat = base.chat
    for notice in chat.notices:
        run.warn(notice)
    if run.kind.reads == "conversations" and run.start.earlier:
        # Pretraining saw no conversation: chat tokens that were new before it are so after it.
        new = chat.control_ids
        if run.recipe.model.base != "scratch":
            new = load_tokenizer(run.recipe.model)[0].new_tokens
        return replace(base, chat=replace(chat, new_tokens=new))
    if run.kind.changes_answers and (unseen := set(chat.new_tokens) & set(chat.control_ids)):
        # Adapters train no row of the embedding.
        names = " and ".join(chat.tokenizer.token_text(token) for token in sorted(unseen))
        run.warn(
            f"the base never saw {names}, and `{run.stage}` does not train them: put `sft` before "
            "it, or its answers will not end"
        )
    return base


def _rows_of(run: StageRun, base: Base) -> Prepared:
    """The stage's rows; what a later one would lack is told with them, while nothing is trained."""
    reading = Reading(run.recipe, run.data, base.chat)
    rows = prepare(run.stage, run.recipe, run.data, base.chat, reading)
    for stage in run.later:
        foresee(stage, reading)
    return rows


def _say_rows(run: StageRun, rows: Prepared) -> None:
    for item, report in rows.sources:
        if not any((report.train, report.held_out, report.duplicates, report.skipped)):
            run.say(f"{item.name}: no rows for `{run.stage}`")
            continue
        run.say(
            f"{item.name}: {report.train:,} to train on, {report.held_out:,} held out, "
            f"{report.duplicates:,} duplicates, {sum(report.skipped.values()):,} left out"
        )
    for reason, count in rows.dropped.items():
        run.say(f"  {count:,} rows {reason}")
    if run.kind.reads == "comparisons":
        compared = rows.compared
        pairs = sum(len(ranking.pairs) for ranking in compared.train)
        held_out = sum(map(len, compared.held_out.values()))
        run.say(
            f"{len(compared.train):,} comparisons to train on ({pairs:,} pairs), "
            f"{held_out:,} held out"
        )
        for reason, count in compared.dropped.items():
            run.say(f"  {count:,} {reason}")
    if run.kind.reads == "ratings":
        rated = rows.rated
        good, held_out = (
            sum(row.good for row in rated.train),
            sum(map(len, rated.held_out.values())),
        )
        run.say(
            f"{good:,} answers called good and {len(rated.train) - good:,} called bad to train on, "
            f"{held_out:,} held out"
        )
        for reason, count in rated.dropped.items():
            run.say(f"  {count:,} {reason}")
    if run.kind.reads == "prompts":
        run.say(f"{len(rows.prompts):,} prompts to answer, {rows.too_long:,} left out as too long")
    if rows.demonstrations:
        run.say(f"{len(rows.demonstrations):,} conversations are shown beside them")
