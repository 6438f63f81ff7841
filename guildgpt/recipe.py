"""A whole model as one TOML file: read, overridden from the command line, checked key by key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from guildgpt import toml_file
from guildgpt.bases.config import BaseConfig
from guildgpt.data import Policy, SourceSpec
from guildgpt.errors import RecipeError
from guildgpt.evaluate.config import EvaluateConfig, GateConfig
from guildgpt.model.config import Dtype
from guildgpt.train.config import (
    DpoConfig,
    GrpoConfig,
    KtoConfig,
    PpoConfig,
    PretrainConfig,
    RewardConfig,
    SftConfig,
    TrainConfig,
)

RECIPES = Path(__file__).with_name("recipes")  # those that come with GuildGPT
Stage = Literal["pretrain", "sft", "reward", "judge", "dpo", "kto", "grpo", "ppo"]
RATED: tuple[Stage, ...] = ("kto", "grpo", "ppo")  # which read what was rated, or its prompts
Quantization = Literal["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_1"]


class Section(BaseModel):
    """A part of a recipe; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    """The `[data]` section: what is read, and which part of it is never trained on."""

    sources: list[SourceSpec] = []
    """What is learned from: texts such as "dolly" or "mine.jsonl", or tables with the keys of
    `[[data.sources]]`."""
    held_out: float = Field(default=0.05, ge=0, lt=1)
    """The share of conversations never trained on."""
    held_out_limit: int | None = Field(default=256, ge=1, le=1_000_000_000)
    """Held-out rows of each source at most; what is over is not used at all. It bounds the held-out
    documents too."""


class ExportConfig(Section):
    """The `[export]` section: the forms of the trained model."""

    gguf: list[Quantization] = ["Q8_0"]
    """GGUF files to write; answers are sampled with the first. `[]` writes none and samples
    nothing."""
    dtype: Dtype = "auto"
    """Of the safetensors. `auto` is float32 below a billion parameters, else bfloat16."""


class LearnConfig(Section):
    """The `[learn]` section: how `guildgpt learn` turns the circle with this recipe."""

    promote: Literal["ask", "by_itself"] = "ask"
    """What follows when members prefer a candidate: it waits for your yes, or from then on it
    answers `by_itself`. See [what that risks](learning.md#without-your-yes)."""
    guilds: Literal["served"] | list[Annotated[int, Field(ge=1, lt=2**63)]] = "served"
    """Whose votes teach and decide: those of all servers that the bot is in (not of those that it
    has left), or of servers by their ids. Votes at the terminal and on the web page always do."""
    share: float = Field(default=0.2, gt=0, lt=1)
    """Of the conversations, for a candidate that is being tried."""
    least: int = Field(default=20, ge=2, le=1_000_000_000)
    """Rows that a turn takes at least; from fewer a model learns by heart."""
    new: int = Field(default=10, ge=1, le=1_000_000_000)
    """Rows that the last turn did not learn from: with fewer, a night begins none."""


