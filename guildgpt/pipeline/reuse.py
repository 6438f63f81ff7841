"""What another run has finished, taken over by one that would do the same: to tune a stage again,
its recipe is changed, and the stages before it are not trained a second time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pydantic import ValidationError

from guildgpt.errors import GuildError, RecipeError, refuse_newer
from guildgpt.pipeline.claims import differences
from guildgpt.pipeline.folder import (
    finished,
    forget_measured,
    read_json,
    read_record,
    write_json,
)
from guildgpt.pipeline.stages import STAGES
from guildgpt.recipe import Recipe, Stage, section_of
from guildgpt.train.config import RolloutConfig

SHARED = ("seed", "model", "data", "pretrain", "export")  # what changes every stage
OWN = ("recipe.json", "phases.json", "report.html", ".lock", ".lock.json")  # never taken over
LARGE = (".safetensors", ".gguf")  # replaced as a whole, never written into: linked


def take_over(earlier: Path, folder: Path, recipe: Recipe) -> list[Stage]:
    """Put the stages that the run in `earlier` finished, and that this recipe would train alike,
    into `folder`; those that are new there. The other run stays as it is.

    RecipeError where there is none, with the key that differs.
    """
    before = _recipe_of(earlier)
    if earlier.resolve() == folder.resolve():
        raise RecipeError(
            "a run cannot take over from itself",
            where="--reuse",
            remedy="Give --out the folder of a new run.",
        )
    alike = [stage for stage in recipe.stages if _same(stage, before, recipe, earlier)]
    if not alike:
        why = _why(before, recipe)
        raise RecipeError(
            f"nothing of this run can be taken over{f': {why}' if why else ''}",
            where=earlier,
            remedy="Leave --reuse out to train every stage.",
        )
    new = [stage for stage in alike if not (folder / stage).exists()]
    for stage in new:
        work = folder / f".{stage}.taking"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(earlier / stage, work, copy_function=_link_or_copy)
        if before.evaluate != recipe.evaluate:
            forget_measured(work)
        work.rename(folder / stage)
    for file in earlier.iterdir():
        if file.is_file() and file.name not in OWN and not (folder / file.name).exists():
            shutil.copy2(file, folder / file.name)
    _take_seconds(earlier, folder, new)
    return new


def _recipe_of(folder: Path) -> Recipe:
    record = read_json(folder / "recipe.json")
    refuse_newer(record, folder / "recipe.json")
    try:
        return Recipe.model_validate(record)
    except ValidationError as error:
        raise GuildError(
            "this is not the folder of a run",
            where=folder,
            remedy="Runs lie at runs/NAME; name one whose stages are to be taken over.",
        ) from error


def _same(stage: Stage, before: Recipe, now: Recipe, earlier: Path) -> bool:
    """Whether a stage is finished there, and would be trained here in the same way."""
    if stage not in before.stages or finished(earlier / stage) is None:
        return False
    sections = (*SHARED, section_of(stage))
    same = all(getattr(before, name) == getattr(now, name) for name in sections)
    halved = {"judge" in one.stages for one in (before, now)}  # which comparisons a stage reads
    if not same or (len(halved) > 1 and STAGES[stage].reads == "comparisons"):
        return False
    needs = _needed(stage, now)
    return needs == _needed(stage, before) and all(
        _same(one, before, now, earlier) for one in needs
    )


def _needed(stage: Stage, recipe: Recipe) -> list[Stage]:
    """The stages of a recipe that another starts from, or is measured by."""
    before, settings = recipe.before(stage), recipe.settings(stage)
    needed = [one for one in before if not STAGES[one].scores][-1:]
    if isinstance(settings, RolloutConfig) and not settings.reward_model and "reward" in before:
        needed.append("reward")
    if STAGES[stage].changes_answers and "judge" in before:
        needed.append("judge")
    return needed


def _why(before: Recipe, now: Recipe) -> str:
    old, new = (one.model_dump(mode="json", include=set(SHARED)) for one in (before, now))
    if changes := differences(old, new):
        key, (was, is_now) = next(iter(changes.items()))
        return f"`{key}` was {was!r} and is {is_now!r}"
    return ""


def _link_or_copy(source: str, target: str) -> None:
    if Path(source).suffix in LARGE:
        try:
            os.link(source, target)
            return
        except OSError:  # another disk, or one that knows no links
            pass
    shutil.copy2(source, target)


def _take_seconds(earlier: Path, folder: Path, stages: list[Stage]) -> None:
    """What the stages took there counts here, too."""
    known, told = (read_record(one / "phases.json") for one in (folder, earlier))
    taken = {key: told[key] for key in told if key.partition(":")[0] in stages}
    write_json(folder / "phases.json", taken | known)
