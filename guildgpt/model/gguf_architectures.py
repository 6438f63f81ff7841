"""The architectures that llama.cpp knows: a model's tensors under its names, and its shape.

The names of tensors and keys are the `gguf` package's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from guildgpt.errors import ModelError
from guildgpt.model.weights import Array, Weights


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file: its name, its shape, and how to read it as float32."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Array]


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model as llama.cpp knows it: its kind, its dimensions, its tensors in order."""

    name: str
    rows: int  # of the embedding: the vocabulary must come out exactly as long
    dimensions: dict[str, Any]  # by the name that `GGUFWriter.add_…` has for each
    tensors: list[Tensor]


def architecture_of(config: dict[str, Any], weights: Weights, where: Path) -> Architecture:
    """The architecture of a model folder; ModelError where it has none that llama.cpp knows."""
    name = (config.get("architectures") or ["none"])[0]
    if name not in _ARCHITECTURES:
        raise ModelError(
            f"the architecture {name} has no GGUF here",
            where=where,
            remedy=f"Supported are {' and '.join(_ARCHITECTURES)}.",
        )
    build, needed = _ARCHITECTURES[name]
    if missing := sorted(needed - config.keys()):
        raise ModelError(f"{', '.join(missing)} is not given", where=where)
    return build(config, weights)


_LLAMA = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_MPT = {
    "norm_1": "attn_norm",
    "attn.Wqkv": "attn_qkv",
    "attn.out_proj": "attn_output",
    "norm_2": "ffn_norm",
    "ffn.up_proj": "ffn_up",
    "ffn.down_proj": "ffn_down",
}


