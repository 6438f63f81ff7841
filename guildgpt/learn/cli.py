"""`guildgpt learn`: take a turn of the circle, say where it stands, give a candidate up."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from guildgpt.feedback.commands import StoreOption, store_url, tell, with_store
from guildgpt.feedback.people.policy import RULE_21
from guildgpt.inherited import Terminated
from guildgpt.learn.gate_cli import gate
from guildgpt.terminal import (
    FLAG,
    STOPPED,
    Json,
    console_for,
    examples,
    needs_torch,
    print_json,
    say,
)

if TYPE_CHECKING:
    from guildgpt.feedback.records import Decision
    from guildgpt.feedback.store import Store

learn_app = typer.Typer(invoke_without_command=True)
NEXT = {
    "training": "`guildgpt learn` goes on with it, if it is not at work already.",
    "gate": "`guildgpt learn` goes on with measuring it, if it is not at work already.",
    "canary": "Rounds decide now: `guildgpt learn status` says how they stand, the same command "
    "goes on when they have.",
    "preferred": "It waits for your yes: the same command asks, `guildgpt versions promote` too.",
    "not_preferred": "It was dropped. The next turn begins with the same command.",
    "undecided": "It was dropped. The next turn begins with the same command.",
    "promoted": "It answers from now on; `guildgpt versions rollback` takes that back.",
    "dropped": "It was dropped. The next turn begins with the same command.",
}


@learn_app.callback(
    epilog=examples("guildgpt learn --dry-run", "guildgpt learn", "guildgpt learn status")
)
def learn(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Option(metavar="RECIPE", help="One that learns from the source `feedback`.")
    ] = "learn",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SECTION.KEY=VALUE", help="Override a value (may be repeated)."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="dpo, kto, ppo or grpo; auto takes the one that suits what is there.",
        ),
    ] = "auto",
    train_on_members: Annotated[
        bool,
        typer.Option(
            "--train-on-members",
            metavar=FLAG,
            help=f"Also what members who opted in to training wrote to the bot. {RULE_21}",
        ),
    ] = False,
    store: StoreOption = None,
    share: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=0.99,
            help="Of the conversations, for the candidate; the recipe's, or 0.2, if not given.",
        ),
    ] = None,
    least: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="Rows that a turn takes at least; the recipe's, or 20, if not given.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where turns work; runs/learn if not given."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar=FLAG, help="Say what would be learned from.")
    ] = False,
    again: Annotated[
        bool,
        typer.Option(
            "--again", metavar=FLAG, help="Give up the candidate there is, and begin anew."
        ),
    ] = False,
    give_up: Annotated[
        bool, typer.Option("--drop", metavar=FLAG, help="Give up the candidate there is.")
    ] = False,
    no_gate: Annotated[
        bool,
        typer.Option(
            "--no-gate",
            metavar=FLAG,
            help="Try the candidate on members unmeasured: it may loop, or answer what is unsafe.",
        ),
    ] = False,
    promote: Annotated[
        Literal["ask", "by_itself"] | None,
        typer.Option(
            help="What members prefer waits for your yes, or answers by itself: who brings friends "
            "to vote decides then. The recipe's, or ask, if not given.",
        ),
    ] = None,
    guild: Annotated[
        list[int] | None,
        typer.Option(
            metavar="ID",
            help="Only votes of this server count (may be repeated); the recipe's, or all that the "
            "bot is in, if not given.",
        ),
    ] = None,
    nightly: Annotated[
        str | None,
        typer.Option(
            "--nightly",
            metavar="TIME",
            help="Do it each night at this time, such as 03:00, and run on; or once, `now`: what a "
            "timer calls.",
        ),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE", help="Of that time: Europe/Berlin; the machine's, if not given."
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", metavar=FLAG, help="Promote what members prefer; do not ask.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take one turn of the circle; the same command goes on wherever it stands.

    The recipe's ancestor, which saw no vote, learns from all votes and corrections that stand. The
    candidate answers a share of the conversations and meets who serves in rounds; when members
    prefer it, and you say yes, it answers all.
    """
    if context.invoked_subcommand:
        return
    from guildgpt.learn.methods import known_method
    from guildgpt.learn.turn import WORK, Options, take_turn

    url = store_url(store)
    console = console_for(as_json)
    options = Options(
        url,
        recipe,
        set_ or (),
        out or WORK,
        share,
        least,
        console,
        lambda question: yes or _asked(question),
        not no_gate,
        promote,
        guild or None,
        method=known_method(method),
        members=train_on_members,
    )
    if dry_run:
        _plan(options, as_json)
        return
    if again or give_up:
        dropped = with_store(url, _drop)
        if give_up:
            there = "There is no candidate any more." if dropped else "There was no candidate."
            say(console, there)
            return
    needs_torch()
    if nightly is not None:
        from guildgpt.learn.apart import wanted_of
        from guildgpt.learn.nightly_cli import take_nights

        take_nights(wanted_of(options, is_quiet=not sys.stdout.isatty()), nightly, timezone)
        return
    try:
        decision = take_turn(options)
    except (KeyboardInterrupt, Terminated):
        print(STOPPED, file=sys.stderr)
        raise
    lines = [f"{decision.candidate_id or 'The candidate'}: {decision.state.replace('_', ' ')}"]
    lines[0] += f" ({decision.why})." if decision.why else "."
    tell(as_json, asdict(decision), *lines, NEXT[decision.state])


