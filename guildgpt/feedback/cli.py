"""`guildgpt feedback`: look at what members said, write it out, note who learned from it, erase."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guildgpt.errors import GuildError
from guildgpt.feedback.backups import backups_cli
from guildgpt.feedback.commands import StoreOption, check_out, store_url, tell, with_store
from guildgpt.feedback.people.policy import RULE_21
from guildgpt.feedback.voting import voters_cli
from guildgpt.feedback.voting.corrections_cli import corrections_app
from guildgpt.feedback.voting.prompts_cli import prompts_app
from guildgpt.terminal import FLAG, Json, console_for, examples, print_json

if TYPE_CHECKING:
    from guildgpt.feedback.records import AbuseReport, AccountKind, Erasure
    from guildgpt.feedback.store import Store

feedback_app = typer.Typer(
    help="Votes, ratings and conversations: count, export, import, erase.", no_args_is_help=True
)
feedback_app.add_typer(prompts_app, name="prompts")
feedback_app.add_typer(corrections_app, name="corrections")
feedback_app.command(epilog=voters_cli.EXAMPLES)(voters_cli.voters)
feedback_app.command(epilog=backups_cli.BACKUP)(backups_cli.backup)
feedback_app.command(epilog=backups_cli.RESTORE)(backups_cli.restore)

Web = Annotated[
    bool,
    typer.Option("--web", metavar=FLAG, help="It is the name of their account on the web page."),
]
Guild = Annotated[int | None, typer.Option("--guild", metavar="ID", help="Only of this server.")]


@feedback_app.command(
    epilog=examples("guildgpt feedback stats", "guildgpt feedback stats --store feedback.db")
)
def stats(store: StoreOption = None, guild: Guild = None, as_json: Json = False) -> None:
    """Count what is in the store, and say how far the votes agree."""
    from guildgpt.feedback.show import show_stats, trust
    from guildgpt.feedback.voting.blind import first_shown

    async def look(opened: Store) -> tuple[dict[str, Any], dict[str, Any]]:
        snapshot = await opened.snapshot(guild_id=guild)
        return asdict(await opened.stats(guild)), trust(snapshot, first_shown(opened, snapshot))

    counts, trusted = with_store(store, look)
    result = {**counts, **trusted}
    if as_json:
        print_json(result)
    else:
        show_stats(counts, result, console_for())


@feedback_app.command(
    epilog=examples(
        "guildgpt feedback export preference --out pairs.jsonl",
        "guildgpt feedback export oasst --out trees.jsonl.gz",
    )
)
def export(
    form: Annotated[
        str, typer.Argument(metavar="FORM", help="oasst, preference, kto, sft or arena.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="JSON lines; gzipped if it ends in .gz.")
    ],
    store: StoreOption = None,
    guild: Guild = None,
    train_on_members: Annotated[
        bool,
        typer.Option(
            "--train-on-members",
            envvar="GUILDGPT_TRAIN_ON_MEMBERS",
            metavar=FLAG,
            help=f"Also text of members who opted in to training. {RULE_21}",
        ),
    ] = False,
    train_on_slash: Annotated[
        bool,
        typer.Option(
            "--train-on-slash",
            metavar=FLAG,
            help="Also what members who opted in to training typed into slash commands; no other "
            "text of theirs.",
        ),
    ] = False,
    margin: Annotated[
        bool,
        typer.Option(
            "--margin", metavar=FLAG, help="preference: add the lead in votes to every row."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", metavar=FLAG, help="Overwrite the file.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the feedback as rows that others read, and say what was left out and why.

    oasst: Open-Assistant's trees. preference, kto: as TRL reads them. sft: conversations whose
    last answer was rated up and never down. arena: battles as Chatbot Arena publishes them.

    Without switches no text that a member wrote leaves: neither it nor what was said below it.
    Votes and ratings on prompts that no member wrote always leave, without names.
    """
    from guildgpt.feedback.exporting.exports import FORMS, write_lines
    from guildgpt.feedback.exporting.exports import export as rows_of
    from guildgpt.feedback.exporting.view import Switches

    chosen = next((known for known in FORMS if known == form), None)
    if chosen is None:
        raise _unknown_form(form, FORMS)
    check_out(out, force)
    snapshot = with_store(store, lambda opened: opened.snapshot(guild_id=guild))
    switches = Switches(members=train_on_members, slash=train_on_slash)
    exported = rows_of(snapshot, chosen, switches=switches, margin=margin)
    if not exported.rows:
        raise GuildError(
            f"there is nothing to export as {form}",
            remedy=_reasons(exported.left_out) or "No vote and no rating is in the store.",
        )
    write_lines(out, exported.rows)
    rows = len(exported.rows)
    tell(
        as_json,
        {"file": str(out), "rows": rows, "left_out": dict(exported.left_out)},
        f"{out}: {rows:,} row{'s' * (rows != 1)}",
        *_left_out(exported.left_out),
    )


