"""The form of a row of `gguf_architectures.py`, and how a model folder is read by its row."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from guildgpt.model.gguf_rope import rope_of
from guildgpt.model.gguf_settings import Settings
from guildgpt.model.gguf_tensors import Change, Tensor, constant, renamed
from guildgpt.model.weights import Array, Weights

ALWAYS = "always"  # there are such biases, whatever the options say

Value: TypeAlias = str | Callable[[Settings], Any]  # an option's name, or how to find it


@dataclass(frozen=True, slots=True)
class Family:
    """How one of transformers' model classes becomes a model of llama.cpp.

    Tensors go by the modules that hold them: `root.layers.N.PART.weight` in transformers is
    `blk.N.PART.weight` in llama.cpp.
    """

    name: str  # llama.cpp's
    models: str  # those that people know
    ends: Mapping[str, str]  # modules outside of the layers
    parts: Mapping[str, str]  # modules of a layer
    dimensions: Mapping[str, Value]  # by the name that `GGUFWriter.add_…` has for each
    root: str = "model"
    layers: str = "layers"
    head: str = "lm_head"
    # Modules that have biases, by their beginning, and the option that says so.
    biases: Mapping[str, str] = field(default_factory=dict)
    # By llama.cpp's name of a module, one after the other.
    changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    # Scalings of rotary positions; None: it has no rotary positions.
    scalings: tuple[str, ...] | None = None
    rotates_a_part: bool = False
    # What llama.cpp can represent: these values of an option, or any that is given.
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    checks: tuple[Callable[[Settings], None], ...] = ()
    needs_head: bool = False  # of its own in the file, also where it is tied to the embedding
    limits: str = ""  # for people: what a file of it cannot say


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model as llama.cpp knows it: its kind, its dimensions, its tensors in order."""

    name: str
    rows: int  # of the embedding: the vocabulary must come out exactly as long
    dimensions: dict[str, Any]  # by the name that `GGUFWriter.add_…` has for each
    tensors: list[Tensor]


def read_architecture(family: Family, settings: Settings, weights: Weights) -> Architecture:
    """The model as its family has it; ModelError for what llama.cpp cannot represent."""
    dimensions, factors = read_shape(family, settings)
    tensors = _tensors(family, settings, weights)
    tensors += [constant(name, values) for name, values in factors.items()]
    rows = tensors[0].shape[0]
    dimensions["vocab_size"] = rows
    dimensions = {name: value for name, value in dimensions.items() if value is not None}
    return Architecture(family.name, rows, dimensions, tensors)


def read_shape(family: Family, settings: Settings) -> tuple[dict[str, Any], dict[str, Array]]:
    """What a GGUF says of the model beside its weights, and the factors of its positions; no weight
    is read. ModelError for what llama.cpp cannot represent."""
    _check(family, settings)
    dimensions = {
        name: settings[value] if isinstance(value, str) else value(settings)
        for name, value in family.dimensions.items()
    }
    factors: dict[str, Array] = {}
    if family.scalings is not None:
        rope, factors = rope_of(settings, family.scalings, family.rotates_a_part)
        dimensions |= rope
    return dimensions, factors


def _check(family: Family, settings: Settings) -> None:
    """Raise ModelError for an option with a value that llama.cpp cannot represent."""
    if settings.get("quantization_config"):
        raise settings.refuse("quantization_config", "only unquantized weights become a GGUF")
    for option, values in family.only.items():
        if settings[option] not in values:
            known = " or ".join(map(repr, values))
            raise settings.refuse(option, f"llama.cpp's {family.name} has {known}")
    for option in family.given:
        if settings[option] is None:
            raise settings.refuse(option, f"llama.cpp's {family.name} always has one")
    for check in family.checks:
        check(settings)


def _tensors(family: Family, settings: Settings, weights: Weights) -> list[Tensor]:
    """The weights under llama.cpp's names, changed; the embedding is the first."""
    places = {f"{family.root}.{ours}": (ours, theirs) for ours, theirs in family.ends.items()}
    places[family.head] = (family.head, "output")
    for layer in range(settings["num_hidden_layers"]):
        for ours, theirs in family.parts.items():
            place = f"{family.root}.{family.layers}.{layer}.{ours}"
            places[place] = (ours, f"blk.{layer}.{theirs}")
    names = {}
    for place, (module, theirs) in places.items():
        names[f"{place}.weight"] = f"{theirs}.weight"
        if _has_bias(family, settings, module, theirs):
            names[f"{place}.bias"] = f"{theirs}.bias"
    tied = settings["tie_word_embeddings"]
    ignored = [f"{family.head}.weight"] if tied else []  # llama.cpp falls back on the embedding
    tensors = renamed(names, weights, family.root, ignored)
    if tied and family.needs_head:
        tensors.append(replace(tensors[0], name="output.weight"))
    return [_changed(tensor, family, settings) for tensor in tensors]


def _has_bias(family: Family, settings: Settings, module: str, theirs: str) -> bool:
    if theirs in ("token_embd", "position_embd", "output"):
        return False
    options = (option for start, option in family.biases.items() if module.startswith(start))
    option = next(options, None)
    return option == ALWAYS or (option is not None and bool(settings[option]))


def _changed(tensor: Tensor, family: Family, settings: Settings) -> Tensor:
    for change in family.changes.get(tensor.name.split(".")[-2], ()):
        tensor = change(tensor, settings)
    return tensor


# Dimensions that are no option


def heads(settings: Settings) -> int:
    return settings.heads


def kv_heads(settings: Settings) -> int:
    return settings.kv_heads


def head_dim(settings: Settings) -> int:
    return settings.head_dim


def within_window(settings: Settings) -> int:
    """The context of an architecture whose sliding window llama.cpp does not compute.

    As long as a text fits into the window, there is none.
    """
    context, window = int(settings["max_position_embeddings"]), settings["sliding_window"]
    kinds = settings.get("layer_types")
    if not window or (kinds and "sliding_attention" not in kinds) or window >= context:
        return context
    warnings.warn(
        f"llama.cpp knows no sliding window here: the GGUF's context is the window, {window} "
        f"tokens of {context}",
        stacklevel=2,
    )
    return int(window)


def full_period(settings: Settings) -> int:
    """Every how many layers one attends to the whole text, the others to the window."""
    kinds = settings["layer_types"]
    period = next(
        (i for i, kind in enumerate(kinds, 1) if kind == "full_attention"), len(kinds) + 1
    )
    for number, kind in enumerate(kinds, 1):
        if (kind == "full_attention") != (number % period == 0):
            raise settings.refuse("layer_types", f"llama.cpp has every {period}th layer full")
    return period


# What llama.cpp takes for granted


def fills_its_width(settings: Settings) -> None:
    """The heads together are as wide as the model."""
    if settings.heads * settings.head_dim != settings["hidden_size"]:
        raise settings.refuse("head_dim", "llama.cpp has heads as wide as the model together")


def ropes_three_of_four(settings: Settings) -> None:
    """Every fourth layer has no rotary positions."""
    layers = range(1, settings["num_hidden_layers"] + 1)
    if [bool(rope) for rope in settings["no_rope_layers"]] != [n % 4 != 0 for n in layers]:
        raise settings.refuse("no_rope_layers", "llama.cpp has every fourth layer without")


def mpt_scale(settings: Settings) -> None:
    """Attention is divided by the root of the head size."""
    scale = settings["attn_config"].softmax_scale
    if scale not in (None, settings.head_dim**-0.5):
        raise settings.refuse("attn_config", "llama.cpp's softmax_scale is 1/sqrt(head size)")
