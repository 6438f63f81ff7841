"""A whole model as one TOML file: read, overridden from the command line, checked key by key."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from guildgpt.data.provenance import Policy
from guildgpt.data.source import SourceSpec
from guildgpt.errors import RecipeError
from guildgpt.evaluate.config import EvaluateConfig
from guildgpt.model.config import BaseConfig, Dtype
from guildgpt.train.config import (
    DpoConfig,
    GrpoConfig,
    PpoConfig,
    PretrainConfig,
    RewardConfig,
    SftConfig,
    TrainConfig,
)

Stage = Literal["pretrain", "sft", "reward", "judge", "dpo", "grpo", "ppo"]
REWARD_STAGES: tuple[Stage, ...] = ("reward", "judge")  # they leave a model that scores
POLICY_STAGES: tuple[Stage, ...] = ("dpo", "grpo", "ppo")  # they start from a model that talks
Quantization = Literal["F32", "F16", "Q8_0", "Q4_1"]


class Section(BaseModel):
    """A part of a recipe; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Section):
    """The `[data]` section: what is read, and which part of it is never trained on."""

    sources: list[SourceSpec] = []
    held_out: float = Field(default=0.05, ge=0, lt=1)
    held_out_limit: int | None = Field(default=256, ge=1)
    """Held-out rows of each source at most."""


class ExportConfig(Section):
    """The `[export]` section: the forms of the trained model."""

    gguf: list[Quantization] = ["Q8_0"]
    dtype: Dtype = "auto"
    """Of the safetensors: auto is float32 below a billion parameters, else bfloat16."""


class Recipe(Section):
    """A recipe. Paths in it are relative to the folder in which the command is run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    stages: list[Stage] = ["sft"]
    policy: Policy = "strict"
    seed: int = Field(default=0, ge=0)
    price_per_hour: float = Field(default=0.0, ge=0)
    """What the machine costs, in US dollars; for the report."""
    model: BaseConfig = BaseConfig()
    data: DataConfig = DataConfig()
    pretrain: PretrainConfig = PretrainConfig()
    sft: SftConfig = SftConfig()
    reward: RewardConfig = RewardConfig()
    dpo: DpoConfig = DpoConfig()
    grpo: GrpoConfig = GrpoConfig()
    ppo: PpoConfig = PpoConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()

    @field_validator("stages")
    @classmethod
    def _each_once_and_in_order(cls, stages: list[Stage]) -> list[Stage]:
        order = list(get_args(Stage))
        if not stages:
            raise ValueError(f"name at least one of {', '.join(order)}")
        if stages != sorted(set(stages), key=order.index):
            raise ValueError(f"each stage stands once, in the order {', '.join(order)}")
        return stages

    def settings(self, stage: Stage) -> TrainConfig:
        """A stage's own section; the judge is trained as the reward model is."""
        section: TrainConfig = getattr(self, "reward" if stage == "judge" else stage)
        return section


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `section.key=value` overrides, the values in TOML (bare text is
    taken as a string). RecipeError with file, line and the nearest known key."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        near = difflib.get_close_matches(
            path.name, [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        )
        raise RecipeError(
            "there is no such recipe",
            where=path,
            remedy=f"Did you mean {path.parent / near[0]}?" if near else "See the recipes folder.",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe cannot be read ({error})", where=path) from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise RecipeError(
            f"this is not TOML: {error}",
            where=f"{path}:{line[1] if line else len(text.splitlines())}",
            remedy='A line is `key = value`, a text stands in quotes: name = "mine".',
        ) from error
    overridden = [_override(values, override) for override in overrides]
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _explain(error, path, text, overridden) from error


def _override(values: dict[str, Any], text: str) -> str:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(
            f"`{text}` is no override", where="--set", remedy="Write section.key=value."
        )
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in parts[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise RecipeError(f"`{part}` is no section", where=f"--set {key}")
    values[parts[-1]] = parsed
    return ".".join(parts)


def _explain(
    error: ValidationError, path: Path, text: str, overridden: Sequence[str]
) -> RecipeError:
    """The first problem in words; the others are counted."""
    problems = error.errors()
    problem = problems[0]
    keys = [str(part) for part in problem["loc"]]
    dotted = ".".join(keys)
    # A section can be wrong as a whole because of one value in it.
    said = [k for k in overridden if f"{dotted}.".startswith(f"{k}.") or k.startswith(f"{dotted}.")]
    where = f"--set {said[-1]}" if said else f"{path}:{_line(text, keys)}"
    remedy = None
    if problem["type"] == "extra_forbidden":
        what = f"unknown key `{dotted}`"
        known = _known_keys(keys[:-1])
        near = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.4)
        remedy = f"Did you mean `{near[0]}`? " if near else ""
        remedy += f"Known here: {', '.join(known)}."
    elif problem["type"] == "missing":
        what = f"`{dotted}` is missing"
    elif problem["type"] == "model_type":
        what = f"`{dotted}` is {problem['input']!r}, not a section"
        remedy = f"It holds {', '.join(_known_keys(keys))}."
    elif problem["type"] == "list_type":
        what = f"`{dotted}` is {problem['input']!r}, not a list"
        remedy = f'Write it in brackets: {keys[-1]} = ["…"].'
    else:
        shown = repr(problem["input"])
        shown = shown if len(shown) <= 60 else shown[:57] + "…"
        message = problem["msg"].removeprefix("Value error, ")
        what = f"`{dotted}` is {shown}: {message[0].lower()}{message[1:]}"
    if len(problems) > 1:
        what += f" (and {len(problems) - 1} more problem{'s' * (len(problems) > 2)})"
    return RecipeError(what, where=where, remedy=remedy)


def _known_keys(sections: Sequence[str]) -> list[str]:
    model: Any = Recipe
    for part in sections:
        if part.isdigit():
            continue
        kind = model.model_fields[part].annotation
        arguments = [a for a in getattr(kind, "__args__", ()) if hasattr(a, "model_fields")]
        model = kind if hasattr(kind, "model_fields") else arguments[0]
    return list(model.model_fields)


def _line(text: str, keys: Sequence[str]) -> int:
    """The line of a key, or of the nearest section above it that the file spells out."""
    lines = text.splitlines()
    best = 1
    section: list[str] = []
    entries: Counter[str] = Counter()  # of each [[array of sections]] so far
    for number, line in enumerate(lines, start=1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.\-]+)\s*\]", line):
            place = section = header[2].split(".")
            if header[1] == "[[":
                place = section = [*section, str(entries[header[2]])]
                entries[header[2]] += 1
        elif assignment := re.match(r"\s*([\w.\-]+)\s*=", line):
            place = [*section, *assignment[1].split(".")]
        else:
            continue
        if list(keys[: len(place)]) == place:
            best = number
    return best