@learn_app.command(epilog=examples("guildgpt learn propose", "guildgpt learn propose --share 0.25"))
def propose(
    share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Of the rounds to learn from, those that ask such a pair while one waits; ½ if "
            "never said.",
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option(metavar="RECIPE", help="As of `guildgpt learn`.")
    ] = "learn",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a value."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where turns work.")] = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Write pairs for rounds to learn from of which the votes do not yet say which is better.

    A reward model with several heads learns from the votes; pairs by who serves on which its heads
    disagree wait until a round asks them. `guildgpt learn` does so at the end of each turn. Rounds
    that decide on a candidate are always drawn at random.
    """
    from guildgpt.learn.turn import WORK, Options, propose_pairs

    url = store_url(store)
    if share is not None:
        with_store(url, lambda opened: opened.proposals.set_share(share))
    needs_torch()
    work, console = out or WORK, console_for(as_json)
    options = Options(url, recipe, set_ or (), work, 0.2, 2, console, lambda _: False)
    count = propose_pairs(options)
    lines = [] if count else ["There are too few votes yet, or nobody serves: none is proposed."]
    tell(as_json, {"proposals": count}, *lines)


@learn_app.command(epilog=examples("guildgpt learn status", "guildgpt learn status --json"))
def status(store: StoreOption = None, as_json: Json = False) -> None:
    """Say how many votes there are, what a decision stands at, how many more it likely takes."""
    from guildgpt.feedback.versions.deciding import in_words
    from guildgpt.learn.turn import status as look

    found = look(store_url(store))
    decision, standing = found["decision"], found["standing"]
    if as_json:
        print_json(
            found
            | {
                "decision": asdict(decision) if decision else None,
                "standing": asdict(standing) if standing else None,
            }
        )
        return
    say(console_for(), *_lines(found))
    if standing:
        say(console_for(), in_words(standing))


learn_app.command("gate", epilog=examples("guildgpt learn gate runs/night/dpo/model"))(gate)


@learn_app.command(epilog=examples("guildgpt learn report", "guildgpt learn report --json"))
def report(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page; runs/learn/circle.html if not given."),
    ] = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Write a page of what the circle did: votes, training, gate, trial and decision of each turn,
    and the last nights."""
    from guildgpt.feedback.storage.rows import write_whole
    from guildgpt.feedback.versions.story import story
    from guildgpt.learn.turn import WORK
    from guildgpt.report.circle import render

    found = with_store(store_url(store), story)
    if as_json:
        print_json(found)
        return
    page = out or WORK / "circle.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page, render(found).encode())
    say(console_for(), f"The page: {page.resolve().as_uri()}")


