"""`guildgpt feedback voters`: who votes, by code, and whose votes do not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from guildgpt.feedback.commands import StoreOption, with_store
from guildgpt.terminal import FLAG, Json, console_for, examples, print_json, say

if TYPE_CHECKING:
    from rich.console import Console

    from guildgpt.feedback.voting.voters import Voter

EXAMPLES = examples("guildgpt feedback voters", "guildgpt feedback voters --all --json")


def voters(
    store: StoreOption = None,
    everybody: Annotated[
        bool, typer.Option("--all", metavar=FLAG, help="Also those of whom nothing is to be said.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show who votes by position, whose votes count no more, and who votes like a machine.

    Voters have a code and no name. Which version wrote an answer is not looked at.
    """
    from guildgpt.feedback.voting.voters import Electorate

    found = with_store(store, lambda opened: opened.voters.all())
    shown = [one for one in found if everybody or one.found_at or one.flags]
    if as_json:
        print_json([asdict(one) for one in shown])
        return
    _show(shown, console_for())
    say(console_for(), Electorate.of(found).says)


def _show(found: Sequence[Voter], console: Console) -> None:
    from rich.table import Column, Table

    if not found:
        return
    counts = (Column(name, justify="right") for name in ("votes", "first wins", "last wins"))
    table = Table("voter", *counts, Column("", overflow="fold"), box=None, pad_edge=False)
    for one in found:
        said = [f"by position since {one.found_at:%Y-%m-%d}: not counted"] if one.found_at else []
        shares = ["" if share is None else f"{share:.0%}" for share in (one.first, one.last)]
        table.add_row(one.code, f"{one.votes:,}", *shares, "; ".join([*said, *one.flags]))
    console.print(table)
