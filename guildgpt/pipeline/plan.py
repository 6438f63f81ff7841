"""`--dry-run`: a recipe checked down to the token counts, without weights and without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from guildgpt.data.examples import pack
from guildgpt.model.base import load_tokenizer
from guildgpt.pipeline.prepare import gather, prepare
from guildgpt.recipe import Recipe
from guildgpt.train.config import TrainConfig
from guildgpt.train.schedule import schedule


def dry_run(recipe: Recipe, console: Console) -> dict[str, Any]:
    """What a run of the recipe would read and do, as plain values; printed as well."""
    data = gather(recipe, recipe.stages, recipe.model)
    chat, _ = load_tokenizer(recipe.model, documents=[d.text for d in data.documents])
    plan: dict[str, Any] = {
        "recipe": recipe.name,
        "policy": recipe.policy,
        "warnings": data.warnings,
        "sources": {},
        "stages": {},
    }
    for stage in recipe.stages:
        prepared = prepare(stage, recipe, data, chat)
        plan["sources"] |= {item.name: report.as_dict() for item, report in prepared.sources}
        config: TrainConfig = recipe.pretrain if stage == "pretrain" else recipe.sft
        rows = len(prepared.train)
        if stage == "pretrain":
            rows = len(pack(prepared.train, recipe.model.context, recipe.seed))
        steps, places = schedule(rows, config)
        tokens = sum(map(len, prepared.train))
        plan["stages"][stage] = {
            "rows": rows,
            "tokens": tokens,
            "trained_tokens": sum(example.trained for example in prepared.train),
            "longest": max(map(len, prepared.train)),
            "steps": steps,
            "tokens_seen": round(tokens * places / rows),
            "dropped": dict(prepared.dropped),
        }
    _show(plan, console)
    return plan


def _show(plan: Mapping[str, Any], console: Console) -> None:
    for warning in plan["warnings"]:
        console.print(f"[yellow]{escape(warning)}[/]", soft_wrap=True)
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
