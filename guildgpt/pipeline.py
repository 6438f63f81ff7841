"""One run of a recipe: base, stages, measurements, model folder, report.

A run lives in one folder and is resumable: what is finished is not done again, and a stage that
was interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from guildgpt import __version__
from guildgpt.data import Dataset, build, check, load, read_documents
from guildgpt.data.documents import Document, documents_provenance
from guildgpt.data.examples import Example, conversation_examples, document_examples, pack
from guildgpt.data.preview import check_trainable
from guildgpt.data.provenance import Provenance
from guildgpt.errors import ModelError, RecipeError
from guildgpt.evaluate.model import Measured, measure_model
from guildgpt.evaluate.probes import probes, seen
from guildgpt.evaluate.report import (
    BaseReport,
    HeldOut,
    Phase,
    ProbeAnswer,
    ProbeResult,
    Report,
    SourceReport,
    StageReport,
    headline,
    read_metrics,
    write_report,
)
from guildgpt.evaluate.samples import Sample, measure
from guildgpt.model.base import Base, ChatTokenizer, load_base, load_tokenizer
from guildgpt.model.config import BaseConfig
from guildgpt.model.folder import model_card, write_model_folder
from guildgpt.recipe import Recipe, Stage
from guildgpt.train.hardware import describe, pick_device
from guildgpt.train.loop import Outcome
from guildgpt.train.pretrain import pretrain
from guildgpt.train.progress import ProgressWatcher
from guildgpt.train.sft import sft


@dataclass(frozen=True)
class Prepared:
    """A recipe's data, ready: rows as token ids, texts for pretraining, and their provenance."""

    dataset: Dataset
    documents: list[Document]
    train: list[Example]
    held_out: dict[str, list[Example]]
    dropped: Counter[str]
    provenance: list[Provenance]  # base first
    warnings: list[str]


def run(
    recipe: Recipe,
    recipe_text: str,
    folder: Path,
    *,
    stages: Sequence[Stage] | None = None,
    console: Console,
) -> Report:
    """Execute a recipe in `folder` (or only some of its stages) and write the report."""
    _claim(folder, recipe)
    clock = _Clock(folder / "phases.json")
    result: Report | None = None
    for stage in stages or recipe.stages:
        if stage not in recipe.stages:
            raise RecipeError(
                f"the recipe has no stage `{stage}`", remedy=f"It has {', '.join(recipe.stages)}."
            )
        result = _stage(stage, recipe, recipe_text, folder, clock, console)
    assert result is not None
    return result


