"""Model folders as training with adapters leaves them, on bases that have random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from bases.folders import config

from guildgpt.bases.base import load_base
from guildgpt.data.provenance import Provenance
from guildgpt.model.config import AdapterConfig
from guildgpt.model.folder import model_card, write_model_folder
from guildgpt.network.hats import Hats

ROWS = Provenance(
    "dolly", "data", "CC-BY-SA-3.0", "databricks/databricks-dolly-15k", "abc", "0" * 64, 7,
    "people", "databricks-dolly-15k by Databricks",
)  # fmt: skip


def tuned(
    folder: Path,
    base: Path | str,
    *,
    rank: int = 4,
    trained_in: torch.dtype = torch.float32,
    whole: bool = False,
    stage: str = "sft",
    layers: int | None = None,
    adapter: Literal["merge"] | None = None,
    **changes: Any,
) -> Path:
    """A model folder: the base with a drawn adapter, and drawn rows of new tokens, merged into it;
    or with drawn changes to all its weights."""
    told = config(base, licence="apache-2.0", written_by="people", adapter=adapter)
    start = load_base(told)
    generator = torch.Generator().manual_seed(rank)
    if whole:
        model = start.model.float()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    else:
        hats = Hats(start.model, trained_in, torch.device("cpu"))
        settings = AdapterConfig(rank=rank, alpha=2 * rank, layers=layers)
        hats.add("sft", settings, seed=0, new_tokens=start.chat.new_tokens)
        with torch.no_grad():
            for parameter in hats.parameters("sft").values():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        model = hats.merged("sft")
    section = {"adapter": "none" if whole else "lora", "lora": {"rank": rank}}
    recipe = {
        "name": "tuned",
        "stages": [stage],
        "model": told.model_dump(mode="json"),
        "data": {"held_out": 0.1, "sources": [{"source": f"jsonl:{folder}/rows.jsonl"}]},
        stage: section,
    }
    past = [*start.provenance, ROWS]
    card = model_card("tuned", past, stages=[stage], figures=["7 tokens seen in 1 step"])
    settings = {"context": 64, "provenance": past, "recipe": recipe, "card": card, "gguf": ()}
    write_model_folder(folder, model, start.chat, **{**settings, **changes})
    return folder
