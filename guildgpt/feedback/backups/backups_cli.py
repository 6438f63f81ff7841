"""`guildgpt feedback backup` and `restore`: the store as one file, to be kept and to be moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guildgpt.feedback.commands import StoreOption, check_out, store_url, tell, with_store
from guildgpt.terminal import FLAG, Json, busy, console_for, examples, say

if TYPE_CHECKING:
    from rich.console import Console

    from guildgpt.feedback.backups.manifest import Manifest
    from guildgpt.feedback.backups.writing import Tell
    from guildgpt.feedback.store import Store
    from guildgpt.feedback.versions.files import Lacking
    from guildgpt.feedback.versions.versions import KnownVersion

BACKUP = examples(
    "guildgpt feedback backup guild-2026-11-30.db", "guildgpt feedback backup moving.db --key"
)
RESTORE = examples(
    "guildgpt feedback restore guild-2026-11-30.db",
    "guildgpt feedback restore moving.db --store postgresql://user:password@host/database",
)
File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup, one file.")]
WITHOUT_KEY = (
    "The key of its members is not in it, and without the key nobody is recognised, nor can "
    "anybody be erased: keep {key}, too, and elsewhere."
)
WITH_KEY = (
    "The key of its members is in it: whoever has this file can tell who said what. Keep it as you "
    "would a password, and delete it once it has done its service."
)


def backup(
    file: File,
    key: Annotated[
        bool,
        typer.Option(
            "--key",
            metavar=FLAG,
            help="Also the key by which members are recognised: then the file alone says who is "
            "who.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", metavar=FLAG, help="Overwrite the file.")
    ] = False,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Write the whole store into one file, while bot and server go on.

    It is of one moment, readable by its owner alone, and checked once it is written. Not in it:
    models (they are named by path and hash), browsers that are signed in, links of invitation.
    """
    from guildgpt.feedback.backups.writing import back_up
    from guildgpt.feedback.storage.location import KEY_VARIABLE, has_key, key_file, member_key

    check_out(file, force)
    url = store_url(store)
    at = key_file(url)
    key_at = str(at) if at.exists() or not has_key(url) else f"${KEY_VARIABLE}"
    secret = member_key(url)

    async def work(opened: Store) -> Manifest:
        now = datetime.now(UTC)
        return await back_up(opened, file, now=now, key=secret, with_key=key, tell=counted)

    with _bar(console_for(as_json), "backing up") as counted:
        made = with_store(store, work)
    tell(
        as_json,
        _shown(made) | {"file": str(file)},
        f"{file}: {made.rows:,} rows of {made.source}, checked.",
        WITH_KEY if key else WITHOUT_KEY.format(key=key_at),
    )


def restore(
    file: File,
    replace: Annotated[
        bool,
        typer.Option("--replace", metavar=FLAG, help="Delete what is in the store already."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", metavar=FLAG, help="Do not ask.")] = False,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Put a backup back into an empty store, in SQLite or PostgreSQL, whole or not at all.

    Stop bot and server before. Members are recognised only with the key of the store that was
    backed up. Everybody signs in anew on the web page, with a link of yours.
    """
    import asyncio

    from guildgpt.feedback.backups.manifest import read_manifest
    from guildgpt.feedback.backups.restoring import contents, settle_key
    from guildgpt.feedback.backups.restoring import restore as take_in
    from guildgpt.feedback.storage.location import store_file

    console = console_for(as_json)
    with busy(console, "checking the backup"):
        manifest = read_manifest(file)
    url = store_url(store, make=True)
    settle_key(url, manifest, file)
    at = store_file(url)
    if replace and not yes and (at is None or at.is_file()):
        there = asyncio.run(contents(url))
        if there:
            typer.confirm(
                f"Delete all {there.total():,} rows that are in this store, for the backup of "
                f"{manifest.made_at:%Y-%m-%d %H:%M} UTC?",
                abort=True,
                err=True,
            )
    with _bar(console, "restoring") as counted:
        done = asyncio.run(take_in(url, file, manifest, replace=replace, tell=counted))

    async def known(opened: Store) -> list[KnownVersion]:
        return await opened.versions.all()

    lack = _lacking(console, with_store(url, known))
    lines = [
        f"{sum(done.rows.values()):,} rows are back, as they were on "
        f"{manifest.made_at:%Y-%m-%d %H:%M} UTC in {manifest.source}.",
        "Whoever had their part erased after that is back with it: erase them again.",
    ]
    if since := done.erased_since:
        were = "erasure was" if since == 1 else "erasures were"
        lines.append(
            f"In the store that was replaced {since:,} {were} made since; of whom, is not kept."
        )
    if done.rows.get("api_keys"):
        lines.append(
            "Keys of the API work as they did then: `guildgpt serve keys list` shows them."
        )
    told = {**asdict(done), **_shown(manifest), "lacking": [asdict(one) for one in lack]}
    tell(as_json, told, *lines, *(one.says for one in lack))


def _lacking(console: Console, versions: list[KnownVersion]) -> list[Lacking]:
    from guildgpt.feedback.versions.files import lacking

    with busy(console, "looking for the models"):
        return lacking(versions)


def _shown(manifest: Manifest) -> dict[str, Any]:
    """A manifest for programs, without the key."""
    shown = {name: value for name, value in asdict(manifest).items() if name != "key"}
    return shown | {"has_key": manifest.key is not None}


@contextmanager
def _bar(console: Console, what: str) -> Iterator[Tell]:
    """Rows that are done, on a terminal; elsewhere a line that it began."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    if not console.is_terminal:
        say(console, f"{what} …")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
