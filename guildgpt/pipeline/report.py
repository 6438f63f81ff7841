"""What a run's report says, put together from what the run left behind."""

from __future__ import annotations

import json
import shlex
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from guildgpt import __version__
from guildgpt.chat import Message
from guildgpt.data.provenance import Provenance
from guildgpt.evaluate.head_to_head import HeadToHead
from guildgpt.evaluate.kept import kept_change, kept_figures
from guildgpt.evaluate.preferences import PreferenceFigures
from guildgpt.evaluate.probes import probes, seen
from guildgpt.evaluate.samples import Measured, Sample
from guildgpt.network.hardware import describe
from guildgpt.pipeline.claims import differences
from guildgpt.pipeline.folder import finished
from guildgpt.pipeline.stage import Prepared, StageRun
from guildgpt.pipeline.stages import STAGES
from guildgpt.recipe import Recipe, Stage
from guildgpt.report.before_after import headline
from guildgpt.report.page import write_report
from guildgpt.report.report import (
    HeldOut,
    KeptReport,
    PreferenceReport,
    ProbeAnswer,
    ProbeResult,
    Report,
    StageReport,
    read_metrics,
)
from guildgpt.train.loop import Outcome


@dataclass
class Figures:
    """What was found out about a stage: of what its model is made, and what was measured."""

    provenance: list[Provenance]  # base first
    parameters: int
    before: Measured | None = None
    after: Measured | None = None
    preferences: Mapping[str, PreferenceFigures] = field(default_factory=dict)  # by source
    head_to_head: HeadToHead | None = None


def stage_report(
    run: StageRun,
    prepared: Prepared,
    outcome: Outcome,
    figures: Figures,
) -> Report:
    """The report of one stage.

    Before and after are before and after this stage: what fine-tuning did to a pretrained model is
    not mixed with what pretraining did, nor what feedback did with either. The answers of the base
    stand beside them where an earlier stage asked it the same. The curves, and the reward models'
    figures, are those of every stage so far.
    """
    stage, recipe, folder = run.stage, run.recipe, run.folder
    before, after = figures.before or Measured({}, []), figures.after or Measured({}, [])
    earlier = {name: left for name in recipe.before(stage) if (left := finished(folder / name))}
    tuned = [
        report
        for name, report in earlier.items()
        if STAGES[name].reads == "conversations" and report.probes
    ]
    # The report of fine-tuning, whose answers before are the base's.
    first = tuned[-1] if tuned and run.kind.changes_answers else None
    fixed = probes()
    known = seen(fixed, prepared.conversations)
    return Report(
        title=f"{recipe.name}: before and after {stage}" if len(recipe.stages) > 1 else recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe_name=recipe.name,
        recipe_text=recipe_as_run(recipe, run.recipe_text),
        stages=(*(report.stages[-1] for report in earlier.values()), _stage(stage, outcome)),
        held_out=_held_out(before, after),
        samples_before=before.of_samples if before.samples else None,
        samples_after=after.of_samples if after.samples else None,
        samples_base=first.samples_before if first else None,
        preferences=(
            *(
                one
                for name, report in earlier.items()
                for one in report.preferences
                if one.stage == name
            ),
            *(PreferenceReport(stage, name, one) for name, one in figures.preferences.items()),
        ),
        head_to_head=figures.head_to_head,
        probes=tuple(
            ProbeResult(
                probe,
                before=_shown(before.samples, probe.messages),
                after=_shown(after.samples, probe.messages),
                seen=probe.id in known,
                base=first.probes[index].before if first else None,
            )
            for index, probe in enumerate(fixed)
            if before.samples or after.samples
        ),
        sources=tuple(prepared.sources),
        base=figures.provenance[0],
        parameters=figures.parameters,
        policy=recipe.policy,
        warnings=(
            *run.data.warnings,
            *(f"{count} rows {reason}" for reason, count in prepared.dropped.items()),
            *run.warnings,
        ),
        phases=run.clock.phases(),
        hardware=describe(run.world.device),
        price_per_hour=recipe.price_per_hour,
        chat_command=chat_command(run),
        version=__version__,
        kept=_kept(before, after, first),
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


def chat_command(run: StageRun) -> str:
    """How to talk to what this stage left, or, after a reward model, to what it scores."""
    model = Path(run.start.base.base) if run.kind.scores else run.place / "model"
    return f"guildgpt chat {shlex.quote(str(model))}"


def _stage(stage: Stage, outcome: Outcome) -> StageReport:
    shown = replace(outcome, metrics=Path(outcome.metrics.name))  # the report is passed on
    return StageReport(stage, shown, *read_metrics(outcome.metrics))


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


def _kept(before: Measured, after: Measured, first: Report | None) -> tuple[KeptReport, ...]:
    """Constraints kept of each set that either was asked."""
    base = {one.name: one.before for one in first.kept} if first else {}
    return tuple(
        KeptReport(
            name,
            base=base.get(name),
            before=kept_figures(was) if was else None,
            after=kept_figures(now) if now else None,
            change=kept_change(was, now),
        )
        for name in {**before.constrained, **after.constrained}
        for was, now in [(before.constrained.get(name, []), after.constrained.get(name, []))]
    )


def _shown(samples: Sequence[Sample], prompt: tuple[Message, ...]) -> ProbeAnswer | None:
    for one in samples:
        if one.prompt == prompt:
            return ProbeAnswer(one.answer_text, one.stop, one.looped, len(one.ids))
    return None
