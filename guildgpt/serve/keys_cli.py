"""`guildgpt serve keys`: who may ask the API, and how much."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guildgpt.feedback.commands import StoreOption, tell, with_store
from guildgpt.terminal import Json, examples, give, say, visible

if TYPE_CHECKING:
    from rich.console import Console

    from guildgpt.feedback.records import ApiKey
    from guildgpt.feedback.store import Store

keys_app = typer.Typer(help="Keys of those who may ask the API.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose it is: anna, the-lab.")]


@keys_app.command(
    epilog=examples(
        "guildgpt serve keys add anna",
        "guildgpt serve keys add the-lab --requests 60 --tokens 1000000",
    )
)
def add(
    name: Name,
    requests: Annotated[
        int | None, typer.Option(min=1, metavar="COUNT", help="A minute at most; any if not given.")
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="COUNT",
            help="A day (UTC) at most, of prompts and answers; any if not given.",
        ),
    ] = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Make a key, and print it once: the store has only its hash.

    A server that runs takes it within seconds. From the first key on, whoever asks needs one.
    """
    secret = with_store(store, lambda opened: opened.keys.add(name, requests, tokens), make=True)
    said = "The key of {name}, shown this once; clients send it as their API key:"
    tell(as_json, {"name": name, "key": secret}, said.format(name=name), secret)


@keys_app.command("list", epilog=examples("guildgpt serve keys list"))
def list_keys(store: StoreOption = None, as_json: Json = False) -> None:
    """Show the keys, their limits, and what they used today (UTC)."""

    async def look(opened: Store) -> list[dict[str, Any]]:
        used = await opened.keys.used_today()
        return [_shown(one, used.get(one.id, Counter())) for one in await opened.keys.all()]

    give(with_store(store, look), as_json, _table)


@keys_app.command(epilog=examples("guildgpt serve keys remove anna"))
def remove(name: Name, store: StoreOption = None, as_json: Json = False) -> None:
    """Let a key ask no more: servers that run know within five seconds."""
    with_store(store, lambda opened: opened.keys.end(name))
    tell(as_json, {"name": name}, f"The key of {name} counts no more.")


def _shown(key: ApiKey, used: Counter[str]) -> dict[str, Any]:
    """A key for people and programs."""
    return {
        "name": key.name,
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_day": key.tokens_per_day,
        "made": key.created_at,
        "seen": key.seen_at,
        "requests_today": used["requests"],
        "tokens_today": used["tokens"],
    }


def _table(found: list[dict[str, Any]], console: Console) -> None:
    from rich.table import Table

    if not found:
        say(console, "There is no key yet: `guildgpt serve keys add NAME` makes one.")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("name", overflow="fold")
    for column in ("per minute", "tokens a day", "seen"):
        table.add_column(column, no_wrap=True)
    for column in ("asked today", "tokens today"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in found:
        limits = [one["requests_per_minute"], one["tokens_per_day"]]
        table.add_row(
            visible(one["name"]),
            *("any" if limit is None else f"{limit:,}" for limit in limits),
            "never" if one["seen"] is None else f"{one['seen']:%Y-%m-%d}",
            *(f"{one[count]:,}" for count in ("requests_today", "tokens_today")),
        )
    console.print(table)
