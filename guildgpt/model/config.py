"""Settings of what is trained and written. No torch here: recipes are read without it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AdapterConfig(BaseModel):
    """Low-rank adapters on the linear layers (Hu et al. 2021, arXiv 2106.09685)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rank: int = Field(default=16, ge=1, le=4096)
    """Width of the adapters' product: the larger, the more weights are trained."""
    alpha: float = Field(default=32.0, gt=0, le=1_000_000)
    """The adapters' product is scaled by alpha / rank."""
    layers: int | None = Field(default=None, ge=1, le=10_000)
    """So many layers, the uppermost, have adapters; all if not given. No gradient flows below them,
    and where several models share a base, what lies below is computed once for all of them."""


Dtype = Literal["auto", "float32", "bfloat16"]
LARGE = 1_000_000_000  # parameters from which weights are saved in bfloat16
