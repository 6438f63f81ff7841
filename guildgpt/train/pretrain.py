"""Pretraining: next-token prediction on plain text, rows packed full of documents.

No document sees another: each keeps its own positions and its own attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guildgpt.data.examples import Example, pack
from guildgpt.evaluate.bits import measure_all
from guildgpt.model.adapter import merged, train_all, trainable
from guildgpt.model.base import Base
from guildgpt.model.hardware import pick_device, pick_dtype
from guildgpt.model.trunk import trunk_for
from guildgpt.train.config import PretrainConfig
from guildgpt.train.loop import Outcome, Watcher, run_loop
from guildgpt.train.next_token import NextToken
from guildgpt.train.sft import figures


def pretrain(
    base: Base,
    train: Sequence[Example],
    held_out: Mapping[str, Sequence[Example]],
    config: PretrainConfig,
    folder: Path,
    *,
    context: int,
    seed: int,
    watcher: Watcher,
) -> tuple[Any, Outcome]:
    """Train all of `base` on documents; the trained model and figures. Resumes like `sft`."""
    device = pick_device()
    dtype = pick_dtype(config.dtype, device)

    model = train_all(base.model).to(device).train()
    trunk = trunk_for(model, dtype)
    objective = NextToken(trunk, pack(train, context, seed), config, seed)
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
