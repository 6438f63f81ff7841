"""A recipe that learns from a feedback store: what it learns from is taken once, into its run."""

from __future__ import annotations

from pathlib import Path

from guildgpt.data.spec import FEEDBACK
from guildgpt.errors import RecipeError
from guildgpt.feedback.commands import with_store
from guildgpt.feedback.exporting.learnable import as_source, take, taken_before
from guildgpt.recipe import RATED, Recipe


def with_feedback(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe, its source `feedback` in place of a file in the run's folder.

    Raises RecipeError for two of them, and what opening a store raises.
    """
    sources = list(recipe.data.sources)
    places = [at for at, spec in enumerate(sources) if spec.kind == FEEDBACK]
    if not places:
        return recipe
    if len(places) > 1:
        raise RecipeError("a recipe learns from one feedback store", where="data.sources")
    [at] = places
    spec = sources[at]
    store = spec.source.partition(":")[2] or None
    ratings, members = any(stage in RATED for stage in recipe.stages), spec.train_on_members
    taken = taken_before(folder) or with_store(
        store, lambda opened: take(opened, folder, ratings=ratings, members=members)
    )
    if not (taken.comparisons or taken.ratings):
        reasons = "; ".join(f"{reason}: {count:,}" for reason, count in taken.left_out.items())
        raise RecipeError(
            "there is nothing in the feedback store to learn from",
            where="data.sources",
            remedy=f"Left out: {reasons}." if reasons else "No vote on a round was cast yet.",
        )
    sources[at] = as_source(spec, folder, taken)
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"sources": sources})})
