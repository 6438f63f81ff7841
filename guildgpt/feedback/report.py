"""How `guildgpt feedback` shows what is in the store, and how far its votes can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from guildgpt.feedback.rankings import agreement, position_bias, win_rates
from guildgpt.feedback.records import Snapshot
from guildgpt.feedback.view import View


def trust(snapshot: Snapshot) -> dict[str, Any]:
    """Agreement, position bias and win rates, over the votes that count."""
    votes = View(snapshot).votes
    agreed = agreement(votes)
    versions = {m.id: m.version_id for m in snapshot.messages if m.version_id}
    rates = win_rates(snapshot.comparisons, votes, versions)
    return {
        "agreement": {**asdict(agreed), "share": agreed.share},
        "left_wins": asdict(position_bias(snapshot.comparisons, votes)),
        "win_rates": {name: {**asdict(rate), "rate": rate.rate} for name, rate in rates.items()},
    }


def show_stats(counts: Mapping[str, Any], result: Mapping[str, Any], console: Console) -> None:
    """The store's counts, then what `trust` found, then a line for each version."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in counts.items():
        if isinstance(value, int):
            table.add_row(name.replace("_", " "), f"{value:,}")
        elif isinstance(value, dict) and all(isinstance(item, int) for item in value.values()):
            for key, count in value.items():
                table.add_row(f"{name.replace('_', ' ')}: {key}", f"{count:,}")
    console.print(table)
    agreed, left = result["agreement"], result["left_wins"]
    if agreed["share"] is not None:
        alpha = "" if agreed["alpha"] is None else f", alpha {agreed['alpha']:.2f}"
        pairs = f"{agreed['agreeing']:,} of {agreed['pairs']:,} pairs of votes"
        say(console, f"Voters agree in {agreed['share']:.0%} ({pairs}{alpha}).")
    if left["share"] is not None:
        say(
            console,
            f"The left answer wins {left['share']:.0%} of {left['of']:,} decided votes "
            f"(95 % interval {left['low']:.0%} to {left['high']:.0%}; 50 % is no bias).",
        )
    if counts["versions"]:
        columns = ("answers", "up", "down"), ("wins", "losses", "ties")
        versions = Table("version", *columns[0], *columns[1], "rate", box=None, pad_edge=False)
        for name, opinion in counts["versions"].items():
            won = result["win_rates"].get(name, {})
            cells = [f"{opinion[key]:,}" for key in columns[0]]
            cells += [f"{won.get(key, 0):,}" for key in columns[1]]
            rate = won.get("rate")
            versions.add_row(plain(name), *cells, "" if rate is None else f"{rate:.0%}")
        console.print(versions)


def say(console: Console, line: str) -> None:
    """A line of plain text, wrapped at words on a terminal and nowhere else."""
    console.print(plain(line), soft_wrap=not console.is_terminal)


def plain(text: str) -> Text:
    """Text from outside without rich's markup and without what steers the terminal."""
    return Text(
        "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    )
