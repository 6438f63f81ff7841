"""`--dry-run`: a recipe checked down to the token counts, without weights and without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from guildgpt.bases.base import load_tokenizer
from guildgpt.data.examples import pack
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.pipeline.prepare import (
    Gathered,
    Prepared,
    gather,
    prepare,
    prepare_comparisons,
    prepare_prompts,
)
from guildgpt.recipe import Recipe, Stage
from guildgpt.train.schedule import iterations, schedule


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
        if stage in ("pretrain", "sft"):
            plan["stages"][stage] = _language(stage, recipe, prepared)
        elif stage in ("ppo", "grpo"):
            plan["stages"][stage] = _answering(stage, recipe, data, chat)
        else:
            plan["stages"][stage] = _comparing(stage, recipe, data, chat)
    _show(plan, console)
    return plan


def _language(stage: Stage, recipe: Recipe, prepared: Prepared) -> dict[str, Any]:
    """Stages that predict text."""
    rows = len(prepared.train)
    if stage == "pretrain":
        rows = len(pack(prepared.train, recipe.model.context, recipe.seed))
    steps, places = schedule(rows, recipe.settings(stage))
    tokens = sum(map(len, prepared.train))
    return {
        "rows": rows,
        "tokens": tokens,
        "trained_tokens": sum(example.trained for example in prepared.train),
        "longest": max(map(len, prepared.train)),
        "steps": steps,
        "tokens_seen": round(tokens * places / rows),
        "dropped": dict(prepared.dropped),
    }


def _comparing(stage: Stage, recipe: Recipe, data: Gathered, chat: ChatTokenizer) -> dict[str, Any]:
    """Stages that learn from comparisons, each answer read with its prompt."""
    compared = prepare_comparisons(stage, recipe, data, chat)
    answers = [answer for ranking in compared.train for answer in ranking.answers]
    steps, places = schedule(len(compared.train), recipe.settings(stage))
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


def _answering(stage: Stage, recipe: Recipe, data: Gathered, chat: ChatTokenizer) -> dict[str, Any]:
    """Stages that write their own text; how much that will be, nobody knows before."""
    settings = recipe.settings(stage)
    prompts, too_long = prepare_prompts(stage, recipe, data, chat)
    steps = iterations(len(prompts), settings, getattr(settings, "group", 1))
    return {
        "prompts": len(prompts),
        "answers": steps * settings.batch_size,
        "tokens": sum(len(prompt.ids) for prompt in prompts),
        "longest": max(len(prompt.ids) for prompt in prompts),
        "steps": steps,
        "dropped": {"too long to be asked": too_long} if too_long else {},
    }


COUNTED = ("rows", "comparisons", "pairs", "prompts", "answers")  # whichever a stage has


def _show(plan: Mapping[str, Any], console: Console) -> None:
    for warning in plan["warnings"]:
        console.print(f"[yellow]{escape(warning)}[/]", soft_wrap=True)
    table = Table(title=f"{plan['recipe']}: what would be done", title_justify="left")
    for heading in ("stage", "reads", "tokens", "trained", "longest", "steps", "tokens seen"):
        table.add_column(heading, justify="left" if heading in ("stage", "reads") else "right")
    for stage, row in plan["stages"].items():
        reads = ", ".join(f"{row[name]:,} {name}" for name in COUNTED if name in row)
        figures = ("tokens", "trained_tokens", "longest", "steps", "tokens_seen")
        table.add_row(stage, reads, *(f"{row[key]:,}" if key in row else "" for key in figures))
    console.print(table)
    for stage, row in plan["stages"].items():
        for reason, count in row["dropped"].items():
            console.print(f"  {stage}: {count:,} rows {reason}", highlight=False)
