"""`--dry-run`: a recipe checked down to the token counts, without weights and without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from guildgpt.bases.base import load_tokenizer
from guildgpt.data.examples import pack
from guildgpt.pipeline.checks import check_names
from guildgpt.pipeline.feedback import with_feedback
from guildgpt.pipeline.prepare import gather, prepare
from guildgpt.pipeline.reading import Reading
from guildgpt.pipeline.stage import Prepared
from guildgpt.pipeline.stages import STAGES
from guildgpt.recipe import Recipe
from guildgpt.terminal import visible
from guildgpt.train.config import PretrainConfig, RolloutConfig, TrainConfig
from guildgpt.train.schedule import schedule


def dry_run(recipe: Recipe, console: Console) -> dict[str, Any]:
    """What a run of the recipe would read and do, as plain values; printed as well."""
    check_names(recipe, Path())
    with TemporaryDirectory() as folder:
        recipe = with_feedback(recipe, Path(folder))
        data = gather(recipe, recipe.stages, recipe.model)
    chat, _ = load_tokenizer(recipe.model, documents=[d.text for d in data.documents])
    plan: dict[str, Any] = {
        "recipe": recipe.name,
        "policy": recipe.policy,
        "warnings": [*data.warnings, *chat.notices],
        "bad_rows": data.bad_rows,
        "sources": {name: asdict(report) for name, report in data.dataset.report.items()},
        "stages": {},
    }
    read = Reading(recipe, data, chat)
    for stage in recipe.stages:
        prepared = prepare(stage, recipe, data, chat, read)
        if STAGES[stage].reads == "documents":
            plan["sources"] |= {item.name: asdict(report) for item, report in prepared.sources}
        plan["stages"][stage] = COUNTS[STAGES[stage].reads](
            prepared, recipe.settings(stage), recipe
        )
    _show(plan, console)
    return plan


def _texts(rows: Prepared, settings: TrainConfig, recipe: Recipe) -> dict[str, Any]:
    """Documents are packed into rows as long as the context, conversations are not."""
    count = len(rows.train)
    if isinstance(settings, PretrainConfig):
        count = len(pack(rows.train, recipe.model.context, recipe.seed))
    steps, places = schedule(count, settings)
    tokens = sum(map(len, rows.train))
    return {
        "rows": count,
        "tokens": tokens,
        "trained_tokens": sum(example.trained for example in rows.train),
        "longest": max(map(len, rows.train)),
        "steps": steps,
        "tokens_seen": round(tokens * places / count),
        "dropped": dict(rows.dropped),
    }


def _comparisons(rows: Prepared, settings: TrainConfig, recipe: Recipe) -> dict[str, Any]:
    """Each answer is read with its prompt."""
    compared = rows.compared
    answers = [answer for ranking in compared.train for answer in ranking.answers]
    steps, places = schedule(len(compared.train), settings)
    tokens = sum(map(len, answers))
    return {
        "comparisons": len(compared.train),
        "pairs": sum(len(ranking.pairs) for ranking in compared.train),
        "held_out": sum(map(len, compared.held_out.values())),
        "tokens": tokens,
        "longest": max(map(len, answers)),
        "steps": steps,
        "tokens_seen": round(tokens * places / len(compared.train)),
        "dropped": dict(compared.dropped),
    }


def _ratings(rows: Prepared, settings: TrainConfig, recipe: Recipe) -> dict[str, Any]:
    """Each answer is read with its prompt, and with another row's."""
    rated = rows.rated
    steps, places = schedule(len(rated.train), settings)
    tokens = sum(map(len, rated.train))
    good = sum(row.good for row in rated.train)
    return {
        "good": good,
        "bad": len(rated.train) - good,
        "held_out": sum(map(len, rated.held_out.values())),
        "tokens": tokens,
        "longest": max(map(len, rated.train)),
        "steps": steps,
        "tokens_seen": round(tokens * places / len(rated.train)),
        "dropped": dict(rated.dropped),
    }


def _prompts(rows: Prepared, settings: TrainConfig, recipe: Recipe) -> dict[str, Any]:
    """How much will be written in answer to them, nobody knows before."""
    assert isinstance(settings, RolloutConfig)
    steps, _ = schedule(len(rows.prompts), settings, settings.group)
    return {
        "prompts": len(rows.prompts),
        "answers": steps * settings.batch_size,
        "tokens": sum(len(prompt.ids) for prompt in rows.prompts),
        "longest": max(len(prompt.ids) for prompt in rows.prompts),
        "steps": steps,
        "dropped": {"too long to be asked": rows.too_long} if rows.too_long else {},
    }


COUNTS = {  # by what a stage reads
    "documents": _texts,
    "conversations": _texts,
    "comparisons": _comparisons,
    "ratings": _ratings,
    "prompts": _prompts,
}
COUNTED = (
    "rows",
    "comparisons",
    "pairs",
    "good",
    "bad",
    "prompts",
    "answers",
)  # whichever a stage has


def _show(plan: Mapping[str, Any], console: Console) -> None:
    for warning in plan["warnings"]:
        console.print(visible(warning), style="yellow", soft_wrap=True)
    headings = ("tokens", "trained", "longest", "steps", "tokens seen")
    table = Table(
        "stage",
        "reads",
        *(Column(heading, justify="right") for heading in headings),
        title=f"{plan['recipe']}: what would be done",
        title_justify="left",
    )
    for stage, row in plan["stages"].items():
        reads = ", ".join(f"{row[name]:,} {name}" for name in COUNTED if name in row)
        figures = ("tokens", "trained_tokens", "longest", "steps", "tokens_seen")
        table.add_row(stage, reads, *(f"{row[key]:,}" if key in row else "" for key in figures))
    console.print(table)
    for stage, row in plan["stages"].items():
        for reason, count in row["dropped"].items():
            console.print(f"  {stage}: {count:,} rows {reason}", highlight=False)
