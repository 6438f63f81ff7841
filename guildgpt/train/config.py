"""What a recipe says of its stages. No torch here: recipes are read without it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from guildgpt.data.provenance import UNKNOWN, WrittenBy
from guildgpt.model.config import AdapterConfig, Dtype


class TrainConfig(BaseModel):
    """What every stage's loop knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(default=1.0, gt=0)
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; overrides `epochs`."""
    batch_size: int = Field(default=16, ge=1)
    """Rows per optimizer step, however many passes they take."""
    micro_tokens: int = Field(default=1024, ge=1)
    """Tokens per forward and backward pass at most (one row at least); memory follows it."""
    learning_rate: float = Field(default=2e-4, gt=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """The share of steps over which the learning rate rises from 0."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    final: float = Field(default=0.1, ge=0, le=1)
    """The learning rate at the end, as a share of the highest."""
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = Field(default=1.0, gt=0)
    """The gradient's norm at most."""
    dtype: Dtype = "auto"
    """Of the computation: auto is bfloat16 where the processor multiplies it natively."""
    evaluations: int = Field(default=4, ge=0)
    """How often held-out rows are measured on the way, evenly spread."""
    evaluation_rows: int = Field(default=32, ge=1)
    """Rows of each source that these measurements take; the final one takes all."""
    checkpoint_minutes: float = Field(default=5.0, ge=0)
    """Time between checkpoints; 0 writes one after every step."""
    keep_checkpoints: int = Field(default=2, ge=1)
    tensorboard: bool = False


class SftConfig(TrainConfig):
    """The `[sft]` section: supervised fine-tuning on conversations."""

    adapter: Literal["lora", "none"] = "lora"
    """`none` trains all weights."""
    lora: AdapterConfig = AdapterConfig()
    train_chat_tokens: bool = False
    """With adapters, train the rows of the chat tokens too: for a base whose vocabulary lists them
    although it never saw a chat. Rows that had to be added are always trained."""
    too_long: Literal["shorten", "drop"] = "shorten"
    """Rows over the context: keep the first whole exchanges that fit, or leave the row out."""


class PretrainConfig(TrainConfig):
    """The `[pretrain]` section: next-token prediction on packed plain text."""

    documents: list[str] = []
    """Text files, or folders of *.txt and *.md."""
    separator: str | None = None
    """A line that ends a document, where files hold several."""
    licence: str = UNKNOWN
    written_by: WrittenBy = "unknown"
    attribution: str = ""
    held_out: float = Field(default=0.05, ge=0, lt=1)
    batch_size: int = Field(default=8, ge=1)
    """Rows of up to the context's length per optimizer step, each packed full of documents."""
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
