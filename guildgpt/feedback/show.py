"""How `guildgpt feedback` shows what is in the store, and how far its votes can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from guildgpt.feedback.exporting.view import View
from guildgpt.feedback.records import AbuseReport, Snapshot
from guildgpt.feedback.voting.rankings import agreement, position_bias, win_rates
from guildgpt.terminal import say, visible


def trust(snapshot: Snapshot, first: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Agreement, position bias (see there for `first`) and win rates, over the votes that count."""
    votes = View(snapshot).votes
    voted = {vote.member_id for vote in snapshot.votes if vote.member_id}
    agreed = agreement(votes)
    versions = {m.id: m.version_id for m in snapshot.messages if m.version_id}
    rates = win_rates(snapshot.comparisons, votes, versions)
    return {
        "agreement": {**asdict(agreed), "share": agreed.share},
        "left_wins": asdict(position_bias(snapshot.comparisons, votes, first)),
        "voters": {"voted": len(voted), "by_position": len(voted & snapshot.by_position)},
        "win_rates": {name: {**asdict(rate), "rate": rate.rate} for name, rate in rates.items()},
    }


def show_stats(counts: Mapping[str, Any], result: Mapping[str, Any], console: Console) -> None:
    """The store's counts, then what `trust` found, then a line for each version."""
    if not counts["members"] and not counts["messages"]:
        say(console, "Nobody has talked to the bot yet.")
        return
    columns = (Column(), Column(justify="right"), Column())
    table = Table(*columns, box=None, show_header=False, pad_edge=False)
    for what, number, of_these in _lines(counts):
        table.add_row(what, f"{number:,}", of_these)
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
            f"(95% interval {left['low']:.0%} to {left['high']:.0%}; 50% is no bias).",
        )
    if (by_position := result["voters"]["by_position"]) > 0:
        say(
            console,
            f"Of {result['voters']['voted']:,} voters {by_position:,} vote by position: their "
            "votes are not counted in this (`guildgpt feedback voters`).",
        )
    if counts["versions"]:
        console.print(_versions(counts["versions"], result["win_rates"]))


def show_reports(found: Sequence[AbuseReport], console: Console) -> None:
    """A row for each report."""
    if not found:
        say(console, "There is nothing to look at: no reports, or all are done.")
        return
    names = ("reported", "looked at", "answer", "reason", "link")
    columns = [
        Column("id", overflow="fold", no_wrap=True),
        *(Column(name, overflow="fold") for name in names),
    ]
    table = Table(*columns, box=None, pad_edge=False)
    for one in found:
        table.add_row(
            one.id[:8],
            f"{one.created_at:%Y-%m-%d %H:%M}",
            f"{one.resolved_at:%Y-%m-%d %H:%M}" if one.resolved_at else "",
            visible(" ".join(one.text.split())[:200] or "(no longer kept)"),
            visible(" ".join((one.reason or "").split())),
            visible(one.link or ""),
        )
    console.print(table)


def show_versions(versions: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A row for each version, and below the table what is wrong with any."""
    if not versions:
        say(
            console,
            "No version is known yet: `guildgpt versions register MODEL` makes one known, the "
            "bot its own at its start.",
        )
        return
    table = Table(box=None, pad_edge=False)
    for column in ("version", "answers", "since", "learned from", "", "path"):
        table.add_column(column, overflow="fold", no_wrap=column in ("version", "since"))
    for one in versions:
        marks = {"candidate": one["candidate"], "erased": one["erased_at"]}
        marks["file gone"] = one["flaw"] and not one["erased_at"]
        marks["did not start"] = one["trouble"]
        table.add_row(
            visible(one["id"]),
            f"{one['share']:.0%}" if one["share"] else "-",
            f"{one['since']:%Y-%m-%d %H:%M}" if one["since"] else "",
            _kinds(one["learned"]) or "no feedback",
            ", ".join(mark for mark, is_so in marks.items() if is_so),
            visible(one["path"]),
        )
    console.print(table)
    for one in versions:
        if one["flaw"] and one["share"]:
            say(
                console,
                f"{one['id']} still answers, though {one['flaw']}: put another version in its "
                "place, with `guildgpt versions serve` or `rollback`.",
            )
        elif one["flaw"]:
            say(console, f"{one['id']} is not released: {one['flaw']}.")
        if one["trouble"]:
            say(console, f"{one['id']} did not start: {one['trouble']}")
    if not any(one["share"] for one in versions):
        say(console, "Nothing was released: the bot answers with the model of its settings.")


def _lines(counts: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """What there is, how much of it, and how much of what kind that is."""
    up, down = counts["up"], counts["down"]
    return [
        ("members", counts["members"], _kinds(counts["consents"], "consent: ")),
        ("conversations", counts["conversations"], ""),
        ("messages", counts["messages"], _kinds({"answers": counts["answers"]})),
        ("ratings", up + down, _kinds({"up": up, "down": down})),
        ("comparisons", counts["comparisons"], ""),
        ("votes", sum(counts["votes"].values()), _kinds(counts["votes"])),
        ("reports", counts["reports"], ""),
    ]


def _kinds(counts: Mapping[str, int], about: str = "") -> str:
    """'3 ranked, 1 both bad'; '' for nothing."""
    parts = [f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items() if count]
    return about + ", ".join(parts) if parts else ""


def _versions(opinions: Mapping[str, Any], rates: Mapping[str, Any]) -> Table:
    """A line for each version; wins only where versions were compared with each other."""
    columns = ["answers", "up", "down"]
    compared = any(rate["wins"] or rate["losses"] or rate["ties"] for rate in rates.values())
    against = ["wins", "losses", "ties"] if compared else []
    figures = [*columns, *against, *(["rate"] if compared else [])]
    headings = (Column(name, justify="right") for name in figures)
    table = Table("version", *headings, box=None, pad_edge=False)
    for name, opinion in opinions.items():
        won = rates.get(name, {})
        cells = [f"{opinion[key]:,}" for key in columns]
        cells += [f"{won.get(key, 0):,}" for key in against]
        if compared:
            rate = won.get("rate")
            cells.append("" if rate is None else f"{rate:.0%}")
        table.add_row(visible(name), *cells)
    return table
