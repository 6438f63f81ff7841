"""Supervised fine-tuning: the base learns to answer, from conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guildgpt.bases.base import Base
from guildgpt.data.examples import Example
from guildgpt.network.adapter import add_lora, train_all
from guildgpt.network.hardware import pick_dtype
from guildgpt.train.config import SftConfig
from guildgpt.train.loop import Job, Outcome
from guildgpt.train.next_token import train_next_token


def sft(
    base: Base,
    train: Sequence[Example],
    held_out: Mapping[str, Sequence[Example]],
    config: SftConfig,
    job: Job,
) -> tuple[Any, Outcome]:
    """Fine-tune `base` on `train`; the trained model (plain transformers, float32) and figures."""
    if config.adapter == "lora":
        rows = base.chat.control_ids if config.train_chat_tokens else base.chat.new_tokens
        dtype = pick_dtype(config.dtype, job.world.device)
        model = add_lora(base.model, config.lora, new_tokens=rows, dtype=dtype, seed=job.seed)
    else:
        model = train_all(base.model)
    conversations = [[example] for example in train]
    return train_next_token(model, conversations, held_out, config, job)
