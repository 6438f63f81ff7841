"""What a run's report says, put together from what the run left behind."""

from __future__ import annotations

import json
import shlex
import shutil
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from guildgpt import __version__
from guildgpt.data.provenance import Provenance
from guildgpt.evaluate.model import Measured
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
from guildgpt.model.hardware import describe, pick_device
from guildgpt.pipeline.folder import differences, finished
from guildgpt.pipeline.prepare import Prepared
from guildgpt.recipe import Recipe, Stage
from guildgpt.train.loop import Outcome


def stage_report(
    recipe: Recipe,
    recipe_text: str,
    stage: Stage,
    folder: Path,
    *,
    prepared: Prepared,
    provenance: Sequence[Provenance],
    warnings: Sequence[str],
    parameters: int,
    outcome: Outcome,
    before: Measured,
    after: Measured,
    phases: Sequence[Phase],
) -> Report:
    """The report of one stage of the run in `folder`.

    Before and after are before and after this stage: what fine-tuning did to a pretrained model is
    not mixed with what pretraining did. The curves are those of every stage so far.
    """
    fixed = probes()
    known = seen(fixed, prepared.conversations)
    base = provenance[0]
    several = len(recipe.stages) > 1
    return Report(
        title=f"{recipe.name}: before and after {stage}" if several else recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe_name=recipe.name,
        recipe_text=recipe_as_run(recipe, recipe_text),
        stages=(*_earlier(recipe, stage, folder), _stage(stage, outcome)),
        held_out=_held_out(before, after),
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
            for item, report in prepared.sources
        ),
        base=BaseReport(
            name=base.name,
            parameters=parameters,
            licence=base.licence,
            origin=base.origin,
            revision=base.revision,
            hash=base.sha256,
            written_by=base.written_by,
            note=base.note,
        ),
        policy=recipe.policy,
        warnings=(
            *warnings,
            *(f"{count} rows {reason}" for reason, count in prepared.dropped.items()),
        ),
        phases=tuple(phases),
        hardware=describe(pick_device()),
        price_per_hour=recipe.price_per_hour,
        chat_command=f"guildgpt chat {shlex.quote(str(folder / stage / 'model'))}",
        version=__version__,
    )


def publish(report: Report, stage: Stage, folder: Path) -> None:
    """Put the report into the model folder and beside it, and its figures into the model card."""
    model = folder / stage / "model"
    card = model / "README.md"
    text = card.read_text(encoding="utf-8")
    marker = "## Figures\n\n"
    lines = "".join(f"- {line}\n" for line in headline(report) if line not in text)
    card.write_text(text.replace(marker, marker + lines, 1), encoding="utf-8")
    shutil.copyfile(write_report(model, report), folder / "report.html")


def recipe_as_run(recipe: Recipe, text: str) -> str:
    """The recipe's text, with what the command line changed noted at its end."""
    written = Recipe.model_validate(tomllib.loads(text.removeprefix("\ufeff"))).model_dump(
        mode="json"
    )
    changes = differences(written, recipe.model_dump(mode="json"))
    if not changes:
        return text
    notes = [
        f"# {key} = {json.dumps(now, ensure_ascii=False)}" for key, (_, now) in changes.items()
    ]
    return "\n".join([text.rstrip(), "", "# Set on the command line:", *notes, ""])


def _earlier(recipe: Recipe, stage: Stage, folder: Path) -> list[StageReport]:
    """What the stages before this one reported of themselves."""
    reports = [finished(folder / name) for name in recipe.stages[: recipe.stages.index(stage)]]
    return [report.stages[-1] for report in reports if report]


def _stage(stage: Stage, outcome: Outcome) -> StageReport:
    rows, evaluations = read_metrics(outcome.metrics)
    return StageReport(
        name=stage,
        steps=outcome.steps,
        seconds=outcome.seconds,
        tokens=outcome.tokens,
        tokens_per_second=outcome.tokens_per_second,
        share_of_peak=outcome.share_of_peak,
        peak_memory_bytes=outcome.peak_memory_bytes,
        metrics=rows,
        evaluations=evaluations,
    )


def _held_out(before: Measured, after: Measured) -> tuple[HeldOut, ...]:
    return tuple(
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
    )


def _shown(samples: Sequence[Sample], index: int) -> ProbeAnswer | None:
    if index >= len(samples):
        return None
    one = samples[index]
    return ProbeAnswer(one.answer_text, one.stop, one.looped, len(one.ids))