@feedback_app.command(
    epilog=examples("guildgpt feedback learned runs/tonight --rows pairs.jsonl --rows kto.jsonl")
)
def learned(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="What was trained: a model folder, a GGUF file, or a version as `stats` names it.",
        ),
    ],
    rows: Annotated[
        list[Path], typer.Option("--rows", metavar="FILE", help="An export that it learned from.")
    ],
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Note what a model was trained on, so that an erasure can name it.

    Every row of an export says which messages, votes and ratings it rests on; those are noted
    beside the model's version. Once a member has their part erased, `guildgpt feedback erase`
    says which versions to train again.
    """
    from guildgpt.data.origin import read_origin
    from guildgpt.model.version import named

    store_url(store)  # say what is wrong before reading gigabytes
    origins = [read_origin(file) for file in rows]
    events = {event for one in origins for event in one.events}
    if not events:
        raise GuildError(
            "no row says which feedback it rests on",
            where=rows[0],
            remedy="Take a file that `guildgpt feedback export` wrote; older ones did not say.",
        )
    version = named(model)
    id = version if isinstance(version, str) else version.id

    async def note(opened: Store) -> set[tuple[str, str]]:
        gone = await opened.versions.learned(id, events)
        if gone != events and not isinstance(version, str):
            await opened.versions.register(version)
        return gone

    gone = with_store(store, note)
    if gone == events:
        raise GuildError(
            "nothing that these rows rest on is in this store",
            where=rows[0],
            remedy="Is it the store that they were exported from (--store)? Or was all of it "
            "erased since: then train without them.",
        )
    counts = Counter(kind for kind, _ in sorted(events - gone))
    silent = sum(one.unknown for one in origins)
    lines = [f"{id} learned from {_counted(counts)}."]
    if gone:
        lines.append(
            f"{len(gone):,} more are not in the store any more. If members had them "
            "erased, train again without those rows."
        )
    if silent:
        lines.append(f"{silent:,} rows do not say what they rest on: nothing is noted for them.")
    noted = {"version": id, "noted": counts, "gone": len(gone), "rows_unknown": silent}
    tell(as_json, noted, *lines)


@feedback_app.command(
    epilog=examples("guildgpt feedback reports", "guildgpt feedback reports --looked-at 3f2c91ab")
)
def reports(
    store: StoreOption = None,
    guild: Guild = None,
    everything: Annotated[
        bool,
        typer.Option("--all", metavar=FLAG, help="Also those that somebody has looked at."),
    ] = False,
    looked_at: Annotated[
        str | None,
        typer.Option(
            "--looked-at",
            metavar="ID",
            help="Take one off the list, by its id or the first digits of it.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what members reported with 🚩, the newest first: where, what and why.

    Who reported it is not shown. In Discord admins see the reports of their server with `/reports`.
    """
    from guildgpt.feedback.show import show_reports

    async def look(opened: Store) -> list[AbuseReport]:
        found = await opened.reports.newest(guild, resolved=everything or bool(looked_at))
        if looked_at is None:
            return found
        meant = [one for one in found if one.id.startswith(looked_at.lower())]
        if len(meant) != 1:
            raise GuildError(
                f"{len(meant) or 'no'} reports have an id that begins with {looked_at}",
                where="--looked-at",
                remedy="`guildgpt feedback reports` shows the ids.",
            )
        seen = await opened.reports.resolve(meant[0].id)
        return [seen] if seen else []

    found = with_store(store, look)
    if as_json:
        print_json([{**asdict(one), "link": one.link} for one in found])
    else:
        show_reports(found, console_for())


@feedback_app.command("import", epilog=examples("guildgpt feedback import trees.jsonl.gz"))
def import_trees(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Open-Assistant trees or messages; plain or .gz.")
    ],
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Take Open-Assistant's trees into the store; what is there already is passed over."""
    from guildgpt.feedback.exporting.oasst_import import read

    left_out: Counter[str] = Counter()
    snapshot = read(file, now=datetime.now(UTC), left_out=left_out)
    if not snapshot.messages:
        raise GuildError(
            "there is no message to import",
            where=file,
            remedy=_reasons(left_out) or "The file is empty.",
        )

    counts = with_store(store, lambda opened: opened.add_snapshot(snapshot), make=True)
    tell(
        as_json,
        {"file": str(file), "counts": dict(counts), "left_out": dict(left_out)},
        *_kinds(counts),
        *_left_out(left_out),
    )


