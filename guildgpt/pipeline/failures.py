"""What stops a run, in words: what it was, what of the training is kept, and what to do about it.

Whatever a library raises in the middle of a run ends here. The whole of it goes into a file of the
run's folder, for whoever mends it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import get_args

from guildgpt.errors import GuildError, disk_error
from guildgpt.pipeline.folder import (
    STOPPED,
    checkpoints,
    is_disk_full,
    read_outcome,
    read_record,
    write_json,
)
from guildgpt.recipe import Recipe, Stage, section_of
from guildgpt.train.guards import GuardError, LossError
from guildgpt.unforeseen import is_no_memory, unforeseen

ERROR_TXT = "error.txt"


@contextmanager
def in_words(folder: Path, recipe: Recipe, stage: Stage | None = None) -> Iterator[None]:
    """Whatever stops the run in here, as an error that a person can read; `stage` is the one that
    is at work, if one is."""
    try:
        yield
    except LossError as error:
        raise _no_number(error, folder, recipe, stage) from error
    except GuardError as error:
        raise _guarded(error, folder, recipe, stage) from error
    except GuildError:
        raise
    except Exception as error:
        if is_no_memory(error):
            raise GuildError(
                "there is not enough memory for this",
                where=folder,
                remedy="Lower micro_tokens of the stage, which may be changed at any time, and for "
                "`ppo` and `grpo` sample_rows; the same command then goes on from the last "
                "checkpoint. What the weights themselves need, a smaller base alone makes less.",
            ) from error
        if isinstance(error, OSError) and is_disk_full(error):
            raise disk_error(error, "the run", folder) from error
        at = f"`{stage}` stopped" if stage else "the run stopped"
        kept = kept_words(folder, stage)
        raise unforeseen(error, folder / ERROR_TXT, at=at, kept=kept) from error


def kept_words(folder: Path, stage: Stage | None) -> str:
    """What of the training is not lost, in a sentence."""
    if stage and read_outcome(folder / stage):
        return f"Its model is trained, and stands in {folder / stage / 'model'}."
    if stage and (steps := checkpoints(folder / stage)):
        return f"Nothing before step {steps[-1]} is lost: the same command goes on from there."
    done = [one for one in get_args(Stage) if read_outcome(folder / one)]
    if done:
        return f"What is finished is kept: {', '.join(done)}."
    return "Nothing was trained yet."


def _no_number(error: LossError, folder: Path, recipe: Recipe, stage: Stage | None) -> GuildError:
    """What helps a stage whose loss is no number: weights that overflow from the beginning want
    another precision, those that do so on the way smaller steps; and where it goes on."""
    if stage is None:
        return error
    section, settings, place = section_of(stage), recipe.settings(stage), folder / stage
    last = next(reversed(checkpoints(place)), 0)
    before = read_record(place / STOPPED)
    with suppress(OSError):
        write_json(place / STOPPED, {"step": error.step, "from": last})
    smaller = f"--set {section}.learning_rate={settings.learning_rate / 5:g}"
    if last and before.get("from") == last:
        remedy = (
            f"It was so before, from the same checkpoint (step {last}): that is spoiled already. "
            f"Begin the stage anew: {smaller} --reuse {shlex.quote(str(folder))} --out "
            "ANOTHER_FOLDER, which takes over what other stages have finished."
        )
    elif error.step > 1:
        begins = f"goes on from step {last}" if last else "begins the stage anew"
        remedy = (
            f"The steps are too large; learn more slowly. With {smaller} the same command {begins}:"
            " here, and only here, the recipe may be changed so."
        )
    elif settings.dtype != "float32":
        remedy = (
            "The very first step is too much for its numbers. Give the same command with --set "
            f"{section}.dtype=float32."
        )
    else:
        remedy = (
            "Not even the first step gives numbers: the base's weights are far too large. Copy or "
            "download them again, or name another base."
        )
    return LossError(error.step, error.what, where=folder, remedy=remedy)


def _guarded(error: GuardError, folder: Path, recipe: Recipe, stage: Stage | None) -> GuildError:
    """What helps a policy that a guard stopped."""
    if stage is None:
        return error
    rate = recipe.settings(stage).learning_rate
    return GuardError(
        error.what,
        where=folder,
        remedy=f"Look at {folder / stage / 'samples.jsonl'} for what the reward overlooks. To try "
        f"again with what was trained before `{stage}`: --set {stage}.learning_rate={rate / 2:g} "
        f"(or a higher {stage}.kl.beta) --reuse {shlex.quote(str(folder))} --out ANOTHER_FOLDER. "
        f"To go on all the same, raise the limit in {stage}.guards: it may be changed at any time.",
    )