class Recipe(Section):
    """A recipe. Paths in it are relative to the folder in which the command is run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run's folder, runs/NAME: letters, digits, `.`, `_`, `-`; it begins with a letter or
    a digit."""
    description: str = ""
    """A sentence for people."""
    stages: list[Stage] = ["sft"]
    """What is done, each once and in this order."""
    policy: Policy = "strict"
    """What becomes of sources of unclear origin: refused, or warned of."""
    seed: int = Field(default=0, ge=0, lt=2**32 - 1)
    """Order of rows, fresh weights and adapters, sampled answers."""
    price_per_hour: float = Field(default=0.0, ge=0, le=1_000_000)
    """What the machine costs, in US dollars; the report multiplies it."""
    model: BaseConfig = BaseConfig()
    data: DataConfig = DataConfig()
    pretrain: PretrainConfig = PretrainConfig()
    sft: SftConfig = SftConfig()
    reward: RewardConfig = RewardConfig()
    dpo: DpoConfig = DpoConfig()
    kto: KtoConfig = KtoConfig()
    grpo: GrpoConfig = GrpoConfig()
    ppo: PpoConfig = PpoConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    gate: GateConfig = GateConfig()
    export: ExportConfig = ExportConfig()
    learn: LearnConfig = LearnConfig()

    @field_validator("stages")
    @classmethod
    def _each_once_and_in_order(cls, stages: list[Stage]) -> list[Stage]:
        order = list(get_args(Stage))
        if not stages:
            raise ValueError(f"name at least one of {', '.join(order)}")
        if stages != sorted(set(stages), key=order.index):
            raise ValueError(f"each stage stands once, in the order {', '.join(order)}")
        return stages

    def chosen(self, names: Sequence[str] | None) -> list[Stage]:
        """The stages of these names (all, if none is given), in the recipe's order."""
        for name in names or ():
            if name not in self.stages:
                raise RecipeError(
                    f"the recipe has no stage `{name}`",
                    where="--stage",
                    remedy=f"It has {', '.join(self.stages)}.",
                )
        return [stage for stage in self.stages if not names or stage in names]

    def before(self, stage: Stage) -> list[Stage]:
        """The stages that come before this one."""
        return self.stages[: self.stages.index(stage)]

    def settings(self, stage: Stage) -> TrainConfig:
        """The section that a stage is trained by."""
        return getattr(self, section_of(stage))  # type: ignore[no-any-return]


def section_of(stage: Stage) -> str:
    """The name of a stage's section; the judge is trained as the reward model is."""
    return "reward" if stage == "judge" else stage


def find_recipe(name: str) -> Path:
    """The file of a recipe: one that comes with GuildGPT by its name, any other by its path."""
    own = RECIPES / f"{name}.toml"
    return own if own.is_file() else Path(name)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `section.key=value` overrides, the values in TOML (bare text is
    taken as a string). RecipeError with file, line and the nearest known key."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        names = sorted(own.stem for own in RECIPES.glob("*.toml"))
        there = {file.name: str(file) for file in path.parent.glob("*.toml")}
        there |= {name: name for name in names}
        near = difflib.get_close_matches(path.name, there, n=1)
        raise RecipeError(
            "there is no such recipe",
            where=path,
            remedy=(f"Did you mean {there[near[0]]}? " if near else "")
            + f"Name a TOML file, or one that comes with GuildGPT: {', '.join(names)}.",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe cannot be read ({error})", where=path) from error
    values = toml_file.parse(text, path, RecipeError, example='name = "mine"')
    overridden = [_override(values, override) for override in overrides]
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise toml_file.explained(
            error, Recipe, RecipeError, lambda keys: _where(keys, path, text, overridden)
        ) from error


def _override(values: dict[str, Any], text: str) -> str:
    key, equals, value = text.partition("=")
    if (shown := text.encode("utf-8", "backslashreplace").decode()) != text:
        raise RecipeError(
            f"`{shown}` is not written in UTF-8, and cannot be passed on",
            where="--set",
            remedy="Rename a file or folder that it names; letters of any script will do.",
        )
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(
            f"`{text}` is no override", where="--set", remedy="Write section.key=value."
        )
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):  # no TOML, or a number of thousands of digits
        parsed = value.strip()
    for part in parts[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise RecipeError(f"`{part}` is no section", where=f"--set {key}")
    values[parts[-1]] = parsed
    return ".".join(parts)


def _where(keys: Sequence[str], path: Path, text: str, overridden: Sequence[str]) -> str:
    """What set a value that is wrong: an override, or a line of the file."""
    dotted = ".".join(keys)
    # A section can be wrong as a whole because of one value in it.
    said = [k for k in overridden if f"{dotted}.".startswith(f"{k}.") or k.startswith(f"{dotted}.")]
    return f"--set {said[-1]}" if said else f"{path}:{toml_file.line_of(text, keys)}"
