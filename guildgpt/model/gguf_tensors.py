"""A model's tensors under llama.cpp's names, and the ways in which it wants some of them changed.

A change takes a tensor and gives one that is changed when it is read: nothing is held in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from guildgpt.errors import ModelError
from guildgpt.model.gguf_settings import Settings
from guildgpt.model.weights import Array, Weights


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file: its name, its shape, and how to read it as float32."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Array]


Change: TypeAlias = Callable[[Tensor, Settings], Tensor]

# What old checkpoints hold beside their weights; transformers computes these itself.
_COMPUTED = (
    ".rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
)


def constant(name: str, values: Array) -> Tensor:
    """A tensor that the weights do not hold."""
    return Tensor(name, values.shape, lambda: values)


def renamed(
    names: dict[str, str], weights: Weights, root: str, ignored: Iterable[str]
) -> list[Tensor]:
    """Every tensor under its new name. One too few or too many is an error, not a guess.

    A checkpoint of the model without its head leaves `root` away from its tensors' names.
    """
    bare = not any(name.startswith(f"{root}.") for name in weights.names)
    there = {f"{root}.{name}" if bare else name: name for name in weights.names}
    there = {name: where for name, where in there.items() if not name.endswith(_COMPUTED)}
    wanted = names.keys() - set(ignored)
    for found, what in (
        (wanted - there.keys(), "is missing"),
        (there.keys() - wanted - set(ignored), "has no place in a GGUF"),
    ):
        if found:
            raise ModelError(
                f"the tensor {min(found)} {what} ({len(found)} such)",
                where=weights.folder,
                remedy="Is this a whole model of its architecture, its adapters merged?",
            )
    return [
        Tensor(theirs, weights.shape(there[ours]), partial(weights.read, there[ours]))
        for ours, theirs in names.items()
        if ours in wanted
    ]


# The changes


def paired_queries(tensor: Tensor, settings: Settings) -> Tensor:
    """The query projection for llama.cpp's older rotary embedding; see `_paired`."""
    return _paired(tensor, settings.heads)


def paired_keys(tensor: Tensor, settings: Settings) -> Tensor:
    """The key projection for llama.cpp's older rotary embedding; see `_paired`."""
    return _paired(tensor, settings.kv_heads)


def _paired(tensor: Tensor, heads: int) -> Tensor:
    """Reorder the rows: transformers turns the coordinates i and i + d/2 of a head together,
    llama.cpp 2i and 2i + 1 for some architectures."""

    def read() -> Array:
        array = tensor.read()
        halves = array.reshape(heads, 2, -1, *array.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)

    return replace(tensor, read=read)


def one_more(tensor: Tensor, settings: Settings) -> Tensor:
    """A norm's weight: Gemma multiplies by 1 + weight, llama.cpp by the weight."""
    return replace(tensor, read=lambda: tensor.read() + np.float32(1))


def transposed(tensor: Tensor, settings: Settings) -> Tensor:
    """A matrix of GPT-2's, which is stored as (inputs, outputs)."""
    if len(tensor.shape) == 1:
        return tensor
    return Tensor(tensor.name, tensor.shape[::-1], lambda: np.ascontiguousarray(tensor.read().T))


def kind_by_kind(tensor: Tensor, settings: Settings) -> Tensor:
    """GPT-NeoX's fused projection: it has q, k and v head by head, llama.cpp q, then k, then v."""

    def read() -> Array:
        array = tensor.read()
        by_head = array.reshape(settings.heads, 3, -1, *array.shape[1:])
        return np.ascontiguousarray(by_head.swapaxes(0, 1)).reshape(array.shape)

    return replace(tensor, read=read)


def gemma_scale(large: int) -> Change:
    """The scale of Gemma's attention, put into the weight that makes (or scales) the queries.

    llama.cpp divides by the root of the head size, or of width / heads in the model with `large`
    layers, transformers by that of `query_pre_attn_scalar`.
    """

    def change(tensor: Tensor, settings: Settings) -> Tensor:
        size = settings.head_dim
        if settings["num_hidden_layers"] == large:
            size = settings["hidden_size"] // settings.heads
        factor = math.sqrt(size / settings["query_pre_attn_scalar"])
        if factor == 1:
            return tensor
        return replace(tensor, read=lambda: tensor.read() * np.float32(factor))

    return change