@feedback_app.command(
    epilog=examples("guildgpt feedback member 80351110224678912 --out member.json")
)
def member(
    user_id: Annotated[
        str, typer.Argument(metavar="USER_ID", help="The Discord id of a user: 17 to 20 digits.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A file of JSON to write.")],
    web: Web = False,
    store: StoreOption = None,
    force: Annotated[
        bool, typer.Option("--force", metavar=FLAG, help="Overwrite the file.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write out everything that is kept of a member, for whoever asks what you keep of them.

    It is what they get from the button under `/privacy`: their messages and the answers to them,
    their ratings, votes and reports, their choice, and when. Other people's words are not in it.
    """
    from guildgpt.feedback.erasing.own_data import SECTIONS, write_record

    user = user_id if web else _user_id(user_id)
    check_out(out, force)

    async def look(opened: Store) -> dict[str, Any] | None:
        if isinstance(user, str):
            return await opened.privacy.kept_of_account("web", user)
        return await opened.privacy.kept_of(user)

    kept = with_store(store, look)
    if kept is None:
        raise GuildError(
            "nothing of this user is in the store",
            where="USER_ID",
            remedy="Is it the store that the bot uses (--store)? Or was it erased already?",
        )
    write_record(out, kept)
    counts = {section: len(kept[section]) for section in SECTIONS}
    told = [f"{out}: what is kept of user {user}", *_kinds(counts)]
    tell(as_json, {"file": str(out), **counts}, *told)


@feedback_app.command(
    epilog=examples(
        "guildgpt feedback erase 80351110224678912",
        "guildgpt feedback erase anna --account",
        "guildgpt feedback erase anna --web",
    )
)
def erase(
    user_id: Annotated[
        str, typer.Argument(metavar="USER_ID", help="The Discord id of a user: 17 to 20 digits.")
    ],
    account: Annotated[
        bool,
        typer.Option(
            "--account", metavar=FLAG, help="It is the name under which they `guildgpt vote`."
        ),
    ] = False,
    web: Web = False,
    store: StoreOption = None,
    yes: Annotated[bool, typer.Option("--yes", metavar=FLAG, help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Erase everything of a member, and name the model versions that learned from it."""

    kind: AccountKind | None = "web" if web else "terminal" if account else None
    user = user_id if kind else _user_id(user_id)
    store_url(store)  # say what is wrong before asking
    if not yes:
        typer.confirm(
            f"Erase everything of user {user} for ever: texts, answers to them, votes, ratings?",
            abort=True,
            err=True,
        )

    from guildgpt.feedback.erasing.purging import purge

    async def work(opened: Store) -> tuple[Erasure, int]:
        if kind is not None:
            erasure = await opened.privacy.erase_account(kind, user_id)
        else:
            erasure = await opened.privacy.erase(int(user))
        return erasure, await purge(opened)

    erasure, files = with_store(store, work)
    lines = _kinds(erasure.counts)
    if not erasure.counts:
        lines.append("Nothing of this user was in the store.")
    if erasure.versions:
        lines.append(f"Learned from it: {', '.join(erasure.versions)}. Train these again.")
    if files:
        lines.append(f"files of turns that learned from it: {files:,}")
    tell(as_json, asdict(erasure), *lines)


# What the commands share


def _unknown_form(form: str, known: tuple[str, ...]) -> GuildError:
    near = get_close_matches(form, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}? " if near else ""
    return GuildError(
        f"there is no form `{form}`", where="FORM", remedy=f"{hint}The forms: {', '.join(known)}."
    )


def _user_id(text: str) -> int:
    """The id, also as Discord's own mention `<@…>` spells it."""
    found = re.fullmatch(r"(?:<@!?)?(\d{1,19})>?", text.strip())
    if found is None or int(found[1]) >= 2**63:
        raise GuildError(
            f"{text!r} is no user id",
            where="USER_ID",
            remedy="Discord shows it after a right click on the user (Copy User ID), once "
            "Settings > Advanced > Developer Mode is on.",
        )
    return int(found[1])


def _kinds(counts: Mapping[str, int]) -> list[str]:
    return [f"{what.replace('_', ' ')}: {count:,}" for what, count in counts.items()]


def _left_out(counts: Counter[str]) -> list[str]:
    return [f"left out, {reason}: {count:,}" for reason, count in counts.most_common()]


def _reasons(left_out: Counter[str]) -> str:
    """What was left out, in one sentence; '' for nothing."""
    counts = ", ".join(f"{reason}: {count:,}" for reason, count in left_out.most_common())
    return f"Left out: {counts}." if counts else ""


def _counted(counts: Mapping[str, int]) -> str:
    """'3 messages, 1 vote'."""
    return ", ".join(f"{count:,} {kind}{'s' * (count != 1)}" for kind, count in counts.items())
