"""A base's network, read from a folder in transformers' form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from guildgpt.bases.replit import is_replit, load_replit
from guildgpt.errors import ModelError
from guildgpt.model.quiet import first_line, quiet


def read_model(folder: Path) -> Any:
    """A folder's causal language model in float32."""
    config_file = folder / "config.json"
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"this is not a model folder: config.json cannot be read ({error})", where=folder
        ) from error
    if is_replit(config):
        return load_replit(folder)
    try:
        with quiet():
            model, loaded = AutoModelForCausalLM.from_pretrained(
                folder,
                config=_without_dropout(folder),
                dtype=torch.float32,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:
        raise ModelError(
            f"transformers cannot load this model ({first_line(error)})",
            where=folder,
            remedy="It takes causal language models that need no remote code.",
        ) from error
    if missing := sorted(loaded["missing_keys"]):  # transformers draws these at random
        raise ModelError(
            f"the tensor {missing[0]} is missing ({len(missing)} such)",
            where=folder,
            remedy="Were all the files downloaded, and is this a causal language model?",
        )
    return model


def _without_dropout(folder: Path) -> Any:
    """The folder's configuration; nothing is dropped at random, so that a resumed run is equal."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    for key, value in config.to_dict().items():
        if "drop" in key and isinstance(value, float):
            setattr(config, key, 0.0)
    return config
