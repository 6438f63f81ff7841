"""One stage of a run: where it lies, what it starts from, and what was gathered for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from guildgpt.bases.base import Base
from guildgpt.bases.config import BaseConfig
from guildgpt.bases.locate import locate_base
from guildgpt.data.origin import Events
from guildgpt.data.provenance import Provenance
from guildgpt.errors import GuildError, RecipeError
from guildgpt.model.lineage import read_lineage
from guildgpt.network.world import World
from guildgpt.pipeline.folder import Clock, is_disk_full, read_outcome
from guildgpt.pipeline.prepare import Gathered, Prepared, prepare, reward_folder
from guildgpt.recipe import REWARD_STAGES, Recipe, Stage
from guildgpt.train.loop import Job, Outcome, Watcher

T = TypeVar("T")


@dataclass(frozen=True)
class StageRun:
    """A stage of the run in `folder`, about to happen."""

    stage: Stage
    recipe: Recipe
    recipe_text: str
    folder: Path
    data: Gathered
    clock: Clock
    console: Console
    world: World
    warnings: list[str] = field(default_factory=list)  # what went wrong, for the report
    learned: Events = field(default_factory=set)  # what the rows that it trains on rest on

    @property
    def place(self) -> Path:
        """The stage's own folder."""
        return self.folder / self.stage

    @property
    def base(self) -> BaseConfig:
        """What it starts from."""
        return base_of(self.stage, self.recipe, self.folder)

    def job(self, watcher: Watcher) -> Job:
        """What its training is told: where, with which seed, who watches, on which devices."""
        seed = self.recipe.seed + (self.stage == "judge")
        return Job(self.place, seed, watcher, self.world)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Count what happens inside towards this part of the stage."""
        several = len(self.recipe.stages) > 1
        return self.clock(f"{self.stage}: {name}" if several else name)

    def say(self, line: str) -> None:
        """A line of plain text on the console."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        """The same for what went wrong and stops nothing; the report has it, too."""
        self.warnings.append(line)
        self.console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def measured(self, what: str, measure: Callable[[], T]) -> T | None:
        """A figure of what is trained and saved; None, and a line in the report, where it cannot be
        had. Trained weights are never lost to a measurement; only a full disk stops the run, for
        the same command measures again once there is room."""
        try:
            return measure()
        except Exception as error:  # whatever it is, the model is worth more
            if is_disk_full(error):
                raise
            said = (
                error.what if isinstance(error, GuildError) else f"{type(error).__name__}: {error}"
            )
            self.warn(f"{what} could not be measured ({said}); it is saved all the same")
            return None


def base_of(stage: Stage, recipe: Recipe, folder: Path) -> BaseConfig:
    """The recipe's base, or what the last stage before this one left that is a language model."""
    earlier = language_before(stage, recipe)
    if earlier is None:
        return recipe.model
    if read_outcome(folder / earlier) is None:
        raise RecipeError(
            f"`{stage}` starts from what `{earlier}` leaves: not there",
            where=folder / earlier / "model",
            remedy="Run the earlier stage first, or all of them.",
        )
    return recipe.model.model_copy(update={"base": str(folder / earlier / "model")})


def language_before(stage: Stage, recipe: Recipe) -> Stage | None:
    """The last stage before this one that leaves a language model, or None."""
    before = recipe.stages[: recipe.stages.index(stage)]
    return next((one for one in reversed(before) if one not in REWARD_STAGES), None)


def stage_rows(run: StageRun, base: Base) -> tuple[Prepared, list[Provenance]]:
    """The rows that a stage reads, a line on the console for each source, and where base and rows
    come from."""
    prepared = prepare(run.stage, run.recipe, run.data, base.chat)
    # The report counts comparisons too, which these stages do not read.
    conversations = Counter(row.source.name for row in prepared.conversations)
    for item, report in prepared.sources:
        rows = conversations[item.name] or report.train
        held_out = len(prepared.held_out.get(item.name, ()))
        run.say(
            f"{item.name}: {rows:,} to train on, {held_out:,} held out, "
            f"{report.duplicates:,} duplicates, {sum(report.skipped.values()):,} left out"
        )
    for reason, count in prepared.dropped.items():
        run.say(f"  {count:,} rows {reason}")
    new = [item for item, _ in prepared.sources if item not in base.provenance]
    return prepared, base.provenance + new


def card_figures(outcome: Outcome, extra: Sequence[str] = ()) -> list[str]:
    """The first lines of a model card's figures."""
    return [f"{outcome.tokens:,} tokens seen in {outcome.steps:,} steps", *extra]


def save_settings(run: StageRun, provenance: Sequence[Provenance]) -> dict[str, Any]:
    """What every model folder of a run is written with."""
    return {
        "context": run.recipe.model.context,
        "provenance": provenance,
        "recipe": run.recipe.model_dump(mode="json"),
        "dtype": run.recipe.export.dtype,
        "lineage": run.learned | _inherited(run),
    }


def _inherited(run: StageRun) -> Events:
    """What the models that a stage starts from learned from: its base and its reward model."""
    events: Events = set()
    if run.base.base not in ("scratch", "starter"):
        path = Path(run.base.base).expanduser()
        events |= read_lineage(path if path.exists() else locate_base(run.base, weights=False)[0])
    if reward := reward_folder(run.stage, run.recipe, run.folder):
        events |= read_lineage(reward)
    return events
