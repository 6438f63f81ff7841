"""The `[model]` section of a recipe: which base. No torch here: recipes are read without it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from guildgpt.data.provenance import WrittenBy


class ScratchConfig(BaseModel):
    """A small GPT made from nothing: its tokenizer's size and its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    vocabulary: int = Field(default=4096, ge=300, le=1_000_000)
    """Tokens of the byte-level BPE tokenizer that is learned from the documents."""
    hidden_size: int = Field(default=256, ge=32, le=65_536, multiple_of=32)
    """Width of the model; `heads` times an even number."""
    layers: int = Field(default=6, ge=1, le=1000)
    """Decoder layers."""
    heads: int = Field(default=4, ge=1, le=1024)
    """Query heads."""
    kv_heads: int = Field(default=2, ge=1, le=1024)
    """Key and value heads; `heads` is a multiple of it."""
    intermediate_size: int = Field(default=704, ge=32, le=262_144, multiple_of=32)
    """Width inside the feed-forward layers."""

    @model_validator(mode="after")
    def _divides(self) -> ScratchConfig:
        if self.hidden_size % self.heads or (self.hidden_size // self.heads) % 2:
            raise ValueError(f"hidden_size {self.hidden_size} must be heads times an even number")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        return self


class BaseConfig(BaseModel):
    """The `[model]` section: which base, and how it is to be read.

    `base` is `starter`, `scratch`, a Hub id, a local folder (a causal model of transformers, or a
    model folder of ours) or a GGUF file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    base: str = "starter"
    """`starter`, `scratch`, a Hub id (owner/name), a local folder, or a GGUF file."""
    revision: str | None = None
    """The commit, branch or tag on the Hub."""
    adapter: Literal["merge", "continue", "ignore"] | None = None
    """What becomes of a peft adapter in the base's folder: folded into its base, trained further by
    `sft`, or left aside where the whole base lies beside it. Without a word it is refused."""
    adapter_base: str | None = None
    """The base that such an adapter belongs to, where its adapter_config.json names one that is
    elsewhere now, or quantized: a folder or a Hub id."""
    licence: str | None = None
    """The base's licence (an SPDX id), where its files do not say it."""
    written_by: WrittenBy | None = None
    """Who wrote what the base was tuned on, where it is not known."""
    context: int = Field(default=1024, ge=32, le=10_000_000)
    """Tokens of a row at most; longer ones are shortened or dropped."""
    template: Literal["own", "chatml"] = "own"
    """Chat template: `own` keeps the base's, where it has one whose ids can be reproduced; `chatml`
    teaches ChatML."""
    system: str = ""
    """A system text that opens every conversation without one of its own. It is saved with the
    model."""
    scratch: ScratchConfig = ScratchConfig()
    """The shape of a base from scratch."""

    def of_run(self, folder: Path) -> BaseConfig:
        """The same for a model folder that a run left: whole, and of no revision."""
        whole = {"base": str(folder), "revision": None, "adapter": None, "adapter_base": None}
        return self.model_copy(update=whole)
