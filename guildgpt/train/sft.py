"""Supervised fine-tuning: the base learns to answer, from conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guildgpt.bases.base import Base
from guildgpt.data.examples import Example
from guildgpt.network.hardware import pick_dtype
from guildgpt.network.hats import Hats
from guildgpt.train.config import SftConfig
from guildgpt.train.loop import Job, Outcome
from guildgpt.train.next_token import train_next_token, train_whole

HAT = "sft"


def sft(
    base: Base,
    train: Sequence[Example],
    held_out: Mapping[str, Sequence[Example]],
    config: SftConfig,
    job: Job,
) -> tuple[Any, Outcome]:
    """Fine-tune `base` on `train`; the trained model (plain transformers, float32) and figures."""
    conversations = [[example] for example in train]
    if config.adapter == "none":
        return train_whole(base.model, conversations, held_out, config, job)
    device = job.world.device
    rows = base.chat.control_ids if config.train_chat_tokens else base.chat.new_tokens
    hats = Hats(base.model, pick_dtype(config.dtype, device), device)
    hats.add(HAT, config.lora, seed=job.seed, new_tokens=rows)
    parameters = hats.parameters(HAT)
    outcome = train_next_token(hats.trunk(HAT), parameters, conversations, held_out, config, job)
    return hats.merged(HAT), outcome
