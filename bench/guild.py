"""The bot under load: 200 members in 20 guilds, 50 lost connections, 10 times kill -9.

The bot runs in a process of its own with an engine that keeps a steady pace, so that the bot is
what is measured; the simulated Discord and the members share another. About ten minutes, on an
otherwise idle machine: python -m bench.guild [--reconnects 50] [--kills 10] [--out guild.json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from simguild.journal import percentile
from simguild.load import Outcome, Plan, run

ACKNOWLEDGED_MS = 500.0
RSS_MB = 150.0


def main(arguments: Sequence[str] | None = None) -> None:
    plan, out, keep = _parse(arguments)
    console = Console()
    console.print(f"load: {_machine()}", highlight=False)
    with tempfile.TemporaryDirectory(prefix="guild-bench-") as temporary:
        folder = Path(keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outcome = asyncio.run(run(plan, folder, lambda text: console.print(text, style="dim")))
    measured = figures(outcome)
    if out:
        full = {"machine": _machine(), "plan": asdict(plan), **measured, "broken": outcome.broken}
        full["rate_limited_by"] = outcome.limited + outcome.limited_later
        out.write_text(json.dumps(full, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for one in outcome.broken[:20]:
        console.print(one, style="red", markup=False)
    for what, count in outcome.limited_later.most_common():
        console.print(f"later, 429 for {what}: {count}", style="dim", markup=False)
    console.print(table(outcome, measured))
    raise SystemExit(bool(failed(measured)))


def figures(outcome: Outcome) -> dict[str, float]:
    """Everything measured, by its name."""
    return {
        "message_acknowledged_p50_ms": percentile(outcome.messages_ms, 50),
        "message_acknowledged_p99_ms": percentile(outcome.messages_ms, 99),
        "interaction_acknowledged_p50_ms": percentile(outcome.interactions_ms, 50),
        "interaction_acknowledged_p99_ms": percentile(outcome.interactions_ms, 99),
        "answer_p50_ms": percentile(outcome.answers_ms, 50),
        "answer_p99_ms": percentile(outcome.answers_ms, 99),
        "steady_messages": len(outcome.messages_ms),
        "steady_interactions": len(outcome.interactions_ms),
        "questions": outcome.asked,
        "questions_while_away": outcome.asked_while_away,
        "answered": outcome.answered,
        "waiting_at_most": outcome.busiest,
        "lost": len(outcome.lost),
        "answered_twice": len(outcome.doubled),
        "unfinished": len(outcome.unfinished),
        "put_off": len(outcome.put_off),
        "interactions_late": len(outcome.late),
        "interactions_failed_while_away": outcome.failed_while_away,
        "forms_that_outlived_their_process": outcome.forms_outlived,
        "opinions_acknowledged": outcome.opinions,
        "opinions_missing": len(outcome.opinions_missing),
        "rate_limited_steady": outcome.limited.total(),
        "rate_limited_later": outcome.limited_later.total(),
        "violations": len(outcome.violations),
        "reconnects": outcome.reconnects,
        "kills": outcome.kills,
        "rss_mb": outcome.rss_mb,
        "cpu_cores": outcome.cpu,
        "cpu_cores_of_the_guild": outcome.own_cpu,
        "lag_of_the_guild_p99_ms": percentile(outcome.lags_ms, 99),
        "exit_status": outcome.status,
        "seconds": outcome.seconds,
    }


# What must hold: the figure, and the most it may be.
ASKED = {
    "message_acknowledged_p99_ms": ACKNOWLEDGED_MS,
    "interaction_acknowledged_p99_ms": ACKNOWLEDGED_MS,
    "lost": 0,
    "answered_twice": 0,
    "unfinished": 0,
    "put_off": 0,
    "interactions_late": 0,
    "opinions_missing": 0,
    "rate_limited_steady": 0,
    "violations": 0,
    "rss_mb": RSS_MB,
    "exit_status": 0,
}


def failed(measured: dict[str, float]) -> list[str]:
    """The figures that are not as asked; one that was not measured is not."""
    return [name for name, most in ASKED.items() if not measured[name] <= most]


def table(outcome: Outcome, measured: dict[str, float]) -> Table:
    """Figure, asked, measured."""
    shown = Table(title=f"{outcome.seconds:.0f} s of a simulated guild")
    shown.add_column("figure")
    shown.add_column("asked", justify="right")
    shown.add_column("measured", justify="right")
    wrong = failed(measured)
    for name, value in measured.items():
        asked = f"≤ {ASKED[name]:g}" if ASKED.get(name) else "0" if name in ASKED else ""
        style = "red" if name in wrong else "green" if name in ASKED else ""
        number = f"{value:,.2f}" if name.startswith("cpu") else f"{value:,.0f}"
        shown.add_row(name.replace("_", " "), asked, number, style=style)
    return shown


def _parse(arguments: Sequence[str] | None) -> tuple[Plan, Path | None, Path | None]:
    default = Plan()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--members", type=int, default=default.members)
    parser.add_argument("--guilds", type=int, default=default.guilds)
    parser.add_argument("--steady", type=float, default=default.steady, metavar="SECONDS")
    parser.add_argument("--reconnects", type=int, default=default.reconnects)
    parser.add_argument("--kills", type=int, default=default.kills)
    parser.add_argument("--rate", type=float, default=default.rate, help="the engine's tokens/s")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave store and log there")
    given = vars(parser.parse_args(arguments))
    out, keep = given.pop("out"), given.pop("keep")
    return Plan(**given), out, keep


def _machine() -> str:
    busy = Path("/proc/loadavg")
    load = busy.read_text().strip() if busy.exists() else "unknown"
    return f"{load} on {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
