"""`guildgpt push`: a model's folder to the Hugging Face Hub, after a look at what will be sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guildgpt.errors import GuildError
from guildgpt.sharing import hub
from guildgpt.sharing.parcel import Parcel, pack
from guildgpt.terminal import busy, say, visible
from guildgpt.text.figures import size

if TYPE_CHECKING:
    from rich.console import Console

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
SMALL = 1_000_000  # bytes: files below it are told in one line


def push(
    folder: Path,
    repo: str,
    console: Console,
    *,
    public: bool,
    revision: str | None,
    with_feedback: bool,
    licence: str | None,
    ask: Callable[[str], bool],
) -> dict[str, Any] | None:
    """Send a model; what was sent and where, or None where the person said no.

    GuildError for whatever stops it; before anything is sent, if that can be known before.
    """
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise GuildError(
            f"{repo} is no name on the Hub",
            remedy="It is OWNER/NAME: your account or organization there, and a name for the model "
            "in letters, digits and single hyphens, such as anna/guild-helper.",
        )
    parcel = pack(folder, repo, public=public, with_feedback=with_feedback, licence=licence)
    api = hub.log_in()
    with busy(console, "asking the Hub"):
        there = hub.look(api, repo)
    if there.private is False and not public:
        raise GuildError(
            f"{repo} is there already, and public: what is sent can be seen by everybody",
            where=repo,
            remedy="Add --public if that is meant, or choose another name.",
        )
    _show(parcel, folder, there, console, public=public, revision=revision)
    seen = public and there.private is not True
    question = "Send it, for everybody to see?" if seen else "Send it?"
    if not ask(question):
        return None
    say(console, f"sending {size(parcel.size)} …")
    url = hub.send(api, parcel.items, there, public=public, revision=revision)
    return {
        "repo": repo,
        "url": url,
        "private": there.private if there.private is not None else not public,
        "revision": revision or "main",
        "licence": parcel.licence,
        "files": {item.name: item.size for item in parcel.items},
        "left": list(parcel.left),
    }


def _show(
    parcel: Parcel,
    folder: Path,
    there: hub.There,
    console: Console,
    *,
    public: bool,
    revision: str | None,
) -> None:
    """What will be sent, and to where, before anything is."""
    from rich.table import Table

    if there.private is None:
        where = f"a new {'public' if public else 'private'} repository"
        seen = "everybody sees it" if public else f"only {_owner(there)} can see it"
    else:
        where = f"there already, {'private' if there.private else 'public'}, as it stays"
        seen = "files of the same names are replaced, in a new commit; others stay"
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("model", visible(str(folder)))
    table.add_row("to", visible(f"https://huggingface.co/{there.repo}: {where}; {seen}"))
    if revision:
        table.add_row("branch", visible(revision))
    table.add_row("as", visible(there.user))
    table.add_row("licence", visible(parcel.licence))
    large = [item for item in parcel.items if item.size >= SMALL]
    small = [item for item in parcel.items if item.size < SMALL]
    lines = [f"{item.name} ({size(item.size)})" for item in large]
    lines.append(
        f"{', '.join(item.name for item in small)} ({size(sum(item.size for item in small))})"
    )
    table.add_row("sent", visible("\n".join(lines)))
    table.add_row("", visible(f"{size(parcel.size)} in {len(parcel.items)} files"))
    if parcel.left:
        table.add_row("stays here", visible(", ".join(parcel.left)))
    console.print(table)
    say(console, *parcel.notes, "")


def _owner(there: hub.There) -> str:
    owner = there.repo.partition("/")[0]
    return "you" if owner.lower() == there.user.lower() else f"members of {owner}"
