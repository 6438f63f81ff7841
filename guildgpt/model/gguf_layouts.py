"""The architectures that llama.cpp knows: a model's tensors under its names, and its shape.

The names of tensors and keys are the `gguf` package's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np
from numpy.typing import NDArray

from guildgpt.errors import ModelError
from guildgpt.model.json_file import read_json

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file: its name, its shape, and how to read it as float32."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Array]


class Weights:
    """The tensors of model.safetensors, whole or sharded, by name; nothing is read before asked."""

    def __init__(self, folder: Path):
        from safetensors import SafetensorError, safe_open

        self.folder = folder
        index = folder / "model.safetensors.index.json"
        if index.exists():
            files = sorted(set(read_json(index)["weight_map"].values()))
        else:
            files = ["model.safetensors"]
        self._where: dict[str, Any] = {}
        for file in files:
            try:
                reader = safe_open(folder / file, framework="pt")
            except FileNotFoundError as error:
                raise ModelError(
                    "the weights are not here",
                    where=folder / file,
                    remedy="A GGUF is made from safetensors; was the folder copied whole?",
                ) from error
            except SafetensorError as error:
                raise ModelError(
                    f"this is not a whole safetensors file ({error})",
                    where=folder / file,
                    remedy="Copy or download it again.",
                ) from error
            self._where.update(dict.fromkeys(reader.keys(), reader))  # type: ignore[no-untyped-call]

    @property
    def names(self) -> set[str]:
        return set(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._where[name].get_slice(name).get_shape())

    def read(self, name: str) -> Array:
        """The tensor in float32, whatever it is stored in (numpy knows no bfloat16)."""
        array: Array = self._where[name].get_tensor(name).float().numpy()
        return array


@dataclass(frozen=True, slots=True)
class Layout:
    """A model as llama.cpp knows it: its architecture, its dimensions, its tensors in order."""

    architecture: str
    rows: int  # of the embedding: the vocabulary must come out exactly as long
    describe: Callable[[gguf.GGUFWriter], None]
    tensors: list[Tensor]


def layout_of(config: dict[str, Any], weights: Weights, where: Path) -> Layout:
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in _ARCHITECTURES:
        raise ModelError(
            f"the architecture {architecture} has no GGUF here",
            where=where,
            remedy=f"Supported are {' and '.join(_ARCHITECTURES)}.",
        )
    build, needed = _ARCHITECTURES[architecture]
    if missing := sorted(needed - config.keys()):
        raise ModelError(f"{', '.join(missing)} is not given", where=where)
    return build(config, weights)


def _llama(config: dict[str, Any], weights: Weights) -> Layout:
    """Llama, SmolLM, SmolLM2: rotary positions, grouped queries, gated feed-forward."""
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"hidden_act is {config['hidden_act']}; llama.cpp's Llama has silu")
    heads = int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_dim = int(config.get("head_dim") or config["hidden_size"] // heads)
    rope = _rope(config)

    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_vocab_size(config["vocab_size"])
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(heads)
        writer.add_head_count_kv(kv_heads)
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_dimension_count(head_dim)
        writer.add_rope_freq_base(rope["rope_theta"])
        if rope["rope_type"] == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])

    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    layer_names = {
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
    biased = [n for n in layer_names if n.startswith("self_attn") and config.get("attention_bias")]
    biased += [n for n in layer_names if n.startswith("mlp") and config.get("mlp_bias")]
    for layer in range(config["num_hidden_layers"]):
        for ours, theirs in layer_names.items():
            names[f"model.layers.{layer}.{ours}.weight"] = f"blk.{layer}.{theirs}.weight"
        for ours in biased:
            names[f"model.layers.{layer}.{ours}.bias"] = f"blk.{layer}.{layer_names[ours]}.bias"

    tensors = _rename(names, weights, tied=bool(config.get("tie_word_embeddings")))
    for index, tensor in enumerate(tensors):
        for part, count in (("attn_q", heads), ("attn_k", kv_heads)):
            if f".{part}." in tensor.name:
                tensors[index] = _interleaved(tensor, count)
    if rope["rope_type"] == "llama3":
        factors = _llama3_rope_factors(rope, head_dim)
        tensors.append(Tensor("rope_freqs.weight", factors.shape, lambda: factors))
    return Layout("llama", _rows(weights, "model.embed_tokens.weight"), describe, tensors)


def _mpt(config: dict[str, Any], weights: Weights) -> Layout:
    """MPT and replit-code: ALiBi instead of positions, layer norms without bias, tied head."""
    attention = config.get("attn_config") or {}
    width, heads = int(config["d_model"]), int(config["n_heads"])
    if attention.get("softmax_scale") not in (None, (width / heads) ** -0.5):
        raise ModelError("softmax_scale is not 1/sqrt(head size), which llama.cpp assumes")

    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_context_length(config["max_seq_len"])
        writer.add_embedding_length(width)
        writer.add_block_count(config["n_layers"])
        writer.add_feed_forward_length(4 * width)
        writer.add_head_count(heads)
        writer.add_layer_norm_eps(config.get("layer_norm_epsilon", 1e-5))
        writer.add_max_alibi_bias(8.0)  # transformers' MPT knows no other, whatever the config says
        if attention.get("clip_qkv"):
            writer.add_clamp_kqv(attention["clip_qkv"])

    names = {
        "transformer.wte.weight": "token_embd.weight",
        "transformer.norm_f.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    layer_names = {
        "norm_1": "attn_norm",
        "attn.Wqkv": "attn_qkv",
        "attn.out_proj": "attn_output",
        "norm_2": "ffn_norm",
        "ffn.up_proj": "ffn_up",
        "ffn.down_proj": "ffn_down",
    }
    for layer in range(config["n_layers"]):
        for ours, theirs in layer_names.items():
            names[f"transformer.blocks.{layer}.{ours}.weight"] = f"blk.{layer}.{theirs}.weight"
    tensors = _rename(names, weights, tied=bool(config.get("tie_word_embeddings", True)))
    return Layout("mpt", _rows(weights, "transformer.wte.weight"), describe, tensors)


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


def _rows(weights: Weights, embedding: str) -> int:
    return weights.shape(embedding)[0]


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
