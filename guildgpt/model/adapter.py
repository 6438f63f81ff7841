"""An adapter of peft's as others leave it: its settings and weights, put on a model that is there.

A folder with adapter_config.json and adapter_model.safetensors (or .bin), alone or beside a base's.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from guildgpt.errors import ModelError
from guildgpt.model.json_file import json_if_any, read_json
from guildgpt.model.quiet import first_line, quiet

CONFIG_FILE = "adapter_config.json"
WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin")  # the first that is there
MERGE = 'Set model.adapter = "merge" to begin with the two made one.'
# What a plain low-rank adapter does not have: what training here does not know how to go on with.
_MORE = (
    *("use_dora", "modules_to_save", "lora_bias", "layer_replication", "megatron_config"),
    *("trainable_token_indices", "target_parameters", "alora_invocation_tokens", "use_bdlora"),
)


def base_of(folder: Path) -> str | None:
    """The base that an adapter says it was trained on: a Hub id, or a path of that time."""
    base = json_if_any(folder / CONFIG_FILE).get("base_model_name_or_path")
    return base if isinstance(base, str) and base else None


def files_of(folder: Path) -> list[Path]:
    """An adapter's own files: its settings and its weights, as far as they are there."""
    weights = [folder / name for name in WEIGHT_FILES if (folder / name).is_file()]
    return [folder / CONFIG_FILE, *weights[:1]]


def merge(model: Any, folder: Path) -> Any:
    """The model with the folder's adapter folded into its weights, their format as it was."""
    worn = put_on(model, folder, "merged", _settings(folder))
    try:
        with quiet():
            return worn.merge_and_unload(safe_merge=True)
    except Exception as error:  # NotImplementedError, AttributeError, ValueError: each has its own
        raise ModelError(
            f"peft cannot merge this adapter ({first_line(error)})",
            where=folder,
            remedy="Low-rank adapters (LoRA, DoRA and their like) can be merged; prompts and "
            "prefixes cannot.",
        ) from error


def plain_settings(folder: Path, *, dropout: float = 0.0) -> Any:
    """The peft settings of a low-rank adapter that can be trained further. ModelError for others,
    and for what is more than low-rank matrices beside linear layers."""
    settings = _settings(folder)
    kind = getattr(settings.peft_type, "value", settings.peft_type)
    more = [key for key in _MORE if getattr(settings, key, None)]
    if any("lora_" not in key for key in _weights(folder)):
        more.append("layers that were trained whole")
    if getattr(settings, "bias", "none") != "none":
        more.append("bias")
    if kind != "LORA" or more:
        raise ModelError(
            "only plain low-rank adapters can be trained further; this one "
            + (f"is {kind}" if kind != "LORA" else f"has {' and '.join(more)}"),
            where=folder / CONFIG_FILE,
            remedy=MERGE,
        )
    settings.lora_dropout = dropout
    settings.inference_mode = False
    return settings


def put_on(model: Any, folder: Path, name: str, settings: Any) -> Any:
    """`model` in peft's wrapper, wearing the folder's adapter under `name`.

    Rows of the vocabulary that the adapter brings and the model lacks are made first. ModelError
    where its weights do not fit: peft would only warn, and go on without them.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    weights = _weights(folder)
    try:
        _make_rows(model, weights, settings)
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            worn = get_peft_model(model, settings, adapter_name=name)
            # Rows of new tokens are in the settings alone: they stay what they are in the base.
            fresh = get_peft_model_state_dict(worn, adapter_name=name)
            rows = {key: row for key, row in fresh.items() if "trainable_tokens" in key}
            loaded = set_peft_model_state_dict(worn, {**rows, **weights}, adapter_name=name)
    except Exception as error:  # whatever peft raises where base and adapter are not of one kind
        raise ModelError(
            f"this adapter does not fit its base ({first_line(error)})",
            where=folder,
            remedy=f"It says that it belongs to {base_of(folder)}. Name another base in "
            "model.adapter_base if this is not the one.",
        ) from error
    missing = [
        key
        for key in loaded.missing_keys
        if f".{name}" in key and "trainable_tokens" not in key  # a tied head's are the embedding's
    ]
    tied = getattr(model.config, "tie_word_embeddings", False)
    unknown = [key for key in loaded.unexpected_keys if not (tied and "trainable_tokens" in key)]
    if wrong := [*missing, *unknown]:
        raise ModelError(
            f"this adapter does not fit its base: {wrong[0]} is "
            f"{'missing' if missing else 'not there'} ({len(wrong)} such)",
            where=folder,
            remedy=f"It says that it belongs to {base_of(folder)}. Name another base in "
            "model.adapter_base if this is not the one.",
        )
    return worn


@contextmanager
def without_adapter(folder: Path) -> Iterator[Path]:
    """A model's folder without the adapter that lies beside it, which transformers would load into
    the model in silence: links to all other files."""
    if not (folder / CONFIG_FILE).is_file():
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        for file in folder.iterdir():
            if file.is_file() and not file.name.startswith("adapter_"):
                try:
                    (Path(scratch) / file.name).symlink_to(file.absolute())
                except OSError:  # Windows lets administrators alone make such links
                    shutil.copyfile(file, Path(scratch) / file.name)
        yield Path(scratch)


def _settings(folder: Path) -> Any:
    """peft's settings of an adapter, to be merged or trained."""
    from peft import PeftConfig

    read_json(folder / CONFIG_FILE)  # or an error with its own words
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of keys that a newer peft wrote
            settings: Any = PeftConfig.from_pretrained(str(folder))
    except Exception as error:
        raise ModelError(
            f"peft cannot read this adapter ({first_line(error)})",
            where=folder / CONFIG_FILE,
            remedy="Was it written by a newer peft? pip install -U peft",
        ) from error
    if getattr(settings, "is_prompt_learning", False):
        raise ModelError(
            f"this adapter ({settings.peft_type.value}) is a learned prompt, which cannot become "
            "part of the weights",
            where=folder / CONFIG_FILE,
            remedy="Low-rank adapters (LoRA, DoRA and their like) can be taken.",
        )
    return settings


def _weights(folder: Path) -> dict[str, Tensor]:
    from peft import load_peft_weights

    if len(files_of(folder)) < 2:
        raise ModelError(
            "the adapter's weights are not here",
            where=folder / WEIGHT_FILES[0],
            remedy="They lie beside adapter_config.json; was the folder copied whole?",
        )
    try:
        return dict(load_peft_weights(str(folder), device="cpu"))
    except Exception as error:
        raise ModelError(
            f"the adapter's weights cannot be read ({first_line(error)})",
            where=files_of(folder)[-1],
            remedy="Was the file cut short? Copy or download it again.",
        ) from error


def _make_rows(model: Any, weights: Mapping[str, Tensor], settings: Any) -> None:
    """Room for the rows of an embedding or a head that was trained whole, with tokens added; and
    for single rows of such tokens."""
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [name for name, module in model.named_modules() if module in tables]
    rows = [
        len(tensor)
        for key, tensor in weights.items()
        if tensor.ndim == 2 and any(key.endswith(f".{name}.weight") for name in names)
    ]
    single = getattr(settings, "trainable_token_indices", None) or []
    single = [*chain(*single.values())] if isinstance(single, dict) else single
    rows += [max(single) + 1] if single and max(single) >= len(tables[0].weight) else []
    if rows and max(rows) != len(tables[0].weight):
        with quiet():
            model.resize_token_embeddings(max(rows), mean_resizing=False)
