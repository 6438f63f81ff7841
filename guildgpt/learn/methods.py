"""By which method a turn learns: each as what it changes of a recipe, and which is taken when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from guildgpt.data.split import side_of
from guildgpt.errors import GuildError
from guildgpt.feedback.commands import with_store
from guildgpt.feedback.exporting.learnable import Taken, learnable, trained_on_members
from guildgpt.feedback.exporting.view import Export
from guildgpt.feedback.store import Store
from guildgpt.recipe import RATED, Recipe, Stage, find_recipe, load_recipe

MethodName = Literal["auto", "dpo", "kto", "ppo", "grpo"]
AUTO: MethodName = "auto"
BUNDLED = "learn"  # the recipe that has a section for each method


@dataclass(frozen=True, slots=True)
class Method:
    """The stages of a method, the last of which may show corrections beside its own rows; and what
    it is, in words."""

    stages: tuple[Stage, ...]
    words: str
    shows: float = 0.0  # what corrections count in the last stage, where that imitates any


METHODS: dict[MethodName, Method] = {
    "dpo": Method(("dpo",), "comparisons, directly", shows=0.2),
    "kto": Method(("kto",), "answers called good or bad, directly"),  # corrections are good ones
    "ppo": Method(("reward", "ppo"), "its own answers, scored by a reward model", shows=0.3),
    "grpo": Method(("reward", "grpo"), "its own answers, scored by a reward model", shows=0.3),
}
# From how many comparisons on which one is the default: what bench/circle.py measures.
BY_COMPARISONS: tuple[tuple[int, MethodName], ...] = ((0, "dpo"), (150, "dpo"), (500, "dpo"))


@dataclass(frozen=True, slots=True)
class Plan:
    """How a turn learns: the method (none where the recipe has its own way), why this one, and the
    recipe with what is overridden in it."""

    method: MethodName | None
    why: str
    recipe: Recipe
    overrides: list[str]


def known_method(name: str) -> MethodName:
    """The method of this name; GuildError where there is none."""
    for known in get_args(MethodName):
        if known == name:
            return known  # type: ignore[no-any-return]
    raise GuildError(
        f"there is no method `{name}`",
        where="--method",
        remedy=f"There are {', '.join(get_args(MethodName))}.",
    )


def plan(
    name: str, method: MethodName, overrides: Sequence[str], rows: Export, taken: Taken, least: int
) -> Plan:
    """How the recipe of this name learns from `rows` by a method. `auto` chooses for the bundled
    recipe, and leaves any other as it is; `overrides` go before what a method says."""
    recipe = load_recipe(find_recipe(name), overrides)
    if method == AUTO and name != BUNDLED:
        return Plan(None, "as the recipe says", recipe, list(overrides))
    chosen, why = choose(taken, least) if method == AUTO else (method, "as you say")
    row = METHODS[chosen]
    changes = [f"stages={json.dumps(row.stages)}"]
    last = row.stages[-1]
    if row.shows and _worded(rows, recipe.data.held_out):
        changes.append(f"{last}.demonstrations.weight={row.shows}")
    changes += overrides
    return Plan(chosen, why, load_recipe(find_recipe(name), changes), changes)


def choose(taken: Taken, least: int) -> tuple[MethodName, str]:
    """The default for what there is, and why it is."""
    if taken.comparisons < least <= taken.comparisons + taken.ratings:
        return "kto", f"fewer than {least:,} comparisons, and with ratings enough"
    name = next(name for count, name in reversed(BY_COMPARISONS) if taken.comparisons >= count)
    return name, f"the default at {taken.comparisons:,} comparisons"


def _worded(rows: Export, held_out: float) -> bool:
    """Whether a row to train on is one that somebody worded."""
    return any(
        "messages" in row and side_of(row["group"], held_out) == "train" for row in rows.rows
    )


def counted(recipe: Recipe, taken: Taken) -> int:
    """How many of the rows teach by the recipe's stages: comparisons, and with KTO ratings."""
    return taken.comparisons + (taken.ratings if "kto" in recipe.stages else 0)


def check_enough(recipe: Recipe, taken: Taken, least: int) -> None:
    """GuildError where there are fewer rows than a turn takes, with what was left out and why."""
    there = counted(recipe, taken)
    if there >= least:
        return
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in taken.left_out.items())
    remedy = (
        f"{least - there:,} more: votes on rounds (/rounds in Discord, `guildgpt vote` here) or "
        "corrections."
    )
    if taken.ratings and taken.comparisons + taken.ratings >= least:
        remedy += " From 👍 and 👎 learns `--method kto`."
    found = in_number(taken.comparisons, "comparison")
    if taken.ratings:
        found += f" and {in_number(taken.ratings, 'rating')}"
    raise GuildError(
        f"there is too little to learn from: {found} of the {least:,} that a turn takes"
        + (f" (left out: {reasons})" if reasons else ""),
        remedy=remedy,
    )


def in_number(count: int, what: str) -> str:
    """'1 comparison', '2 comparisons'."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def reads_ratings(recipe: Recipe) -> bool:
    """Whether any of its stages learns from ratings, or asks the prompts of what was rated."""
    return any(stage in RATED for stage in recipe.stages)


def recipe_for(
    name: str, method: str, overrides: Sequence[str] = (), *, store: str | None = None
) -> tuple[Recipe, str]:
    """A recipe that learns by a method from a store, ready to be run, and its text; without
    `guildgpt learn`, its versions and its decision. GuildError for a method that is not known."""
    chosen = known_method(method)
    source = "feedback" if store is None else f"feedback:{store}"
    overrides = [*overrides, f"data.sources={json.dumps([source])}"]

    async def work(opened: Store) -> Plan:
        rows, taken = learnable(await opened.snapshot())
        return plan(name, chosen, overrides, rows, taken, 1)

    recipe = with_store(store, work).recipe
    return recipe, find_recipe(name).read_text(encoding="utf-8")


def with_members(recipe: Recipe, members: bool) -> Recipe:
    """The recipe, members' own text switched on in its source `feedback` if that is asked for."""
    if not members:
        return recipe
    sources = [trained_on_members(spec) for spec in recipe.data.sources]
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"sources": sources})})