def dry_run(recipe: Recipe, console: Console) -> dict[str, Any]:
    """Check a recipe down to the token counts, without weights and without training."""
    documents = _documents(recipe)
    chat, provenance = load_tokenizer(recipe.model, documents=[d.text for d in documents])
    prepared = prepare(recipe, chat, provenance, documents)
    plan: dict[str, Any] = {"recipe": recipe.name, "policy": recipe.policy}
    plan["warnings"] = prepared.warnings
    plan["sources"] = {name: report.as_dict() for name, report in prepared.dataset.report.items()}
    plan["stages"] = {}
    for stage in recipe.stages:
        if stage == "pretrain":
            examples = document_examples(
                documents, chat.tokenizer, chat.pad_id, context=recipe.model.context
            )
            rows = len(pack(examples, recipe.model.context, recipe.seed))
            config: Any = recipe.pretrain
        else:
            examples, rows, config = prepared.train, len(prepared.train), recipe.sft
        steps = config.steps or max(-(-int(config.epochs * rows) // config.batch_size), 1)
        tokens = sum(map(len, examples))
        plan["stages"][stage] = {
            "rows": rows,
            "tokens": tokens,
            "trained_tokens": sum(e.trained for e in examples),
            "longest": max(map(len, examples), default=0),
            "steps": steps,
            "tokens_seen": round(tokens * steps * config.batch_size / max(rows, 1)),
            "dropped": dict(prepared.dropped) if stage == "sft" else {},
        }
    _show_plan(plan, console)
    return plan


def prepare(
    recipe: Recipe,
    chat: ChatTokenizer,
    provenance: Sequence[Provenance],
    documents: list[Document],
) -> Prepared:
    """Read the sources, hold the policy against them, and turn rows into token ids."""
    if "sft" in recipe.stages and not recipe.data.sources:
        raise RecipeError("there are no sources to fine-tune on", where="data.sources")
    dataset = build(
        [load(spec) for spec in recipe.data.sources],
        held_out=recipe.data.held_out,
        held_out_limit=recipe.data.held_out_limit,
        seed=recipe.seed,
    )
    sources = list(provenance) + dataset.provenance
    if documents:
        sources.append(
            documents_provenance(
                documents,
                licence=recipe.pretrain.licence,
                written_by=recipe.pretrain.written_by,
                attribution=recipe.pretrain.attribution,
            )
        )
    warnings = check(recipe.policy, sources)
    check_trainable(dataset.train, chat.tokenizer, chat.template)
    train, dropped = conversation_examples(
        dataset.train,
        chat.tokenizer,
        chat.template,
        context=recipe.model.context,
        too_long=recipe.sft.too_long,
    )
    held_out = {
        name: conversation_examples(
            rows, chat.tokenizer, chat.template, context=recipe.model.context
        )[0]
        for name, rows in dataset.held_out.items()
    }
    if "sft" in recipe.stages and not train:
        raise RecipeError(
            "no row fits into the context",
            where="model.context",
            remedy=f"Raise it above {recipe.model.context}.",
        )
    return Prepared(dataset, documents, train, held_out, dropped, sources, warnings)


def _stage(
    stage: Stage,
    recipe: Recipe,
    recipe_text: str,
    folder: Path,
    clock: _Clock,
    console: Console,
) -> Report:
    """One stage: load, prepare, measure, train, save, measure again, report."""
    place = folder / stage
    base_config = _base_of(stage, recipe, folder)
    console.rule(f"{recipe.name}: {stage}", align="left")

    with clock("prepare"):
        documents = _documents(recipe)
        torch.manual_seed(recipe.seed)
        base = load_base(base_config, documents=[d.text for d in documents])
        prepared = prepare(recipe, base.chat, base.provenance, documents)
        for warning in prepared.warnings:
            console.print(f"[yellow]{warning}[/]")
        _say_sources(prepared, console)

    with clock("measure before"):
        before = _measured_before(recipe, base, prepared, place, console)

    if (place / "done.json").is_file():
        console.print("The stage is trained already.")
        outcome = _read_outcome(place)
    else:
        with clock("train"):
            watcher = ProgressWatcher(console, stage)
            try:
                if stage == "pretrain":
                    model, outcome = pretrain(
                        base,
                        documents,
                        recipe.pretrain,
                        place,
                        context=recipe.model.context,
                        seed=recipe.seed,
                        watcher=watcher,
                    )
                else:
                    model, outcome = sft(
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
        with clock("save"):
            write_model_folder(
                place / "model",
                model,
                base.chat,
                context=recipe.model.context,
                provenance=prepared.provenance,
                recipe=recipe.model_dump(mode="json"),
                card=model_card(
                    recipe.name,
                    base.chat,
                    prepared.provenance,
                    stages=recipe.stages[: recipe.stages.index(stage) + 1],
                    figures=[f"{outcome.tokens:,} tokens seen in {outcome.steps:,} steps"],
                ),
                dtype=recipe.export.dtype,
                gguf=recipe.export.gguf,
                metrics=outcome.metrics,
            )
            _write_outcome(place, outcome)
        del model

    with clock("measure after"):
        trained = load_base(recipe.model.model_copy(update={"base": str(place / "model")}))
        after = _measure(recipe, trained, prepared, place / "model", console)
        del trained

    report = _report(
        recipe, recipe_text, stage, folder, prepared, base, outcome, before, after, clock
    )
    page = write_report(place / "model", report)
    shutil.copyfile(page, folder / "report.html")
    _finish_card(place / "model", report)
    return report


def _base_of(stage: Stage, recipe: Recipe, folder: Path) -> BaseConfig:
    """The recipe's base, or what the stage before this one left."""
    position = recipe.stages.index(stage)
    if position == 0:
        return recipe.model
    earlier = folder / recipe.stages[position - 1] / "model"
    if not earlier.is_dir():
        raise RecipeError(
            f"`{stage}` starts from what `{recipe.stages[position - 1]}` leaves: not there",
            where=earlier,
            remedy="Run the earlier stage first, or all of them.",
        )
    return recipe.model.model_copy(update={"base": str(earlier)})


def _documents(recipe: Recipe) -> list[Document]:
    if "pretrain" not in recipe.stages:
        return []
    if not recipe.pretrain.documents:
        raise RecipeError(
            "pretraining needs plain text",
            where="pretrain.documents",
            remedy="Name text files, or folders of *.txt and *.md.",
        )
    return read_documents(recipe.pretrain.documents, separator=recipe.pretrain.separator)


def _measured_before(
    recipe: Recipe, base: Base, prepared: Prepared, place: Path, console: Console
) -> Measured:
    """The base's figures, measured once a run and kept in before.json."""
    file = place / "before.json"
    if file.is_file():
        return Measured.from_dict(json.loads(file.read_text(encoding="utf-8")))
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        folder = None
        if recipe.evaluate.prompts or recipe.export.gguf:
            try:
                folder = write_model_folder(
                    Path(scratch) / "base",
                    base.model,
                    base.chat,
                    context=recipe.model.context,
                    provenance=prepared.provenance[:1],
                    recipe={},
                    card="",
                    gguf=recipe.export.gguf[:1],
                )
            except ModelError as error:
                console.print(f"[yellow]Answers are not sampled: {error.what}.[/]")
        measured = _measure(recipe, base, prepared, folder, console)
    work = file.with_suffix(".writing")
    work.write_text(json.dumps(measured.as_dict()), encoding="utf-8")
    work.replace(file)
    return measured


def _measure(
    recipe: Recipe, base: Base, prepared: Prepared, folder: Path | None, console: Console
) -> Measured:
    files = sorted(folder.glob("*.gguf")) if folder else []
    with console.status("measuring held-out rows and sampling answers"):
        return measure_model(
            base,
            prepared.held_out,
            files[0] if files else None,
            recipe.evaluate,
            seed=recipe.seed,
            dtype=recipe.sft.dtype,
        )


def _report(
    recipe: Recipe,
    recipe_text: str,
    stage: Stage,
    folder: Path,
    prepared: Prepared,
    base: Base,
    outcome: Outcome,
    before: Measured,
    after: Measured,
    clock: _Clock,
) -> Report:
    rows, evaluations = read_metrics(outcome.metrics)
    fixed = probes()
    known = seen(fixed, prepared.dataset.train)
    first = prepared.provenance[0]
    return Report(
        title=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe_name=recipe.name,
        recipe_text=recipe_text,
        stages=(
            StageReport(
                name=stage,
                steps=outcome.steps,
                seconds=outcome.seconds,
                tokens=outcome.tokens,
                tokens_per_second=outcome.tokens_per_second,
                share_of_peak=outcome.share_of_peak,
                peak_memory_bytes=outcome.peak_memory_bytes,
                metrics=rows,
                evaluations=evaluations,
            ),
        ),
        held_out=tuple(
            HeldOut(
                source=name,
                rows=bits.rows,
                bytes=bits.bytes,
                bits_before=bits.bits_per_byte,
                bits_after=after.bits[name].bits_per_byte,
                perplexity_before=bits.perplexity,
                perplexity_after=after.bits[name].perplexity,
            )
            for name, bits in before.bits.items()
            if name in after.bits
        ),
        samples_before=measure(before.samples) if before.samples else None,
        samples_after=measure(after.samples) if after.samples else None,
        probes=tuple(
            ProbeResult(
                id=probe.id,
                messages=probe.messages,
                asks=probe.asks,
                before=_shown(before.samples, index),
                after=_shown(after.samples, index),
                seen=probe.id in known,
            )
            for index, probe in enumerate(fixed)
        ),
        sources=tuple(
            SourceReport(
                name=item.name,
                rows=report.rows,
                train=report.train,
                held_out=report.held_out,
                duplicates=report.duplicates,
                skipped=report.skipped,
                licence=item.licence,
                origin=item.origin,
                revision=item.revision,
                hash=item.sha256,
                written_by=item.written_by,
            )
            for item, report in zip(
                prepared.dataset.provenance, prepared.dataset.report.values(), strict=True
            )
        ),
        base=BaseReport(
            name=first.name,
            parameters=sum(p.numel() for p in base.model.parameters() if p.ndim > 0),
            licence=first.licence,
            origin=first.origin,
            revision=first.revision,
            hash=first.sha256,
            written_by=first.written_by,
            note=first.note,
        ),
        policy=recipe.policy,
        warnings=tuple(prepared.warnings)
        + tuple(f"{count} rows {reason}" for reason, count in prepared.dropped.items()),
        phases=clock.phases(),
        hardware=describe(pick_device()),
        price_per_hour=recipe.price_per_hour,
        chat_command=f"guildgpt chat {folder / stage / 'model'}",
        version=__version__,
    )


def _shown(samples: Sequence[Sample], index: int) -> ProbeAnswer | None:
    if index >= len(samples):
        return None
    one = samples[index]
    return ProbeAnswer(one.answer_text, one.stop, one.looped, len(one.ids))


def _finish_card(folder: Path, report: Report) -> None:
    """Put the measured figures, known only now, into the model card."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8")
    marker = "## Figures\n\n"
    lines = "".join(f"- {line}\n" for line in headline(report) if line not in text)
    card.write_text(text.replace(marker, marker + lines, 1), encoding="utf-8")


def _claim(folder: Path, recipe: Recipe) -> None:
    """The folder belongs to one recipe: going on with another would mix two runs."""
    file = folder / "recipe.json"
    record = recipe.model_dump(mode="json", exclude={"description", "price_per_hour"})
    text = json.dumps(record, indent=2, sort_keys=True)
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        raise RecipeError(
            "this folder holds a run of another recipe, or of this one before it was changed",
            where=folder,
            remedy="Give --out another folder or the recipe another name, or delete this folder.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _write_outcome(place: Path, outcome: Outcome) -> None:
    record = {**asdict(outcome), "metrics": outcome.metrics.name}
    (place / "done.json").write_text(json.dumps(record), encoding="utf-8")


def _read_outcome(place: Path) -> Outcome:
    record = json.loads((place / "done.json").read_text(encoding="utf-8"))
    return Outcome(**{**record, "metrics": place / record["metrics"]})


class _Clock:
    """Seconds of each phase, summed over interruptions."""

    def __init__(self, file: Path):
        self.file = file
        self.seconds: dict[str, float] = (
            json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        )

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - start
            self.seconds[phase] = self.seconds.get(phase, 0.0) + spent
            self.file.write_text(json.dumps(self.seconds), encoding="utf-8")

    def phases(self) -> tuple[Phase, ...]:
        return tuple(Phase(name, seconds) for name, seconds in self.seconds.items())


def _say_sources(prepared: Prepared, console: Console) -> None:
    rows = Counter(row.source.name for row in prepared.dataset.train)
    for name, report in prepared.dataset.report.items():
        skipped = sum(report.skipped.values())
        held_out = len(prepared.dataset.held_out[name])
        console.print(
            f"{name}: {rows[name]:,} conversations to train on, {held_out:,} held out, "
            f"{report.duplicates:,} duplicates, {skipped:,} left out",
            highlight=False,
        )
    for reason, count in prepared.dropped.items():
        console.print(f"  {count:,} rows {reason}", highlight=False)


def _show_plan(plan: Mapping[str, Any], console: Console) -> None:
    for warning in plan["warnings"]:
        console.print(f"[yellow]{warning}[/]")
    table = Table(title=f"{plan['recipe']}: what would be done", title_justify="left")
    for heading in ("stage", "rows", "tokens", "trained", "longest", "steps", "tokens seen"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage, row in plan["stages"].items():
        figures = ("rows", "tokens", "trained_tokens", "longest", "steps", "tokens_seen")
        table.add_row(stage, *(f"{row[key]:,}" for key in figures))
    console.print(table)
    for stage, row in plan["stages"].items():
        for reason, count in row["dropped"].items():
            console.print(f"  {stage}: {count:,} rows {reason}", highlight=False)
