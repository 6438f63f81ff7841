"""What the commands that look into the store share: which one it is, opened, and how they tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from guildgpt.errors import GuildError
from guildgpt.feedback.storage.location import as_url, default_store, member_key, store_file
from guildgpt.terminal import console_for, print_json, say

if TYPE_CHECKING:
    from guildgpt.feedback.store import Store

Result = TypeVar("Result")

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="sqlite:///FILE, a file, or postgresql://…; $GUILDGPT_STORE, else a file in the "
        "user's data folder, if not given.",
    ),
]


def store_url(store: str | None, *, make: bool = False) -> str:
    """The store's URL; GuildError if no store is there, unless one is to be made."""
    url = as_url(store) if store else default_store()
    file = store_file(url)
    if not make and file is not None and not file.is_file():
        raise GuildError(
            "there is no feedback store yet",
            where=file,
            remedy="`guildgpt bot`, `guildgpt serve`, `guildgpt vote`, `guildgpt versions serve "
            "MODEL` and `guildgpt feedback import` make one; --store or $GUILDGPT_STORE names "
            "another place.",
        )
    return url


def with_store(
    store: str | None, work: Callable[[Store], Awaitable[Result]], *, make: bool = False
) -> Result:
    """What `work` finds or does in the opened store."""
    import asyncio

    from guildgpt.feedback.store import Store

    url = store_url(store, make=make)

    async def run() -> Result:
        async with await Store.open(url, key=member_key(url)) as opened:
            return await work(opened)

    return asyncio.run(run())


def check_out(out: Path, force: bool) -> None:
    """GuildError where a file cannot be made, or is there already and not to be overwritten."""
    if out.is_dir():
        raise GuildError("this is a folder", where=out, remedy="Name a file in it.")
    if not out.parent.is_dir():
        raise GuildError("there is no such folder", where=out.parent, remedy="Make it first.")
    if out.exists() and not force:
        raise GuildError("the file is there already", where=out, remedy="--force overwrites it.")


def tell(as_json: bool, result: object, *lines: str) -> None:
    """The result as JSON, or lines for people."""
    if as_json:
        print_json(result)
    else:
        say(console_for(), *lines)
