"""Folders with replit-code in either layout, as the Hub has them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import save_file
from spiece import train_spiece
from transformers import (
    MptConfig,
    MptForCausalLM,
)

from .runs import SHARED

LAYOUT_1 = {"norm_1": "ln_1", "norm_2": "ln_2", "norm_f": "ln_f"}
LAYOUT_1 |= {"ffn.up_proj": "mlp.mlp_up", "ffn.down_proj": "mlp.mlp_down"}
SHAPE = {"d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 1024, "vocab_size": 512}


def write_replit(folder: Path, layout: str, shared: bool) -> Path:
    """A folder as the Hub has it: config.json, weights in one of the layouts, spiece.model."""
    folder.mkdir()
    if shared:
        if not (SHARED / "replit" / layout).is_dir():
            pytest.skip("the development data is not beside this checkout")
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(SHARED / "replit" / layout / name, folder / name)
    else:
        write_stand_in(folder, layout)
    documents = folder.parent / "spiece"
    tiny.write_documents(documents)
    tiny.write_rows(documents / "rows.txt")
    # With two chat tokens all ids fit into the 512 rows.
    train_spiece(folder, sorted(documents.glob("*.txt")), 400)
    return folder


def write_stand_in(folder: Path, layout: str) -> None:
    torch.manual_seed(3)
    model = MptForCausalLM(MptConfig(**SHAPE))
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.2)
    tensors = {name: p.detach().clone() for name, p in model.named_parameters()}
    if layout == "v1":
        config = {"model_type": "replit_lm", "alibi": True, "no_bias": True, "mlp_ratio": 4}
        for ours, theirs in LAYOUT_1.items():
            tensors = {name.replace(ours, theirs): tensor for name, tensor in tensors.items()}
    else:
        attention = {"alibi": True, "alibi_bias_max": 8, "attn_type": "multihead_attention"}
        config = {"model_type": "mpt", "architectures": ["MPTForCausalLM"], "no_bias": True}
        config |= {"attn_config": attention, "expansion_ratio": 4}
    (folder / "config.json").write_text(json.dumps({**SHAPE, **config}))
    save_file(tensors, folder / "model.safetensors")