def _llama(config: dict[str, Any], weights: Weights) -> Architecture:
    """Llama, SmolLM, SmolLM2: rotary positions, grouped queries, gated feed-forward."""
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"hidden_act is {config['hidden_act']}; llama.cpp's Llama has silu")
    heads = int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_dim = int(config.get("head_dim") or config["hidden_size"] // heads)
    rope = _rope(config)
    dimensions = {
        "vocab_size": config["vocab_size"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "head_count": heads,
        "head_count_kv": kv_heads,
        "key_length": head_dim,
        "value_length": head_dim,
        "layer_norm_rms_eps": config["rms_norm_eps"],
        "rope_dimension_count": head_dim,
        "rope_freq_base": rope["rope_theta"],
    }
    if rope["rope_type"] == "linear":
        dimensions["rope_scaling_type"] = gguf.RopeScalingType.LINEAR
        dimensions["rope_scaling_factor"] = rope["factor"]
    ends = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    biases = {"self_attn": config.get("attention_bias"), "mlp": config.get("mlp_bias")}
    parts = {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in _LLAMA.items()}
    for ours, theirs in _LLAMA.items():
        if biases.get(ours.partition(".")[0]):
            parts[f"{ours}.bias"] = f"{theirs}.bias"
    names = _names(ends, "model.layers", parts, config["num_hidden_layers"])
    tensors = _rename(names, weights, tied=bool(config.get("tie_word_embeddings")))
    rotated = {"attn_q": heads, "attn_k": kv_heads}
    for index, tensor in enumerate(tensors):
        if count := rotated.get(tensor.name.split(".")[-2]):
            tensors[index] = _interleaved(tensor, count)
    if rope["rope_type"] == "llama3":
        factors = _llama3_rope_factors(rope, head_dim)
        tensors.append(Tensor("rope_freqs.weight", factors.shape, lambda: factors))
    return Architecture("llama", tensors[0].shape[0], dimensions, tensors)


def _mpt(config: dict[str, Any], weights: Weights) -> Architecture:
    """MPT and replit-code: ALiBi instead of positions, layer norms without bias, tied head."""
    attention = config.get("attn_config") or {}
    width, heads = int(config["d_model"]), int(config["n_heads"])
    if attention.get("softmax_scale") not in (None, (width / heads) ** -0.5):
        raise ModelError("softmax_scale is not 1/sqrt(head size), which llama.cpp assumes")
    dimensions = {
        "context_length": config["max_seq_len"],
        "embedding_length": width,
        "block_count": config["n_layers"],
        "feed_forward_length": 4 * width,
        "head_count": heads,
        "layer_norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "max_alibi_bias": 8.0,  # transformers' MPT knows no other, whatever the config says
    }
    if attention.get("clip_qkv"):
        dimensions["clamp_kqv"] = attention["clip_qkv"]
    ends = {"transformer.wte": "token_embd", "transformer.norm_f": "output_norm"}
    parts = {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in _MPT.items()}
    names = _names(ends, "transformer.blocks", parts, config["n_layers"])
    tensors = _rename(names, weights, tied=bool(config.get("tie_word_embeddings", True)))
    return Architecture("mpt", tensors[0].shape[0], dimensions, tensors)


_ARCHITECTURES = {
    "LlamaForCausalLM": (
        _llama,
        {
            "hidden_size",
            "intermediate_size",
            "max_position_embeddings",
            "num_attention_heads",
            "num_hidden_layers",
            "rms_norm_eps",
            "vocab_size",
        },
    ),
    "MptForCausalLM": (_mpt, {"d_model", "max_seq_len", "n_heads", "n_layers"}),
}


def _names(ends: dict[str, str], layers: str, parts: dict[str, str], count: int) -> dict[str, str]:
    """llama.cpp's name of each tensor: embedding, norm and head, then layer by layer."""
    names = {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in ends.items()}
    names["lm_head.weight"] = "output.weight"
    for layer in range(count):
        for ours, theirs in parts.items():
            names[f"{layers}.{layer}.{ours}"] = f"blk.{layer}.{theirs}"
    return names


def _rename(names: dict[str, str], weights: Weights, *, tied: bool) -> list[Tensor]:
    """Every tensor under its new name. One too few or too many is an error, not a guess."""
    ignored = {"lm_head.weight"} if tied else set()  # llama.cpp falls back on the embedding
    wanted = names.keys() - ignored
    for found, what in (
        (wanted - weights.names, "is missing"),
        (weights.names - wanted - ignored, "has no place in a GGUF"),
    ):
        if found:
            raise ModelError(
                f"the tensor {min(found)} {what} ({len(found)} such)",
                where=weights.folder,
                remedy="Is this a whole model of its architecture, its adapters merged?",
            )
    return [
        Tensor(theirs, weights.shape(ours), partial(weights.read, ours))
        for ours, theirs in names.items()
        if ours in wanted
    ]


def _interleaved(tensor: Tensor, heads: int) -> Tensor:
    """Reorder the rows of a query or key projection for llama.cpp's rotary embedding.

    transformers turns the coordinates i and i + d/2 of a head together, llama.cpp 2i and 2i + 1.
    """

    def read() -> Array:
        array = tensor.read()
        halves = array.reshape(heads, 2, -1, *array.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)

    return Tensor(tensor.name, tensor.shape, read)


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary settings, as transformers 5 writes them or as earlier versions did."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    rope["rope_type"] = rope.get("rope_type") or rope.get("type") or "default"
    if rope["rope_type"] not in ("default", "linear", "llama3"):
        raise ModelError(
            f"rotary scaling of the type {rope['rope_type']} has no GGUF here",
            remedy="Supported are default, linear and llama3.",
        )
    return rope


def _llama3_rope_factors(rope: dict[str, Any], head_dim: int) -> Array:
    """What each rotary frequency is divided by in Llama 3.1 and later, shape `(head_dim / 2,)`.

    Wavelengths up to `original / high_freq_factor` stay, those from `original / low_freq_factor`
    are stretched by `factor`, and between the two the frequency is interpolated.
    """
    frequency = rope["rope_theta"] ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] * frequency / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    factors: Array = (1.0 / ((1.0 - kept) / rope["factor"] + kept)).astype(np.float32)
    return factors
