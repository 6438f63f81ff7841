"""Which weights are trained: low-rank adapters on all linear layers, or everything."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from guildgpt.model.config import AdapterConfig


def train_all(model: Any) -> Any:
    """Every weight is trained; they stay in float32, whatever the computation uses."""
    return model.requires_grad_(True)


def add_lora(
    model: Any, config: AdapterConfig, *, new_tokens: list[int], dtype: torch.dtype, seed: int
) -> Any:
    """Freeze the model in `dtype` and put float32 adapters on its linear layers (peft).

    Rows of tokens that the base never saw (`new_tokens`) are trained as well, in the embedding and
    in the head.
    """
    from peft import LoraConfig, get_peft_model

    model.to(dtype)
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    rows = {name: new_tokens for name, module in model.named_modules() if module in tables}
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        trainable_token_indices=rows if new_tokens else None,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers', about its own names
        torch.manual_seed(seed)
        return get_peft_model(model, settings)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def merged(model: Any) -> Any:
    """The plain transformers model in float32, adapters folded into its weights."""
    model.float()
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
