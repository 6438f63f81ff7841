"""A run's folder belongs to one recipe and its data: what may change on the way, and what not."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from guildgpt.data.provenance import Provenance
from guildgpt.errors import DataError, RecipeError, refuse_newer
from guildgpt.pipeline.folder import (
    STOPPED,
    checkpoints,
    forget_measured,
    is_trained,
    read_json,
    read_outcome,
    read_record,
    write_json,
)
from guildgpt.recipe import Recipe, Stage, section_of

CHANGES_NOTHING = {"description", "price_per_hour", "gate", "learn"}
# Keys of any stage that change what it learns by no more than rounding: so that a run that had not
# enough memory or disk can go on.
ANY_TIME = (
    *("micro_tokens", "sample_rows", "checkpoint_minutes", "keep_checkpoints"),
    *("tensorboard", "show_every"),
)
# What may change besides where a stage stopped because its loss was no number.
AFTER_NO_NUMBER = ("learning_rate", "clip", "dtype")
REMEDY = "Give --out another folder or the recipe another name, or delete this folder."


def claim(folder: Path, recipe: Recipe) -> None:
    """The folder belongs to one recipe: going on with another would mix two runs.

    What says how a stage is trained may change until something of that stage is, and everything
    until something is trained at all. How models are measured may change at any time; what was
    measured otherwise is forgotten then, and measured anew.
    """
    record = recipe.model_dump(mode="json", exclude=CHANGES_NOTHING)
    earlier = read_json(folder / "recipe.json")
    old = _began_with_chatml(folder)
    if earlier is not None:
        refuse_newer(earlier, folder / "recipe.json")
        if old:
            earlier["model"]["template"] = "chatml"
        with suppress(ValidationError):  # which keys have come since then, with their defaults
            earlier = Recipe.model_validate(earlier).model_dump(
                mode="json", exclude=CHANGES_NOTHING
            )
        if changes := differences(earlier, record):
            begun = [stage for stage in get_args(Stage) if is_trained(folder / stage)]
            fixed = set(map(section_of, begun)) | (record.keys() - {*get_args(Stage), "evaluate"})
            refused = {
                key: values
                for key, values in changes.items()
                if key.partition(".")[0] in fixed and not _may_change(key, folder, begun)
            }
            if begun and refused:
                key, (was, now) = next(iter(refused.items()))
                raise RecipeError(
                    "this folder holds a run of another recipe, or of this one before it was "
                    f"changed: `{key}` was {_toml(was)} and is {_toml(now)}"
                    + (f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""),
                    where=folder,
                    remedy=f"To train what that changes, and take the rest from here, add --reuse "
                    f"{shlex.quote(str(folder))} and give --out another folder. To train on from a "
                    "model of this run, name it in model.base of a new one.",
                )
            _forget(folder, begun)
            if any(key.partition(".")[0] == "evaluate" for key in changes):
                for stage in begun:
                    forget_measured(folder / stage)
    folder.mkdir(parents=True, exist_ok=True)
    if old:
        del record["model"]["template"]  # for the next time
    write_json(folder / "recipe.json", record)


def _may_change(key: str, folder: Path, begun: Sequence[Stage]) -> bool:
    """Whether a key of a stage that is begun may be another now."""
    section, _, name = key.partition(".")
    if key.endswith(ANY_TIME) or name.startswith("guards."):
        return True
    stages = [stage for stage in begun if section_of(stage) == section]
    return name in AFTER_NO_NUMBER and all(_waits(folder / stage) for stage in stages)


def _waits(place: Path) -> bool:
    """Whether a stage stopped because its loss was no number, and did not come past that since."""
    at, steps = read_record(place / STOPPED).get("step"), checkpoints(place)
    return isinstance(at, int) and (not steps or steps[-1] < at) and read_outcome(place) is None


def as_begun(folder: Path, recipe: Recipe) -> Recipe:
    """The recipe as a run in `folder` goes on with it: one that an older version began learns
    ChatML, as every base did then, unless the recipe says otherwise."""
    if "template" in recipe.model.model_fields_set or not _began_with_chatml(folder):
        return recipe
    model = recipe.model.model_copy(update={"template": "chatml"})
    return recipe.model_copy(update={"model": model})


def _began_with_chatml(folder: Path) -> bool:
    """Whether something is trained there by a version whose recipes knew no other template."""
    record = read_json(folder / "recipe.json")
    model = record.get("model") if isinstance(record, dict) else None
    begun = any(is_trained(folder / stage) for stage in get_args(Stage))
    return begun and isinstance(model, dict) and "template" not in model


def claim_data(folder: Path, provenance: Sequence[Provenance]) -> None:
    """The same for the data: a run that goes on must go on with the rows it began with."""
    now = {item.name: item.sha256 for item in provenance if item.sha256}
    earlier = read_record(folder / "data.json")
    changed = [name for name, sha256 in now.items() if earlier.get(name, sha256) != sha256]
    if changed:
        if any(is_trained(folder / stage) for stage in get_args(Stage)):
            raise DataError(
                f"{' and '.join(changed)} changed since this run began",
                where=folder,
                remedy=f"Put the old data back to go on. {REMEDY}",
            )
        _forget(folder)
    write_json(folder / "data.json", earlier | now)


def differences(old: Any, new: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two nested records differ: dotted keys with the old value and the new one."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for name in sorted(old.keys() | new.keys()):
            found |= differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
        return found
    return {} if old == new else {key: (old, new)}


def _forget(folder: Path, begun: Sequence[Stage] = ()) -> None:
    """Remove what was measured and logged before the recipe or its data changed, but for stages
    that are `begun`."""
    for stage in get_args(Stage):
        if stage not in begun:
            shutil.rmtree(folder / stage, ignore_errors=True)
    for name in ("data.json", "phases.json") if not begun else ():
        (folder / name).unlink(missing_ok=True)


def _toml(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
