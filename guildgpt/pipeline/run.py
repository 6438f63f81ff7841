"""One run of a recipe: base, stages, measurements, model folder, report.

A run lives in one folder and is resumable: what is finished is not done again, and a stage that
was interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

import gc
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape

from guildgpt.bases.base import Base, load_base, load_tokenizer
from guildgpt.bases.locate import locate_base
from guildgpt.data.origin import Events
from guildgpt.data.provenance import Provenance
from guildgpt.errors import disk_error
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.folder import model_card, write_model_folder
from guildgpt.model.lineage import read_lineage
from guildgpt.network.reward_model import require_classifier
from guildgpt.network.world import World
from guildgpt.pipeline.feedback import with_feedback
from guildgpt.pipeline.folder import (
    ADAPTER,
    Clock,
    alone_in,
    claim,
    claim_data,
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
from guildgpt.pipeline.prepare import gather, prepare
from guildgpt.pipeline.report import Figures, chat_command, publish, stage_report
from guildgpt.pipeline.stage import Prepared, StageRun, Trained, in_short
from guildgpt.pipeline.stages import STAGES
from guildgpt.recipe import Recipe, Stage
from guildgpt.report.report import Report
from guildgpt.train.progress import ProgressWatcher

SCORES = {
    "task": "text-classification",
    "introduction": "It scores answers: the higher, the better people would like it. Read the "
    "score at the end-of-turn token, and use differences between answers to one prompt.",
}


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
    wanted = recipe.chosen(stages)
    with _full_disk_in_words(folder), alone_in(folder):
        recipe = with_feedback(recipe, folder)
        claim(folder, recipe)
        world = World()
        clock = Clock(folder / "phases.json")
        done = {stage: left for stage in wanted if (left := finished(folder / stage))}
        missing = [stage for stage in wanted if stage not in done]
        if missing:
            with clock("read the data"):
                data = gather(recipe, missing, starts_from(missing[0], recipe, folder).base)
            claim_data(folder, data.provenance)
            for warning in data.warnings:
                console.print(f"[yellow]{escape(warning)}[/]", soft_wrap=True)
        for stage in wanted:
            if stage in done:
                console.print(f"{recipe.name}: {stage} is finished already", highlight=False)
                report = replace(done[stage], price_per_hour=recipe.price_per_hour)
            else:
                start = starts_from(stage, recipe, folder)
                claim_inputs(folder / stage, stage_inputs(stage, recipe, start))
                console.rule(f"{recipe.name}: {stage}", align="left")
                report = run_stage(
                    StageRun(
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
                    )
                )
            if world.is_main:
                publish(report, stage, folder)
    return report


def run_stage(run: StageRun) -> Report:
    """One stage, of whatever kind: load, prepare, measure, train, save, measure again, report."""
    kind, place = run.kind, run.place
    with run.phase("load"):
        torch.manual_seed(run.recipe.seed)
        base = ready(run, load_base(run.start.base, documents=[d.text for d in run.data.documents]))
        parameters = sum(p.numel() for p in base.model.parameters())
        rows = prepare(run.stage, run.recipe, run.data, base.chat)
        _say_rows(run, rows)
        if base.adapter:
            run.say(
                f"the adapter in {run.start.base.base} is trained further, in place of sft.lora"
            )
        read = [item for item, _ in rows.sources if item not in base.provenance]
        figures = Figures(base.provenance + read, parameters)

    if not kind.scores:
        with run.phase("measure before"):
            figures.before = measure_before(run, base, rows)

    outcome = read_outcome(place)
    if outcome is None:
        with run.phase("train"), closing(ProgressWatcher(run.console, run.stage)) as watcher:
            trained = kind.train(run, base, rows, run.job(watcher))
        with run.phase("save"):
            outcome = trained.outcome
            if run.world.is_main:
                save_model(run, trained, base.chat, figures.provenance, rows)
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
    return stage_report(run, rows, outcome, figures)


def ready(run: StageRun, base: Base) -> Base:
    """The base as the stage can take it, with a warning where it does not suit."""
    chat = base.chat
    if run.kind.scores:
        require_classifier(base.model.config)
    elif run.kind.reads == "conversations" and run.start.earlier:
        # Pretraining saw no conversation: chat tokens that were new before it are so after it.
        new = chat.control_ids
        if run.recipe.model.base != "scratch":
            new = load_tokenizer(run.recipe.model)[0].new_tokens
        return replace(base, chat=replace(chat, new_tokens=new))
    elif run.kind.changes_answers and (unseen := set(chat.new_tokens) & set(chat.control_ids)):
        # Adapters train no row of the embedding.
        names = " and ".join(chat.tokenizer.token_text(token) for token in sorted(unseen))
        run.warn(
            f"the base never saw {names}, and `{run.stage}` does not train them: put `sft` before "
            "it, or its answers will not end"
        )
    return base


def save_model(
    run: StageRun,
    trained: Trained,
    chat: ChatTokenizer,
    provenance: Sequence[Provenance],
    rows: Prepared,
) -> None:
    """Write the model folder; where no GGUF can be made of it, without one."""
    recipe, scores, outcome = run.recipe, run.kind.scores, trained.outcome
    if trained.adapter:
        (run.place / ADAPTER).write_bytes(trained.adapter)
    card = model_card(
        f"{recipe.name} ({run.stage})" if scores else recipe.name,
        provenance,
        stages=recipe.stages[: recipe.stages.index(run.stage) + 1],
        figures=[f"{outcome.tokens:,} tokens seen in {outcome.steps:,} steps", *trained.notes],
        **(SCORES if scores else {}),
    )

    def write(gguf: Sequence[str]) -> None:
        write_model_folder(
            run.place / "model",
            trained.model,
            chat,
            context=recipe.model.context,
            provenance=provenance,
            recipe=recipe.model_dump(mode="json"),
            card=card,
            dtype=recipe.export.dtype,
            gguf=gguf,
            metrics=outcome.metrics,
            files=trained.files,
            lineage=_inherited(run).union(*(row.origin for row in rows.trained_on)),
        )

    gguf = () if scores else recipe.export.gguf
    try:
        write(gguf)
    except Exception as error:  # whatever stops the GGUF, the weights are worth more
        if is_disk_full(error) or not gguf:
            raise
        run.warn(f"There is no GGUF: {in_short(error)}")
        write(())


def _inherited(run: StageRun) -> Events:
    """What the models that a stage starts from learned from: its base and its reward model."""
    events: Events = set()
    base, reward = run.start.base, run.start.reward
    if base.base not in ("scratch", "starter"):
        if (path := Path(base.base).expanduser()).is_file():
            events |= read_lineage(path)
        else:
            place = locate_base(base, weights=False)
            for folder in filter(None, (place.folder, place.adapter)):
                events |= read_lineage(folder)
    if reward:
        events |= read_lineage(reward)
    return events


def _say_rows(run: StageRun, rows: Prepared) -> None:
    # The report counts comparisons too, which stages that read conversations do not read.
    conversations = Counter(row.source.name for row in rows.conversations)
    for item, report in rows.sources:
        train = conversations[item.name] or report.train
        held_out = len(rows.held_out.get(item.name, ()))
        run.say(
            f"{item.name}: {train:,} to train on, {held_out:,} held out, "
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
    if run.kind.reads == "prompts":
        run.say(f"{len(rows.prompts):,} prompts to answer, {rows.too_long:,} left out as too long")
        if rows.demonstrations:
            run.say(f"{len(rows.demonstrations):,} rows of fine-tuning are shown beside them")


@contextmanager
def _full_disk_in_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise disk_error(error, "the run", folder) from error
