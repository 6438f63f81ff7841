"""`guildgpt versions`: which models answer how much, tried on members, promoted, and taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guildgpt.feedback.commands import StoreOption, tell, with_store
from guildgpt.terminal import FLAG, Json, console_for, examples, print_json, say

if TYPE_CHECKING:
    from guildgpt.feedback.records import Decision, Release
    from guildgpt.feedback.store import Store
    from guildgpt.feedback.versions.registering import Registered
    from guildgpt.feedback.versions.releasing import Candidate, RolledBack

NEXT = (
    "A running bot takes it up within seconds, once the model has answered a first question of its "
    "own; `guildgpt versions list` says if it did not start."
)

versions_app = typer.Typer(
    help="Which models answer: try one, promote it, go back.",
    no_args_is_help=True,
)

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model folder, a GGUF file, `starter`, or a version as `list` names it.",
    ),
]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="Noted beside the release.")]


@versions_app.command("list", epilog=examples("guildgpt versions list"))
def show(store: StoreOption = None, as_json: Json = False) -> None:
    """Show every version: how much it answers since when, what it learned from, where it lies."""
    from guildgpt.feedback.show import show_versions
    from guildgpt.feedback.versions.listing import list_versions

    listed = with_store(store, list_versions)
    if as_json:
        print_json(listed)
    else:
        show_versions(listed["versions"], console_for())
        say(console_for(), *([listed["decision"]["says"]] if listed["decision"] else []))


@versions_app.command(epilog=examples("guildgpt versions register runs/starter/sft/model"))
def register(model: Model, store: StoreOption = None, as_json: Json = False) -> None:
    """Make a model known, with what it learned from; it answers nobody yet."""
    from guildgpt.feedback.versions import registering

    found = with_store(store, lambda opened: registering.register(opened, model), make=True)
    id = found.version.id
    told = [
        f"{id} is registered, and answers nobody yet.",
        f"`guildgpt versions canary {id} --share 0.2` tries it on members, "
        f"`guildgpt versions serve {id}` lets it answer everything.",
    ]
    result = {**asdict(found.version), "not_there": found.not_there}
    tell(as_json, result, *told, *_not_there(found))


@versions_app.command(epilog=examples("guildgpt versions serve runs/starter/sft/model"))
def serve(model: Model, why: Why = "", store: StoreOption = None, as_json: Json = False) -> None:
    """Let a model answer everything from now on, without asking the members."""
    from guildgpt.feedback.versions import registering, releasing

    async def work(opened: Store) -> tuple[Registered, list[Release]]:
        found = await registering.register(opened, model)
        return found, await releasing.serve(opened, found.version, why)

    found, released = with_store(store, work, make=True)
    told = [f"{found.version.id} answers everything from now on (release {released[0].number})."]
    tell(as_json, _released(released), *told, NEXT, *_not_there(found))


@versions_app.command(epilog=examples("guildgpt versions canary runs/night/dpo/model --share 0.2"))
def canary(
    model: Model,
    share: Annotated[
        float, typer.Option(metavar="SHARE", help="Of the conversations, between 0 and 1.")
    ] = 0.2,
    why: Why = "",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Try a model on members: it answers a share of the conversations, and rounds compare it."""
    from guildgpt.feedback.versions import gated, registering, releasing

    async def work(opened: Store) -> tuple[Registered, Decision, list[str]]:
        found = await registering.register(opened, model)
        begun = await releasing.begin_canary(opened, found.version, share, why=why)
        return found, begun, await gated.not_gated(opened, found.version.id)

    found, decision, warned = with_store(store, work)
    told = [
        f"{found.version.id} is the candidate: it answers {share:.0%} of the conversations, "
        f"{decision.baseline_id} the others.",
        NEXT,
        "Rounds take one answer from each until members have decided; `guildgpt versions promote` "
        "and `guildgpt versions drop` end the trial.",
    ]
    tell(as_json, asdict(decision), *told, *warned, *_not_there(found))


@versions_app.command(
    epilog=examples("guildgpt versions promote", "guildgpt versions promote night@3f2c91ab --yes")
)
def promote(
    version: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="A version that was tried; the candidate if none."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", metavar=FLAG, help="Do not ask.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", metavar=FLAG, help="Though the decision does not say that members prefer it."
        ),
    ] = False,
    why: Why = "",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Say yes to the candidate: it answers everything from now on."""
    from guildgpt.feedback.versions import registering, releasing

    async def look(opened: Store) -> Candidate:
        id = version
        if version is not None:
            id = (await registering.register(opened, version)).version.id
        return await releasing.candidate(opened, id, force=force)

    found = with_store(store, look)
    id = found.version.id
    say(console_for(as_json), found.says)
    if not yes:
        typer.confirm(f"Let {id} answer everything from now on?", abort=True, err=True)
    released = with_store(store, lambda opened: releasing.promote(opened, found, why))
    told = [
        f"{id} is promoted: it answers everything from now on (release {released[0].number}).",
        NEXT,
        "`guildgpt versions rollback` goes back.",
    ]
    tell(as_json, _released(released), *told)


@versions_app.command(epilog=examples('guildgpt versions drop --why "it talks too much"'))
def drop(why: Why = "", store: StoreOption = None, as_json: Json = False) -> None:
    """End the candidate's trial: who served before answers everything again."""
    from guildgpt.feedback.versions import releasing

    name, released = with_store(store, lambda opened: releasing.drop(opened, why))
    told = [f"{name or 'The candidate'} is dropped: {released[0].version_id} answers everything."]
    tell(as_json, _released(released), *told, "It stays registered. " + NEXT)


@versions_app.command(epilog=examples("guildgpt versions rollback"))
def rollback(why: Why = "", store: StoreOption = None, as_json: Json = False) -> None:
    """Go back to who served before; a version that is gone or marked is passed over.

    While a candidate is being tried, this ends its trial.
    """
    from guildgpt.feedback.versions import releasing

    done: RolledBack = with_store(store, lambda opened: releasing.rollback(opened, why))
    told = [f"passed over, {id}: {reason}." for id, reason in done.passed_over]
    told.append(f"{done.to} answers everything again, {done.instead_of} nothing any more.")
    tell(as_json, asdict(done), *told, NEXT)


def _released(released: list[Release]) -> Mapping[str, Any]:
    """A release as JSON has it."""
    shares = {one.version_id: one.share for one in released}
    first = released[0]
    return {"number": first.number, "kind": first.kind, "why": first.why, "shares": shares}


def _not_there(found: Registered) -> list[str]:
    if not found.not_there:
        return []
    return [
        f"Not in this store: {found.not_there:,} of the events that it learned from. They are "
        "another store's, or were erased since: then train again without them."
    ]
