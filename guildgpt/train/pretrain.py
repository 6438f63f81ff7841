"""Pretraining: next-token prediction on plain text, rows packed full of documents.

No document sees another: each keeps its own positions and its own attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guildgpt.bases.base import Base
from guildgpt.data.examples import Example, pack
from guildgpt.train.config import PretrainConfig
from guildgpt.train.loop import Job, Outcome
from guildgpt.train.next_token import train_whole


def pretrain(
    base: Base,
    train: Sequence[Example],
    held_out: Mapping[str, Sequence[Example]],
    config: PretrainConfig,
    job: Job,
    *,
    context: int,
) -> tuple[Any, Outcome]:
    """Train all of `base` on documents; the trained model and figures."""
    documents = pack(train, context, job.seed)
    return train_whole(base.model, documents, held_out, config, job)
