"""Rotary positions as llama.cpp knows them: their base, their scaling, their factors.

What transformers computes is in its `modeling_rope_utils.py`, what llama.cpp computes in ggml's
`ggml_rope_ext`: https://github.com/ggml-org/ggml/blob/master/include/ggml.h.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

import gguf
import numpy as np

from guildgpt.errors import ModelError
from guildgpt.model.gguf_settings import Settings
from guildgpt.model.weights import Array

# Dimensions by the name that `GGUFWriter.add_…` has for each, and tensors by their names.
Written: TypeAlias = tuple[dict[str, Any], dict[str, Array]]
Rope: TypeAlias = dict[str, Any]


def rope_of(settings: Settings, scalings: Collection[str], rotates_a_part: bool) -> Written:
    """What a GGUF says of a model's rotary positions; ModelError for what it cannot say.

    `scalings` are the kinds of scaling that llama.cpp computes for the architecture, beside none
    ("default"); `rotates_a_part` is whether it can turn the first coordinates of a head alone.
    """
    rope = settings["rope_parameters"]
    if "full_attention" in rope:  # a kind of its own for each kind of layer: Gemma 3
        local = rope["sliding_attention"]
        if local["rope_type"] != "default":
            raise settings.refuse("rope_parameters", "llama.cpp scales no sliding layers")
        dimensions, tensors = _rope(settings, rope["full_attention"], scalings)
        return {**dimensions, "rope_freq_base_swa": local["rope_theta"]}, tensors
    part = rope.get("partial_rotary_factor", 1.0)
    if part != 1 and not rotates_a_part:
        raise settings.refuse("rope_parameters", "llama.cpp turns whole heads here")
    return _rope(settings, rope, scalings, part)


def _rope(settings: Settings, rope: Rope, scalings: Collection[str], part: float = 1.0) -> Written:
    size = int(settings.head_dim * part)
    kind = rope["rope_type"]
    dimensions: dict[str, Any] = {
        "rope_dimension_count": size,
        "rope_freq_base": rope["rope_theta"],
    }
    if kind == "default":
        return dimensions, {}
    if kind not in scalings:
        raise ModelError(
            f"rotary scaling of the type {kind} (rope_parameters) has no GGUF here",
            where=settings.where,
            remedy=f"For this architecture there are {', '.join(['default', *scalings])}.",
        )
    more, tensors = _SCALINGS[kind](settings, rope, size)
    return {**dimensions, **more}, tensors


def _linear(settings: Settings, rope: Rope, size: int) -> Written:
    """Positions divided by a factor."""
    kind = gguf.RopeScalingType.LINEAR
    return {"rope_scaling_type": kind, "rope_scaling_factor": rope["factor"]}, {}


def _yarn(settings: Settings, rope: Rope, size: int) -> Written:
    """YaRN (https://arxiv.org/abs/2309.00071): slow frequencies stretched, attention sharpened."""
    for option, taken in (("truncate", True), ("beta_fast", 32), ("beta_slow", 1)):
        if rope.get(option) not in (None, taken):
            raise settings.refuse("rope_parameters", f"llama.cpp's {option} is {taken}")
    factor, original = rope["factor"], rope["original_max_position_embeddings"]
    if factor is None:
        factor = settings["max_position_embeddings"] / original

    def sharpened(by: float) -> float:
        return 0.1 * by * math.log(factor) + 1.0 if factor > 1 else 1.0

    attention = rope.get("attention_factor")
    if attention is None:
        first, second = rope.get("mscale"), rope.get("mscale_all_dim")
        attention = sharpened(first) / sharpened(second) if first and second else sharpened(1)
    return {
        "rope_scaling_type": gguf.RopeScalingType.YARN,
        "rope_scaling_factor": factor,
        "rope_scaling_orig_ctx_len": original,
        # llama.cpp multiplies by what the paper suggests on its own.
        "rope_scaling_attn_factors": attention / sharpened(1),
    }, {}


def _llama3(settings: Settings, rope: Rope, size: int) -> Written:
    """What each rotary frequency is divided by in Llama 3.1 and later, shape `(size / 2,)`.

    Wavelengths up to `original / high_freq_factor` stay, those from `original / low_freq_factor`
    are stretched by `factor`, and between the two the frequency is interpolated.
    """
    frequency = rope["rope_theta"] ** (-np.arange(0, size, 2, dtype=np.float64) / size)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] * frequency / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    factors = 1.0 / ((1.0 - kept) / rope["factor"] + kept)
    return {}, {"rope_freqs.weight": factors.astype(np.float32)}


def _longrope(settings: Settings, rope: Rope, size: int) -> Written:
    """LongRoPE (https://arxiv.org/abs/2402.13753): two lists of divisors, for short and long texts.

    transformers takes the long ones from the first text that is longer than the original context,
    llama.cpp from the first context that is opened longer.
    """
    original = rope["original_max_position_embeddings"]
    factor = rope.get("factor") or settings["max_position_embeddings"] / original
    attention = rope.get("attention_factor")
    if attention is None:
        stretched = math.log(factor) / math.log(original) if factor > 1 else 0.0
        attention = math.sqrt(1 + stretched)
    return {
        "rope_scaling_orig_ctx_len": original,
        "rope_scaling_attn_factors": attention,
    }, {
        f"rope_factors_{name}.weight": np.array(rope[f"{name}_factor"], dtype=np.float32)
        for name in ("long", "short")
    }


_SCALINGS: dict[str, Callable[[Settings, Rope, int], Written]] = {
    "linear": _linear,
    "yarn": _yarn,
    "llama3": _llama3,
    "longrope": _longrope,
}
