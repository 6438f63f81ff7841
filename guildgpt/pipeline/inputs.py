"""What a stage starts from besides its rows: a base, a reward model, a list of words.

A stage that goes on after a kill must go on from the same files: its checkpoints hold what was
learned on top of them, and on others it would be worth nothing, without a word.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guildgpt.bases.locate import locate_base
from guildgpt.errors import ModelError, RecipeError
from guildgpt.hashes import file_sha256
from guildgpt.model.adapter import files_of
from guildgpt.pipeline.claims import REMEDY
from guildgpt.pipeline.folder import (
    is_trained,
    read_outcome,
    read_record,
    write_json,
)
from guildgpt.pipeline.stage import Start
from guildgpt.pipeline.stages import STAGES
from guildgpt.recipe import Recipe, Stage
from guildgpt.train.config import RolloutConfig

RECORD = "inputs.json"
# Of a model's folder, what changes how it computes or reads; its card and report may change.
DECIDING = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "spiece.model",
    "tokenizer.model",
    "template.json",
    "reward.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
)
LATER = DECIDING[-3:]  # which older versions did not note
WEIGHTS = ("*.safetensors", "*.bin")  # the second only where there is nothing of the first


def starts_from(stage: Stage, recipe: Recipe, folder: Path) -> Start:
    """The models that a stage of the run in `folder` starts from."""
    before = recipe.before(stage)
    judge = folder / "judge" / "model" if "judge" in before else None
    earlier = next((one for one in reversed(before) if not STAGES[one].scores), None)
    reward = reward_folder(stage, recipe, folder)
    if earlier is None:
        return Start(recipe.model, None, reward, judge)
    if read_outcome(folder / earlier) is None:
        raise RecipeError(
            f"`{stage}` starts from what `{earlier}` leaves: not there",
            where=folder / earlier / "model",
            remedy="Run the earlier stage first, or all of them.",
        )
    base = recipe.model.of_run(folder / earlier / "model")
    return Start(base, earlier, reward, judge)


def reward_folder(stage: Stage, recipe: Recipe, folder: Path) -> Path | None:
    """Where the reward model of a stage lies: one that it names, or that an earlier stage leaves;
    None where it has none."""
    settings = recipe.settings(stage)
    if not isinstance(settings, RolloutConfig):
        return None
    if settings.reward_model:
        return Path(settings.reward_model).expanduser()
    return folder / "reward" / "model" if "reward" in recipe.before(stage) else None


def stage_inputs(stage: Stage, recipe: Recipe, start: Start) -> dict[str, list[Path]]:
    """The files that a stage starts from, by what they are."""
    found: dict[str, list[Path]] = {}
    path = Path(start.base.base).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        found["base"] = [path]
    elif start.base.base not in ("scratch", "starter"):
        place = locate_base(start.base)
        found["base"] = _deciding(place.folder)
        if place.adapter:
            found["adapter"] = files_of(place.adapter) + _deciding(place.tokenizer, weights=False)
    if start.reward:
        found["reward model"] = _deciding(start.reward)
    settings = recipe.settings(stage)
    words = settings.terms.words if isinstance(settings, RolloutConfig) else None
    if words and words.file and (file := Path(words.file).expanduser()).is_file():
        found["word list"] = [file]
    return {what: files for what, files in found.items() if files}


def claim_inputs(place: Path, inputs: Mapping[str, Sequence[Path]]) -> None:
    """Note what the stage in `place` starts from. ModelError if it was begun on other files; where
    nothing is trained yet, what was measured of the others is forgotten."""
    noted = read_record(place / RECORD).items()
    record: dict[str, dict[str, Any]] = {w: files for w, files in noted if isinstance(files, dict)}
    now = {
        what: {file.name: _state(file, record.get(what, {}).get(file.name)) for file in files}
        for what, files in inputs.items()
    }
    for what, files in now.items():
        if what not in record:
            continue
        ignored = {name for name in LATER if name not in record[what]}
        found = {name: state for name, state in files.items() if name not in ignored}
        if _hashes(found) == _hashes(record[what]):
            continue
        if is_trained(place):
            changed = dict(_hashes(found).items() ^ _hashes(record[what]).items())
            raise ModelError(
                f"the {what} changed since this stage began: {' and '.join(sorted(changed))}",
                where=inputs[what][0] if what == "word list" else inputs[what][0].parent,
                remedy=f"Put the old files back to go on. {REMEDY}",
            )
        shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / RECORD, record | now)


def _deciding(folder: Path, *, weights: bool = True) -> list[Path]:
    files = [folder / name for name in DECIDING if (folder / name).is_file()]
    if not weights:
        return files
    return files + next((found for one in WEIGHTS if (found := sorted(folder.glob(one)))), [])


def _state(file: Path, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """A file's hash; where neither its size nor its time moved, the one that is known."""
    status = file.stat()
    state = {"bytes": status.st_size, "time": status.st_mtime_ns}
    if known and state.items() <= known.items():
        return dict(known)
    return {**state, "sha256": file_sha256(file)}


def _hashes(files: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name: str(state["sha256"]) for name, state in files.items()}
