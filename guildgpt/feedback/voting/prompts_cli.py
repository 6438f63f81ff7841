"""`guildgpt feedback prompts`: what rounds ask, and what members would like them to ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guildgpt.errors import GuildError
from guildgpt.feedback.commands import StoreOption, store_url, tell, with_store
from guildgpt.terminal import FLAG, Json, console_for, examples, print_json, say, visible

if TYPE_CHECKING:
    from guildgpt.feedback.records import PoolPrompt, PromptState
    from guildgpt.feedback.store import Store

prompts_app = typer.Typer(
    help="The prompt pool: what rounds ask, and what members submitted.", no_args_is_help=True
)
Ids = Annotated[
    list[str],
    typer.Argument(metavar="ID…", help="As `list` shows them; their first digits are enough."),
]


@prompts_app.command(
    epilog=examples(
        "guildgpt feedback prompts add oasst1 --limit 1000",
        "guildgpt feedback prompts add ours.txt --licence own",
        "guildgpt feedback prompts add theirs.jsonl --licence CC-BY-4.0 --credit 'Some Body'",
    )
)
def add(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="JSON lines with `prompt`; plain text, a prompt a line; `oasst1`, `oasst2`, "
            "`oasst:PATH` or `starter`.",
        ),
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, help="The first so many that can be used.")
    ] = None,
    licence: Annotated[
        str,
        typer.Option(
            metavar="SPDX", help="Of a file: an id such as CC-BY-4.0; `own` if you wrote it."
        ),
    ] = "",
    credit: Annotated[
        str, typer.Option(metavar="TEXT", help="Of a file: whom the licence wants to be named.")
    ] = "",
    lang: Annotated[
        str, typer.Option(metavar="CODE", help="The language; of Open-Assistant which to take.")
    ] = "en",
    held_out: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Of Open-Assistant: the share that your models' recipes hold out; 1 takes all, "
            "for models that were not trained on it.",
        ),
    ] = 0.05,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Take prompts into the pool.

    Half of them decide between a candidate and the version that serves, the others gather votes to
    learn from: which, follows from the text. None may have been trained on already: of
    Open-Assistant only those trees are taken that the recipes hold out.
    """
    from guildgpt.feedback.voting.pool import Reading, read

    store_url(store, make=True)  # say what is wrong before reading
    how = Reading(licence=licence, credit=credit, lang=lang, limit=limit, held_out=held_out)
    found = read(source, how)
    reasons = [f"left out, {why}: {count:,}" for why, count in found.left_out.most_common()]
    if not found.prompts:
        raise GuildError(
            "there is no prompt to take",
            where=source,
            remedy="\n".join(reasons) or "The source is empty.",
        )
    added = with_store(store, lambda opened: opened.prompts.add(found.prompts), make=True)
    counts = {name: added[name] for name in ("decide", "train", "already_there")}
    lines = [
        f"taken into the pool: {added['decide'] + added['train']:,} "
        f"({added['decide']:,} to decide, {added['train']:,} to learn from)"
    ]
    if there := added["already_there"]:
        lines.append(f"there already: {there:,}")
    tell(as_json, {**counts, "left_out": dict(found.left_out)}, *lines, *reasons)


@prompts_app.command(
    "list",
    epilog=examples("guildgpt feedback prompts list", "guildgpt feedback prompts list --offered"),
)
def list_prompts(
    offered: Annotated[
        bool,
        typer.Option("--offered", metavar=FLAG, help="What members submitted and nobody judged."),
    ] = False,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Show the pool: what is asked, whose it is and under which licence."""
    found = with_store(store, lambda opened: opened.prompts.all("offered" if offered else None))
    if as_json:
        print_json([_shown(one) for one in found])
        return
    console = console_for()
    if not found:
        say(console, _EMPTY if not offered else "No prompt waits for you: nobody submitted one.")
        return
    _table(found)
    states = [one.state for one in found]
    say(console, ", ".join(f"{states.count(s):,} {s}" for s in dict.fromkeys(states)))
    if "offered" in states:
        say(console, "`guildgpt feedback prompts accept ID…` lets rounds ask them, `refuse` not.")


@prompts_app.command(epilog=examples("guildgpt feedback prompts accept 3f2c91ab"))
def accept(ids: Ids, store: StoreOption = None, as_json: Json = False) -> None:
    """Let rounds ask what members submitted."""
    _judge(ids, "accepted", store, as_json)


@prompts_app.command(epilog=examples("guildgpt feedback prompts refuse 3f2c91ab 9d3e"))
def refuse(ids: Ids, store: StoreOption = None, as_json: Json = False) -> None:
    """Keep prompts out of the rounds: members' submissions, or any other of the pool."""
    _judge(ids, "refused", store, as_json)


_EMPTY = (
    "The pool is empty. The first round fills it with the starter pack's prompts; "
    "`guildgpt feedback prompts add oasst1 --limit 1000` takes more."
)


def _judge(ids: Sequence[str], state: PromptState, store: str | None, as_json: bool) -> None:
    async def judge(opened: Store) -> list[PoolPrompt]:
        known = await opened.prompts.all()
        meant = [_meant(id, known) for id in ids]
        return [await opened.prompts.judge(one.id, state) for one in meant]

    judged = with_store(store, judge)
    lines = [f"{state}: {one.id[:8]} {' '.join(one.text.split())}" for one in judged]
    tell(as_json, [_shown(one) for one in judged], *lines)


def _meant(id: str, known: Sequence[PoolPrompt]) -> PoolPrompt:
    """The one prompt whose id begins so; GuildError if it is none, or several."""
    found = [one for one in known if one.id.startswith(id.lower())]
    if len(found) == 1:
        return found[0]
    raise GuildError(
        f"{len(found) or 'no'} prompts have an id that begins with {id!r}",
        where="ID",
        remedy="Type more of its digits: `guildgpt feedback prompts list` shows them."
        if found
        else "`guildgpt feedback prompts list` shows the ids.",
    )


def _shown(one: PoolPrompt) -> dict[str, Any]:
    """A prompt for programs; who submitted it is nobody's business."""
    shown = asdict(one)
    shown["submitted"] = shown.pop("member_id") is not None
    return shown


def _table(found: Sequence[PoolPrompt]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("id", "state", "for", "source", "licence", "prompt"):
        folds = column in ("source", "prompt")
        table.add_column(column, overflow="fold", no_wrap=not folds)
    for one in found:
        source = one.source.partition("@")[0]  # without the revision
        cells = (source, one.licence, " ".join(one.text.split()))
        table.add_row(one.id[:8], one.state, one.purpose, *map(visible, cells))
    console_for().print(table)
