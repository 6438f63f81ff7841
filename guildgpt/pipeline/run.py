"""One run of a recipe: base, stages, measurements, model folder, report.

A run lives in one folder and is resumable: what is finished is not done again, and a stage that
was interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from guildgpt.errors import RecipeError, disk_error
from guildgpt.network.hardware import pick_device
from guildgpt.network.world import World
from guildgpt.pipeline.folder import Clock, alone_in, claim, claim_data, finished, is_disk_full
from guildgpt.pipeline.inputs import claim_inputs, stage_inputs
from guildgpt.pipeline.language import language_stage
from guildgpt.pipeline.policy import policy_stage
from guildgpt.pipeline.prepare import gather
from guildgpt.pipeline.report import publish
from guildgpt.pipeline.reward import reward_stage
from guildgpt.pipeline.stage import StageRun, base_of
from guildgpt.recipe import Recipe, Stage
from guildgpt.report.report import Report

STAGES: dict[Stage, Callable[[StageRun], Report]] = {
    "pretrain": language_stage,
    "sft": language_stage,
    "reward": reward_stage,
    "judge": reward_stage,
    "dpo": policy_stage,
    "grpo": policy_stage,
    "ppo": policy_stage,
}


def run(
    recipe: Recipe,
    recipe_text: str,
    folder: Path,
    *,
    stages: Sequence[Stage] | None = None,
    console: Console,
) -> Report:
    """Execute a recipe in `folder` (or only some of its stages); the last stage's report.

    Before anything is loaded, all data is read and held against the recipe's policy.
    """
    wanted = _wanted(recipe, stages)
    with _full_disk_in_words(folder), alone_in(folder):
        claim(folder, recipe)
        world = World(pick_device())
        clock = Clock(folder / "phases.json")
        reports = {stage: finished(folder / stage) for stage in wanted}
        missing = [stage for stage in wanted if reports[stage] is None]
        if missing:
            with clock("read the data"):
                data = gather(recipe, missing, base_of(missing[0], recipe, folder))
            claim_data(folder, data.provenance)
            for warning in data.warnings:
                console.print(f"[yellow]{escape(warning)}[/]", soft_wrap=True)
        for stage in wanted:
            if (report := reports[stage]) is None:
                claim_inputs(folder / stage, stage_inputs(stage, recipe, folder))
                console.rule(f"{recipe.name}: {stage}", align="left")
                report = STAGES[stage](
                    StageRun(stage, recipe, recipe_text, folder, data, clock, console, world)
                )
            else:
                console.print(f"{recipe.name}: {stage} is finished already", highlight=False)
                report = replace(report, price_per_hour=recipe.price_per_hour)
            publish(report, stage, folder)
            reports[stage] = report
    last = reports[wanted[-1]]
    assert last is not None
    return last


@contextmanager
def _full_disk_in_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise disk_error(error, "the run", folder) from error


def _wanted(recipe: Recipe, stages: Sequence[Stage] | None) -> list[Stage]:
    """The stages to run, in the recipe's order."""
    for stage in stages or ():
        if stage not in recipe.stages:
            raise RecipeError(
                f"the recipe has no stage `{stage}`", remedy=f"It has {', '.join(recipe.stages)}."
            )
    return [stage for stage in recipe.stages if not stages or stage in stages]
