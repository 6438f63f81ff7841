"""`guildgpt feedback corrections`: answers as people worded them, for the operator to review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guildgpt.errors import GuildError
from guildgpt.feedback.commands import StoreOption, tell, with_store
from guildgpt.terminal import FLAG, Json, console_for, examples, print_json, say, visible

if TYPE_CHECKING:
    from guildgpt.feedback.records import (
        Correction,
        CorrectionState,
        StoredMessage,
        WaitingCorrection,
    )
    from guildgpt.feedback.store import Store

corrections_app = typer.Typer(
    help="Answers as people worded them better: what models learn from.", no_args_is_help=True
)
Ids = Annotated[
    list[str],
    typer.Argument(metavar="ID…", help="As `list` shows them; their first digits are enough."),
]


@corrections_app.command(
    "list",
    epilog=examples(
        "guildgpt feedback corrections list", "guildgpt feedback corrections list --all"
    ),
)
def list_corrections(
    everything: Annotated[
        bool, typer.Option("--all", metavar=FLAG, help="What was reviewed already, too.")
    ] = False,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Show what waits for you: what was said, the model's answer, and a person's own wording.

    Whose it is, you are not told.
    """

    async def look(opened: Store) -> list[WaitingCorrection]:
        waiting = await opened.corrections.waiting()
        if not everything:
            return waiting
        flags = {one.correction.id: one.flags for one in waiting}
        there = await opened.corrections.all()
        paths = [tuple(await opened.conversations.path_to(one.message_id)) for one in there]
        pairs = zip(there, paths, strict=True)
        return [WaitingCorrection(one, said, flags.get(one.id, ())) for one, said in pairs]

    from guildgpt.feedback.records import WaitingCorrection

    found = with_store(store, look)
    if as_json:
        told = [{"said": [_turn(turn) for turn in one.said], "flags": one.flags} for one in found]
        print_json([_shown(one.correction) | more for one, more in zip(found, told, strict=True)])
        return
    console = console_for()
    if not found:
        say(console, "Nobody has worded an answer better." if everything else "Nothing waits.")
        return
    for waiting in found:
        one = waiting.correction
        say(console, f"{one.id[:8]}  {one.state}  {one.licence or 'no licence'}")
        for turn in waiting.said:
            say(console, f"  {turn.role}: {' '.join(turn.text.split())}")
        console.print("  better:", visible(" ".join(one.text.split())), style="bold")
        say(console, *(f"  look twice: {flag}" for flag in waiting.flags), "")
    if any(one.correction.state == "offered" for one in found):
        say(console, "`guildgpt feedback corrections accept ID…` lets models learn them.")


@corrections_app.command(epilog=examples("guildgpt feedback corrections accept 3f2c91ab"))
def accept(ids: Ids, store: StoreOption = None, as_json: Json = False) -> None:
    """Let models learn from them, and from what was said above them if its author consents."""
    _review(ids, "accepted", store, as_json)


@corrections_app.command(epilog=examples("guildgpt feedback corrections refuse 3f2c91ab 9d3e"))
def refuse(ids: Ids, store: StoreOption = None, as_json: Json = False) -> None:
    """Keep them from being learned; also one that was accepted before."""
    _review(ids, "refused", store, as_json)


def _review(ids: Sequence[str], state: CorrectionState, store: str | None, as_json: bool) -> None:
    async def review(opened: Store) -> list[Correction]:
        known = await opened.corrections.all()
        meant = [_meant(id, known) for id in ids]
        return [await opened.corrections.review(one.id, state) for one in meant]

    reviewed = with_store(store, review)
    lines = [f"{state}: {one.id[:8]} {' '.join(one.text.split())}" for one in reviewed]
    tell(as_json, [_shown(one) for one in reviewed], *lines)


def _meant(id: str, known: Sequence[Correction]) -> Correction:
    """The one correction whose id begins so; GuildError if it is none, or several."""
    found = [one for one in known if one.id.startswith(id.lower())]
    if len(found) == 1:
        return found[0]
    raise GuildError(
        f"{len(found) or 'no'} corrections have an id that begins with {id!r}",
        where="ID",
        remedy="Type more of its digits: `guildgpt feedback corrections list` shows them."
        if found
        else "`guildgpt feedback corrections list --all` shows the ids.",
    )


def _shown(one: Correction) -> dict[str, Any]:
    """A correction for programs; whose it is, is nobody's business."""
    return {key: value for key, value in asdict(one).items() if key != "member_id"}


def _turn(message: StoredMessage) -> dict[str, str]:
    return {"role": message.role, "text": message.text}
