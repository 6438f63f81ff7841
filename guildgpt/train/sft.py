"""Supervised fine-tuning: the base learns to answer, from conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guildgpt.bases.base import Base
from guildgpt.data.examples import Example
from guildgpt.network.adapter import add_lora, train_all
from guildgpt.network.hardware import pick_device, pick_dtype
from guildgpt.train.config import SftConfig
from guildgpt.train.loop import Outcome, Watcher
from guildgpt.train.next_token import train_next_token


def sft(
    base: Base,
    train: Sequence[Example],
    held_out: Mapping[str, Sequence[Example]],
    config: SftConfig,
    folder: Path,
    *,
    seed: int,
    watcher: Watcher,
) -> tuple[Any, Outcome]:
    """Fine-tune `base` on `train`; the trained model (plain transformers, float32) and figures.

    `folder` holds checkpoints and metrics: called again with the same arguments, it goes on.
    """
    if config.adapter == "lora":
        rows = base.chat.control_ids if config.train_chat_tokens else base.chat.new_tokens
        dtype = pick_dtype(config.dtype, pick_device())
        model = add_lora(base.model, config.lora, new_tokens=rows, dtype=dtype, seed=seed)
    else:
        model = train_all(base.model)
    conversations = [[example] for example in train]
    return train_next_token(
        model, conversations, held_out, config, folder, seed=seed, watcher=watcher
    )
