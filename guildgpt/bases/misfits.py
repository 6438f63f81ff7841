"""Why weights do not fit the model that their config.json describes."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from guildgpt.model.quiet import quiet
from guildgpt.model.weights import Weights


def misfit_of(folder: Path) -> str | None:
    """The first tensor whose shape is not the one that config.json asks for, in words; None where
    there is none, or where it cannot be told."""
    try:
        with torch.device("meta"), quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            wanted = AutoModelForCausalLM.from_config(config).state_dict()
        weights = Weights(folder)
    except Exception:  # whatever transformers raises: the error that led here says more
        return None
    for name, tensor in wanted.items():
        if name in weights.names and (there := weights.shape(name)) != tuple(tensor.shape):
            return f"{name} is {_by(there)} in the files, and {_by(tensor.shape)} by config.json"
    return None


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "one number"
