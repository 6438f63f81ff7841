"""A reward model measured on comparisons that it was not trained on; `guildgpt eval`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from guildgpt.bases.base import context_limit
from guildgpt.chat import ChatTemplate, FileTokenizer
from guildgpt.data import SourceSpec, load
from guildgpt.data.dataset import distinct_names
from guildgpt.data.rankings import Ranking, rankings
from guildgpt.errors import DataError, ModelError
from guildgpt.evaluate.held_out import NOTE, trained_on, unseen
from guildgpt.evaluate.preferences import measure_preferences
from guildgpt.network.hardware import pick_device, pick_dtype
from guildgpt.network.reward_model import load_reward_model, read_record
from guildgpt.text.figures import percent, visible


def evaluate_reward_model(
    model: str,
    sources: Sequence[str],
    *,
    limit: int | None = None,
    context: int | None = None,
) -> dict[str, Any]:
    """What `guildgpt eval --comparisons` reports, as plain values.

    Of a source that the reward model was trained on (known by its file's hash), only held-out
    comparisons are measured; `limit` counts after that. `context` is 1024 tokens if not given, or
    what the model holds if that is less. DataError for a source that leaves nothing to measure.
    """
    folder = Path(model).expanduser()
    read_record(folder)  # what is no reward model is refused before anything is read
    loaded = [load(SourceSpec.parse(text)) for text in sources]
    device = pick_device()
    scorer = load_reward_model(folder, pick_dtype("auto", device), device)
    context = _context(scorer.trunk.model.config, context)
    shape = FileTokenizer(folder / "tokenizer.json"), ChatTemplate.load(folder)
    trained = trained_on(folder)
    compared: dict[str, list[Ranking]] = {}
    notes: dict[str, list[str]] = {}
    for name, item in zip(distinct_names([one.name for one in loaded]), loaded, strict=True):
        rows = item.comparisons
        known = item.provenance.sha256 in trained
        if known:
            rows = unseen(rows, [trained[item.provenance.sha256]])
        compared[name], dropped = rankings(rows[:limit], *shape, context=context)
        reasons = [f"{count:,} {reason}" for reason, count in dropped.items()]
        if not compared[name]:
            raise DataError(
                "there is no comparison to measure",
                where=name,
                remedy=_why_none(len(item.comparisons), len(rows), reasons),
            )
        notes[name] = [NOTE] * known + reasons
    figures = measure_preferences(scorer, compared)
    return {
        "model": model,
        "sources": {
            name: {
                **asdict(one),
                "by_length": one.by_length,
                "chance": 0.5,
                "better_than_length": one.beats_length,
                "note": "; ".join(notes[name]),
            }
            for name, one in figures.items()
        },
    }


def show(result: Mapping[str, Any], console: Console) -> None:
    """`evaluate_reward_model`'s figures as tables, and each source's in a sentence."""
    table = Table(title=Text(visible(result["model"])), title_justify="left")
    for heading in ("source", "prompts", "pairs", "right", "95 % interval", "length", "chance"):
        table.add_column(heading, justify="left" if heading == "source" else "right")
    for name, row in result["sources"].items():
        table.add_row(
            Text(visible(name)),
            f"{row['prompts']:,}",
            f"{row['pairs']:,}",
            percent(row["accuracy"]),
            f"{percent(row['low'])} to {percent(row['high'])}",
            percent(row["by_length"]),
            percent(row["chance"]),
        )
    console.print(table)
    for name, row in result["sources"].items():
        console.print(_margins(name, row))
        lines = [_said(name, row), *([f"{name}: {row['note']}"] if row["note"] else [])]
        for line in lines:
            console.print(Text(visible(line)), soft_wrap=not console.is_terminal)


def _margins(name: str, row: Mapping[str, Any]) -> Table:
    """Accuracy by how far apart the two scores lie: is it right more often where it is surer?"""
    table = Table(title=Text(visible(f"{name}, by margin")), title_justify="left")
    for heading in ("scores apart", "pairs", "expected right", "were right"):
        table.add_column(heading, justify="right")
    for one in row["bins"]:
        figures = percent(one["expected"]), percent(one["accuracy"])
        table.add_row(f"{one['margin']:.2f}", f"{one['pairs']:,}", *figures)
    return table


def _said(name: str, row: Mapping[str, Any]) -> str:
    verdict = (
        "clearly better than length alone"
        if row["better_than_length"]
        else "not clearly better than length alone"
    )
    return (
        f"{name}: {percent(row['accuracy'])} of {row['pairs']:,} pairs in the right order, "
        f"{verdict} ({percent(row['by_length'])}); what it expects of itself and what came out "
        f"lie {percent(row['calibration_error'])} apart on average."
    )


def _context(config: Any, wanted: int | None) -> int:
    holds = context_limit(config)
    if wanted and holds and wanted > holds:
        raise ModelError(
            f"the reward model holds {holds:,} tokens, and --context asks for {wanted:,}",
            where="--context",
            remedy=f"Set it to {holds} or less.",
        )
    return wanted or min(1024, holds or 1024)


def _why_none(comparisons: int, kept: int, reasons: Sequence[str]) -> str:
    if not comparisons:
        return "It has none: sources with rankings, or with prompt, chosen and rejected, do."
    if not kept:
        return "The model was trained on all of them; name a source that it never saw."
    return f"Left out: {', '.join(reasons)}."
