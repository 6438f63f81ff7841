"""Supervised fine-tuning: the base learns to answer, from conversations.

Load, prepare, step, measure, save: read `sft` from top to bottom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guildgpt.data.examples import Example
from guildgpt.evaluate.bits import measure_all
from guildgpt.model.adapter import add_lora, merged, train_all, trainable
from guildgpt.model.base import Base
from guildgpt.model.hardware import pick_device, pick_dtype
from guildgpt.model.trunk import trunk_for
from guildgpt.train.config import SftConfig
from guildgpt.train.loop import Outcome, Watcher, run_loop
from guildgpt.train.next_token import NextToken


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
    device = pick_device()
    dtype = pick_dtype(config.dtype, device)

    if config.adapter == "lora":
        rows = base.chat.control_ids if config.train_chat_tokens else base.chat.new_tokens
        model = add_lora(base.model, config.lora, new_tokens=rows, dtype=dtype, seed=seed)
    else:
        model = train_all(base.model)
    model.to(device).train()

    trunk = trunk_for(model, dtype)
    objective = NextToken(trunk, [[example] for example in train], config, seed)
    few = {name: rows[: config.evaluation_rows] for name, rows in held_out.items() if rows}

    outcome = run_loop(
        objective,
        trainable(model),
        config,
        folder,
        device=device,
        dtype=dtype,
        watcher=watcher,
        seed=seed,
        evaluate=(lambda: figures(measure_all(trunk, few, config.micro_tokens))) if few else None,
    )
    return merged(model.to("cpu")), outcome


def figures(measured: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Bits per byte and perplexity of each source, for the log."""
    return {
        name: {"bits_per_byte": bits.bits_per_byte, "perplexity": bits.perplexity}
        for name, bits in measured.items()
    }
