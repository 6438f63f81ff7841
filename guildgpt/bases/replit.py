"""replit-code-v1-3b on transformers' own MPT classes, without the remote code it came with.

The Hub has held two layouts of the same weights, with two kinds of config.json: the first calls
itself `replit_lm`, the second `mpt`. Both are the MPT architecture (no biases, ALiBi, GELU, tied
head), so both become a `transformers.MptForCausalLM`. What that class would silently ignore, such
as a learned position embedding or a scale on the logits, is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import MptConfig, MptForCausalLM

from guildgpt.bases.stored import UNREADABLE, read_bin, unreadable, weight_files
from guildgpt.errors import ModelError
from guildgpt.model.json_file import read_json

_ALIBI_BIAS_MAX = 8  # transformers' MPT has it built in
_MLP_RATIO = 4  # and this one too

# The first layout's names; the second's are transformers' own.
_RENAMED = (
    (re.compile(r"^(transformer\.blocks\.\d+)\.ln_([12])\."), r"\1.norm_\2."),
    (re.compile(r"^(transformer\.blocks\.\d+)\.mlp\.mlp_(up|down)\."), r"\1.ffn.\2_proj."),
    (re.compile(r"^transformer\.ln_f\."), "transformer.norm_f."),
)


def is_replit(config: dict[str, Any]) -> bool:
    """Whether a config.json is of one of the two layouts.

    A model that transformers itself saved is also called `mpt`; it needs no help and is not meant.
    """
    if config.get("model_type") == "replit_lm":
        return True
    return config.get("model_type") == "mpt" and (
        "auto_map" in config or "MPTForCausalLM" in (config.get("architectures") or [])
    )


def load_replit(folder: Path, dtype: torch.dtype = torch.float32) -> MptForCausalLM:
    """Load a folder of either layout, its weights in `dtype`; dropout is off.

    The weights are model.safetensors or pytorch_model.bin, whole or sharded. They are read tensor
    by tensor into an empty model, so memory holds one copy of them. Every tensor must be there,
    of the right shape, and be used once; anything else is a ModelError.
    """
    folder = Path(folder)
    config = _config(folder / "config.json")
    with torch.device("meta"):
        model = MptForCausalLM(config)
    model.to(dtype).to_empty(device="cpu").tie_weights()
    waiting = dict(model.named_parameters())  # the tied head has no entry of its own
    for name, tensor, file in _tensors(folder):
        for theirs, ours in _RENAMED:
            name = theirs.sub(ours, name)
        place = waiting.pop(name, None)
        wrong = "has no place in the model, or came twice"
        if place is not None:
            wrong = f"is {tuple(tensor.shape)}, the model's is {tuple(place.shape)}"
        if place is None or place.shape != tensor.shape:
            raise ModelError(
                f"the tensor {name} {wrong}",
                where=file,
                remedy="Do these weights belong to this config.json?",
            )
        place.data.copy_(tensor)
    if waiting:
        raise ModelError(
            f"the tensor {min(waiting)} is missing ({len(waiting)} such)",
            where=folder,
            remedy="Were all the files downloaded?",
        )
    return model.eval()


def _config(path: Path) -> MptConfig:
    """Both kinds of config.json, as the one that transformers' MPT reads."""
    given = read_json(path)
    if not is_replit(given):
        raise ModelError(
            f"this is a {given.get('model_type')!r} model, not replit-code",
            where=path,
            remedy="Load it with transformers' AutoModelForCausalLM.",
        )
    # The first layout has the attention's settings beside the others, the second in a table.
    attention = given.get("attn_config", given)

    expected = {
        "alibi": (attention.get("alibi"), True),
        "alibi_bias_max": (attention.get("alibi_bias_max", _ALIBI_BIAS_MAX), _ALIBI_BIAS_MAX),
        "attn_type": (attention.get("attn_type", "multihead_attention"), "multihead_attention"),
        "expansion_ratio": (given.get("expansion_ratio", given.get("mlp_ratio")), _MLP_RATIO),
        "logit_scale": (given.get("logit_scale"), None),
        "no_bias": (given.get("no_bias"), True),
        "prefix_lm": (bool(attention.get("prefix_lm")), False),
        "qk_ln": (bool(attention.get("qk_ln", given.get("attn_qk_ln"))), False),
        "tie_word_embeddings": (given.get("tie_word_embeddings", True), True),
    }
    for key, (value, needed) in expected.items():
        if value != needed:
            raise ModelError(
                f"{key} is {value!r}; only {needed!r} can be loaded without remote code",
                where=path,
                remedy="replit-code-v1-3b has none of these settings: is this another model?",
            )
    if given.get("norm_type", "low_precision_layernorm") not in (
        "layernorm",
        "low_precision_layernorm",
    ):
        raise ModelError(f"norm_type is {given['norm_type']!r}, not a layer norm", where=path)
    try:
        return MptConfig(
            d_model=given["d_model"],
            n_heads=given["n_heads"],
            n_layers=given["n_layers"],
            max_seq_len=given["max_seq_len"],
            vocab_size=given["vocab_size"],
            expansion_ratio=_MLP_RATIO,
            layer_norm_epsilon=given.get("layer_norm_epsilon", 1e-5),
            learned_pos_emb=False,  # with ALiBi the original code has no such embedding either
            no_bias=True,
            use_cache=True,
            tie_word_embeddings=True,
            attn_config={
                "clip_qkv": attention.get("clip_qkv", given.get("attn_clip_qkv")),
                "softmax_scale": attention.get("softmax_scale"),
                "alibi": True,
                "alibi_bias_max": _ALIBI_BIAS_MAX,
            },
            bos_token_id=given.get("bos_token_id"),
            eos_token_id=given.get("eos_token_id"),
            pad_token_id=given.get("pad_token_id"),
        )
    except KeyError as error:
        raise ModelError(f"{error} is not given", where=path) from error


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor, Path]]:
    """Each tensor with its name and file, read only when it is asked for."""
    for file in weight_files(folder):
        try:
            if file.suffix == ".safetensors":
                with safe_open(file, framework="pt") as reader:
                    for name in reader.keys():  # noqa: SIM118  (not a dict)
                        yield name, reader.get_tensor(name), file
            else:
                yield from ((name, tensor, file) for name, tensor in read_bin(file).items())
        except UNREADABLE as error:
            raise unreadable(file, error) from error
