"""`guildgpt learn gate`: hold one model against another by hand, as a turn does its candidate."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guildgpt.errors import GuildError
from guildgpt.feedback.commands import StoreOption, store_url, with_store
from guildgpt.terminal import Json, console_for, give, needs_torch, say
from guildgpt.text.figures import NONE, decimals, percent, sign, signed, visible

if TYPE_CHECKING:
    from rich.console import Console

    from guildgpt.feedback.store import Store

WORK = Path("runs") / "gate"
STYLES = {"passed": "green", "failed": "bold red", "advisory": "yellow", "not measured": "dim"}


def gate(
    candidate: Annotated[
        str, typer.Argument(metavar="CANDIDATE", help="A model folder, a GGUF, or a version.")
    ],
    serving: Annotated[
        str | None,
        typer.Argument(metavar="[SERVING]", help="Who it is held against; who serves if none."),
    ] = None,
    recipe: Annotated[
        str, typer.Option(metavar="RECIPE", help="Whose [gate] and ancestor are meant.")
    ] = "learn",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SECTION.KEY=VALUE", help="Override a value (may be repeated)."
        ),
    ] = None,
    store: StoreOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where what is measured is kept; runs/gate if none."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a model as the gate of a turn does, without a judge; nothing is tried or dropped.

    Where there is a store, its log has the result, and `guildgpt versions canary` knows it.
    """
    needs_torch()
    from guildgpt.feedback.versions.gated import note_gate
    from guildgpt.learn.gate import check_base
    from guildgpt.learn.measuring import Contest, measure
    from guildgpt.recipe import find_recipe, load_recipe

    loaded = load_recipe(find_recipe(recipe), set_ or ())
    check_base(loaded)
    url = _store(store, candidate, serving)
    (name, at), (other, other_at) = _place(url, candidate), _place(url, serving)
    contest = Contest(name, at, other, other_at, loaded.model.base)
    work = out or WORK
    found = measure(contest, loaded, work, console_for(as_json))
    if url:
        with_store(url, lambda opened: note_gate(opened, found))
    if out is None:
        shutil.rmtree(work, ignore_errors=True)
    give(found, as_json, show)


def _store(store: str | None, *models: str | None) -> str | None:
    """The store's URL; None where there is none, and nothing that is asked lies in it."""
    from guildgpt.model.version import is_id

    try:
        return store_url(store)
    except GuildError:
        if store or None in models or any(is_id(one) for one in models if one):
            raise
        return None


def _place(url: str | None, model: str | None) -> tuple[str, str]:
    """A model's version, and where it lies; None is who serves."""
    from guildgpt.feedback.versions.registering import known, refuse_flawed
    from guildgpt.feedback.versions.releasing import served
    from guildgpt.learn.gate import model_at
    from guildgpt.model.locate import locate
    from guildgpt.model.version import is_id, version_of

    if model is not None and not is_id(model):
        version = version_of(locate(model))
        return version.id, model_at(version.path)

    async def look(store: Store) -> tuple[str, str]:
        line = served(await store.releases.history())
        if model is None and not line:
            raise GuildError(
                "no version serves yet that the candidate could be held against",
                remedy="Name a second model.",
            )
        found = await known(store, model or line[-1])
        refuse_flawed(found)
        return found.id, model_at(found.path)

    return with_store(url, look)


def show(found: Mapping[str, Any], console: Console) -> None:
    """A gate's measures as a table, and what follows in a sentence."""
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(
        "",
        *(Column(one, justify="right") for one in ("candidate", "who serves", "difference")),
        "bound",
        "",
        title=f"The gate: {visible(found['candidate'])} against {visible(found['serving'])}",
        title_justify="left",
    )
    for one in found["measures"]:
        state = Text(one["state"], style=STYLES[one["state"]])
        table.add_row(one["title"], *figures(one), one["bound"], state)
    console.print(table)
    for one in found["measures"]:
        if one["why"]:
            say(console, f"{one['title']}: {one['why']}.")
    say(console, "It passes." if found["passed"] else "It does not pass.")


def figures(measure: Mapping[str, Any]) -> list[str]:
    """A measure's two figures, and their difference with its interval, as people read them."""
    unit, low, high = measure["unit"], measure["low"], measure["high"]
    digits = 3 if unit == "bits" else 1
    one = percent if unit == "share" else partial(decimals, digits=digits)
    found = [one(measure["candidate"]), one(measure["serving"])]
    if measure["difference"] is None:
        between = f"{decimals(low, 1)} to {decimals(high, 1)}" if low is not None else NONE
        return [*found, between]
    by_unit: dict[str, Callable[[Any], str]] = {
        "share": partial(signed, unit=""),
        "tokens": lambda value: f"{decimals(value, 2)}×",
        "bits": partial(sign, digits=3),
    }
    told = by_unit[unit]
    return [*found, f"{told(measure['difference'])} ({told(low)} to {told(high)})"]
