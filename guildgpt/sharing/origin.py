"""The base that a model was trained from, found again by what its folder says of its past."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from guildgpt.bases.config import BaseConfig
from guildgpt.bases.locate import locate_base
from guildgpt.bases.replit import is_replit
from guildgpt.data.provenance import Provenance
from guildgpt.errors import ModelError
from guildgpt.model.adapter import base_of
from guildgpt.model.json_file import json_if_any
from guildgpt.model.provenance import PROVENANCE_FILE, read_provenance
from guildgpt.model.starter import STARTER
from guildgpt.sharing.names import STARTER_ON_THE_HUB, on_the_hub

LORA = ("sft", "dpo", "kto", "grpo", "ppo")  # stages that leave what an adapter can hold
REMEDY = (
    "Share the whole model: `guildgpt push` sends its folder, `guildgpt export` makes a GGUF of "
    'it. A recipe with sft.adapter = "lora", and without `pretrain`, trains one that an adapter '
    "can hold."
)


@dataclass(frozen=True, slots=True)
class Origin:
    """A model's base, as peft is to find it and as it lies here."""

    model: Path
    name: str  # a Hub id, or a folder
    revision: str
    folder: Path
    rank: int  # of all the stages together that led to the model; 0: nobody says
    rounded: bool = False  # whether the base here is not quite the one that is named


def origin_of(model: Path, named: str | None = None) -> Origin:
    """The base of a model folder, fetched if it is the Hub's; `named` says where it is now.

    ModelError where a model has none that an adapter could be put on, where nobody knows it any
    more, and where it is another one today than the model was trained from.
    """
    kind = str((json_if_any(model / "config.json").get("architectures") or [""])[0])
    if kind.endswith("ForSequenceClassification"):
        raise ModelError(
            "this model scores answers; only models that write them are exported as adapters",
            where=model,
            remedy="Share its folder whole: guildgpt push.",
        )
    config, rank = _past(model, named)
    if named is not None:
        config = BaseConfig(base=named)
    elif config is None:
        raise ModelError(
            "nothing here says from which base this model was trained",
            where=model / PROVENANCE_FILE,
            remedy="Name it with --base: a folder, or a Hub id.",
        )
    if config.base == "scratch":
        raise ModelError(
            "this model was made from nothing: there is no base that an adapter could be put on",
            where=model,
            remedy=REMEDY,
        )
    first = next((item for item in read_provenance(model) if item.kind == "base"), None)
    if first and on_the_hub(config.base) and first.origin == config.base and not config.revision:
        config = config.model_copy(update={"revision": first.revision or None})
    try:
        place = locate_base(config)
    except ModelError as error:
        raise ModelError(
            f"its base cannot be taken: {error.what}",
            where=error.where or model,
            remedy="Name with --base where it lies now: a folder, or a Hub id.",
        ) from error
    if is_replit(json_if_any(place.folder / "config.json")):
        raise ModelError(
            f"{config.base} is in a form of its own, which neither transformers nor peft loads",
            where=model,
            remedy=REMEDY,
        )
    _check_same(first, place.provenance[0], config.base, model)
    name = config.base
    if place.adapter is not None:
        name = config.adapter_base or base_of(place.adapter) or str(place.folder)
    here = Path(name).expanduser()
    if name == STARTER:
        name = STARTER_ON_THE_HUB
    elif here.suffix == ".gguf":
        name = str(place.folder)
    elif here.is_dir():
        name = str(here.absolute())
    revision = place.provenance[0].revision if on_the_hub(name) and config.base != STARTER else ""
    return Origin(model, name, revision, place.folder, rank, rounded=config.base == STARTER)


def _past(model: Path, named: str | None) -> tuple[BaseConfig | None, int]:
    """The base that no run of ours made, or the one that is `named` on the way to it; and the sum
    of the ranks trained since, as far as the recipes of model folders tell it.

    ModelError where one of them trained all weights.
    """
    rank, folder, config = 0, model, None
    seen: set[Path] = set()
    while folder not in seen and (folder / PROVENANCE_FILE).is_file():
        if named is not None and folder.absolute() == Path(named).expanduser().absolute():
            break
        seen.add(folder)
        recipe = json_if_any(folder / PROVENANCE_FILE).get("recipe")
        recipe = recipe if isinstance(recipe, dict) else {}
        try:
            config = BaseConfig.model_validate(recipe.get("model"))
        except ValidationError:
            break
        rank += _rank(model, recipe, last=folder.absolute().parent.name)
        if config.adapter in ("merge", "continue"):
            return config, 0  # another's, of whatever rank
        folder = Path(config.base).expanduser()
    return config, rank


def _rank(model: Path, recipe: dict[str, Any], last: str) -> int:
    """The sum of the ranks of a recipe's stages, up to the one whose folder it is."""
    rank, stages = 0, list(recipe.get("stages") or ())
    for stage in stages[: stages.index(last) + 1] if last in stages else stages:
        section = recipe.get(stage) or {}
        whole = stage == "pretrain" or (stage == "sft" and section.get("adapter") == "none")
        if whole and (recipe.get("model") or {}).get("base") != "scratch":
            raise ModelError(
                f"all weights of this model were trained (`{stage}`), which no adapter can hold",
                where=model,
                remedy=REMEDY,
            )
        if stage in LORA:
            rank += int((section.get("lora") or {}).get("rank") or 0)
    return rank


def _check_same(said: Provenance | None, found: Provenance, name: str, model: Path) -> None:
    if said and said.sha256 and found.sha256 and said.sha256 != found.sha256:
        raise ModelError(
            f"{name} is not the base that this model was trained from, or not as it was then: its "
            "weights have another hash",
            where=model,
            remedy=f"It was {said.origin or said.name}"
            + (f" at revision {said.revision}" if said.revision else "")
            + f" (sha256 {said.sha256[:12]}…). Name with --base where that lies.",
        )
