"""Pretraining: next-token prediction on plain text, rows packed full of documents.

No document sees another: each keeps its own positions and its own attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guildgpt.data.documents import Document, document_side
from guildgpt.data.examples import document_examples, pack
from guildgpt.errors import DataError
from guildgpt.evaluate.bits import measure_all
from guildgpt.model.adapter import merged, train_all, trainable
from guildgpt.model.base import Base
from guildgpt.model.trunk import trunk_for
from guildgpt.train.config import PretrainConfig
from guildgpt.train.hardware import pick_device, pick_dtype
from guildgpt.train.loop import Outcome, Watcher, run_loop
from guildgpt.train.next_token import NextToken
from guildgpt.train.sft import figures


def pretrain(
    base: Base,
    documents: Sequence[Document],
    config: PretrainConfig,
    folder: Path,
    *,
    context: int,
    seed: int,
    watcher: Watcher,
) -> tuple[Any, Outcome]:
    """Train all of `base` on `documents`; the trained model and figures. Resumes like `sft`."""
    device = pick_device()
    dtype = pick_dtype(config.dtype, device)

    sides: dict[str, list[Document]] = {"train": [], "held_out": []}
    for document in documents:
        sides[document_side(document, config.held_out)].append(document)
    if not sides["train"]:
        raise DataError(
            "no document is left to train on",
            where="pretrain.held_out",
            remedy="Lower it, or add documents.",
        )
    rows = pack(
        document_examples(sides["train"], base.chat.tokenizer, base.chat.pad_id, context=context),
        context,
        seed,
    )
    held_out = document_examples(
        sides["held_out"], base.chat.tokenizer, base.chat.pad_id, context=context
    )

    model = train_all(base.model).to(device).train()
    trunk = trunk_for(model, dtype)
    few = {"documents": held_out[: config.evaluation_rows]}

    outcome = run_loop(
        NextToken(trunk, rows, config, seed),
        trainable(model),
        config,
        folder,
        device=device,
        dtype=dtype,
        watcher=watcher,
        evaluate=lambda: figures(measure_all(trunk, few, config.micro_tokens)),
    )
    return merged(model.to("cpu")), outcome