def _lines(found: dict[str, Any]) -> list[str]:
    from guildgpt.learn.methods import in_number

    serving = ", ".join(f"{id} ({share:.0%})" for id, share in found["serving"])
    prompts = found["prompts"]
    lines = [
        f"Serving: {serving or 'nobody yet (guildgpt versions serve MODEL)'}",
        f"To learn from: {in_number(found['comparisons'], 'comparison')}"
        + (f", {found['corrections']:,} of them corrections" if found["corrections"] else "")
        + (f"; {in_number(found['ratings'], 'rating')}" if found["ratings"] else ""),
        *(f"  left out, {reason}: {count:,}" for reason, count in found["left_out"].items()),
        found["voters"]["says"],
        f"Prompts: {prompts['train']:,} to learn from, {prompts['decide']:,} to decide on; "
        f"{found['open_rounds']:,} rounds are open",
    ]
    if night := found["night"]:
        lines.append(f"Last night ({night.get('night')}): {night.get('words')}")
    if found["erased"]:
        lines.append(
            f"Learned from what was erased since: {', '.join(found['erased'])}. "
            "Make clean ones: guildgpt learn --again"
        )
    decision: Decision | None = found["decision"]
    if decision is None:
        return [*lines, "No candidate: `guildgpt learn` begins a turn."]
    name = decision.candidate_id or "one that is being trained"
    return [*lines, f"Candidate: {name} ({decision.state}). {NEXT[decision.state]}"]


def _asked(question: str) -> bool:
    """The operator's yes; without a terminal nobody is asked, and it waits for them."""
    if sys.stdin.isatty():
        return typer.confirm(question, err=True)
    print(f"{question}\nThere is no terminal to ask at: it waits for your yes.", file=sys.stderr)
    return False


def _plan(options: Any, as_json: bool) -> None:
    """What a turn would learn from, and how."""
    from guildgpt.learn.methods import METHODS, counted, in_number
    from guildgpt.learn.turn import check_ancestor, what_is_learned
    from guildgpt.recipe import find_recipe, load_recipe

    recipe = load_recipe(find_recipe(options.recipe), options.overrides)
    check_ancestor(recipe)
    learn = options.settled()

    async def work(store: Store) -> Any:
        return *await what_is_learned(store, options), await store.releases.current()

    taken, how, _, serving = with_store(options.store, work)
    recipe = how.recipe
    stages = ", ".join(recipe.stages)
    by = f"{how.method} ({METHODS[how.method].words}; {how.why})" if how.method else stages
    there = counted(recipe, taken)
    votes = taken.comparisons - taken.corrections
    signals = {"votes": votes, "corrections": taken.corrections, "ratings": taken.ratings}
    plan = {"recipe": recipe.name, "base": recipe.model.base, "stages": recipe.stages}
    tell(
        as_json,
        plan | {"method": how.method, "why": how.why, "signals": signals} | asdict(taken),
        f"{recipe.model.base} would learn by {by} from "
        f"{in_number(taken.comparisons, 'comparison')}"
        + (f", {taken.corrections:,} of them corrections." if taken.corrections else "."),
        *([_of_ratings(taken, recipe)] if taken.ratings else []),
        *(f"left out, {reason}: {count:,}" for reason, count in taken.left_out.items()),
        *([] if serving else ["No version serves yet: guildgpt versions serve MODEL"]),
        *([f"Too few: a turn takes {learn.least:,} (--least)."] if there < learn.least else []),
    )


def _of_ratings(taken: Any, recipe: Any) -> str:
    from guildgpt.learn.methods import in_number

    said = f"{in_number(taken.ratings, 'answer')} rated 👍 or 👎"
    read = "kto" in recipe.stages
    return f"And from {said}." if read else f"{said}: only `--method kto` learns from them."


async def _drop(store: Store) -> bool:
    """Give the candidate up; whether there was one."""
    from guildgpt.feedback.versions.releasing import UNSEEN, drop

    why = "given up by the operator"
    decision = await store.decisions.current()
    if decision is not None and decision.state in UNSEEN:
        await store.decisions.change(decision.id, state="dropped", why=why)
    elif decision is not None:
        await drop(store, why)
    return decision is not None
