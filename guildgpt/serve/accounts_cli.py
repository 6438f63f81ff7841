"""`guildgpt serve invite` and `guildgpt serve accounts`: who comes by the web page."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guildgpt.errors import GuildError
from guildgpt.feedback.commands import StoreOption, tell, with_store
from guildgpt.terminal import FLAG, Json, examples, give, say, visible

if TYPE_CHECKING:
    from rich.console import Console

    from guildgpt.feedback.records import Account
    from guildgpt.feedback.store import Store

accounts_app = typer.Typer(help="Who comes by the web page.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="As `list` shows it.")]
Address = Annotated[
    str, typer.Option("--address", metavar="URL", help="Where others reach the web page.")
]
Days = Annotated[int, typer.Option(min=1, max=365, help="Until the link lets nobody in.")]
_HERE = "http://127.0.0.1:8000"


def invite(
    operator: Annotated[
        bool,
        typer.Option(
            "--operator", metavar=FLAG, help="Not only a voter: they may do what you may."
        ),
    ] = False,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Theirs, unless they choose another.")
    ] = None,
    days: Days = 7,
    address: Address = _HERE,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Make a link by which one person comes to the web page, once.

    Once the first has come, everybody signs in by a link. A browser of yours that had the page open
    at this machine stays signed in; `guildgpt serve accounts sign-in operator` makes a link for
    another one.
    """
    role = "operator" if operator else "voter"
    lasts = timedelta(days=days)
    token = with_store(
        store,
        lambda opened: opened.accounts.invite(role, name, lasts=lasts),  # type: ignore[arg-type]
        make=True,
    )
    _tell_link(address, token, days, as_json)


@accounts_app.command("list", epilog=examples("guildgpt serve accounts list"))
def list_accounts(store: StoreOption = None, as_json: Json = False) -> None:
    """Show who has an account, who is signed in where, and which links wait."""

    async def look(opened: Store) -> dict[str, Any]:
        accounts = []
        for one in await opened.accounts.all():
            sessions = await opened.accounts.sessions(one.id)
            seen = max((session.seen_at for session in sessions), default=None)
            accounts.append(asdict(one) | {"sessions": len(sessions), "seen_at": seen})
        links = [asdict(one) for one in await opened.accounts.invitations()]
        return {"accounts": accounts, "links": links}

    give(with_store(store, look), as_json, _show)


@accounts_app.command(epilog=examples("guildgpt serve accounts end anna"))
def end(name: Name, store: StoreOption = None, as_json: Json = False) -> None:
    """Sign somebody out everywhere, for good. What they voted and wrote stays;
    `guildgpt feedback erase` takes it away."""

    async def work(opened: Store) -> Account:
        return await opened.accounts.end((await _named(opened, name)).id)

    ended = with_store(store, work)
    tell(as_json, asdict(ended), f"The account of {ended.name} has ended.")


@accounts_app.command(
    "sign-in",
    epilog=examples(
        "guildgpt serve accounts sign-in anna", "guildgpt serve accounts sign-in operator"
    ),
)
def sign_in(
    name: Name,
    days: Days = 7,
    address: Address = _HERE,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Make a link that signs somebody in who has an account: on another device, say."""

    async def work(opened: Store) -> str:
        account = await _named(opened, name)
        lasts = timedelta(days=days)
        return await opened.accounts.invite(account.role, account_id=account.id, lasts=lasts)

    _tell_link(address, with_store(store, work), days, as_json)


async def _named(opened: Store, name: str) -> Account:
    """The account by that name; GuildError where there is none, or it has ended."""
    there = [one for one in await opened.accounts.all() if one.ended_at is None]
    if found := next((one for one in there if one.name == name), None):
        return found
    from guildgpt.feedback.people.naming import LOCAL_NAME

    if name == LOCAL_NAME and not await opened.accounts.somebody_came():
        return await opened.accounts.local()
    names = ", ".join(one.name for one in there)
    raise GuildError(
        f"nobody with an account is called {name}",
        where="NAME",
        remedy=f"There are: {names}." if names else "`guildgpt serve invite` makes a link for one.",
    )


def _tell_link(address: str, token: str, days: int, as_json: bool) -> None:
    # Behind the `#` it is in no server's log, and no page is told where its visitor came from.
    link = f"{address.rstrip('/')}/join#{token}"
    said = f"Good once, for {days} day{'s' * (days > 1)}; who has it comes in, so send it to them "
    here = f"It leads to {_HERE}; --address names another place, where others find the page."
    lines = [here] if address == _HERE else []
    tell(as_json, {"link": link, "days": days}, *lines, f"{said}alone:", link)


def _show(found: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    if not found["accounts"]:
        say(console, "Nobody has an account yet.")
    else:
        table = Table(box=None, pad_edge=False)
        table.add_column("name", overflow="fold")
        for column in ("role", "since", "signed in", "seen"):
            table.add_column(column)
        for one in found["accounts"]:
            ended, seen = one["ended_at"], one["seen_at"]
            table.add_row(
                visible(one["name"]),
                one["role"],
                f"{one['created_at']:%Y-%m-%d}",
                f"ended {ended:%Y-%m-%d}" if ended else f"{one['sessions']:,}",
                f"{seen:%Y-%m-%d}" if seen else "",
            )
        console.print(table)
    if links := len(found["links"]):
        say(console, f"links that nobody has used yet: {links:,}")
