"""`guildgpt export MODEL --adapter`: what training changed of a base, as a folder of peft's.

A model folder holds whole weights: the adapters of all its stages are merged into the base. Here
they are taken out again. Training with adapters changes linear layers by low-rank matrices, and the
rows of new tokens: the difference to the base is exactly that, whichever stages came after another.
What differs otherwise was trained whole, and is refused.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from guildgpt.bases.base import read_model
from guildgpt.errors import ModelError, disk_error
from guildgpt.model.adapter import without_adapter
from guildgpt.model.lineage import LINEAGE_FILE
from guildgpt.model.provenance import PROVENANCE_FILE
from guildgpt.model.quiet import quiet
from guildgpt.sharing.difference import Change, difference
from guildgpt.sharing.origin import REMEDY, Origin

ADAPTER = "adapter"  # the folder, within the model's
TRAVELS = (
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "template.json"),
    *(PROVENANCE_FILE, LINEAGE_FILE),
)


@dataclass(frozen=True, slots=True)
class Written:
    """An adapter's folder, and what there is to know of it."""

    folder: Path
    rank: int
    matrices: int
    rows: int  # of the vocabulary that travel with it
    new_rows: int  # of these, such as the base has no room for
    parameters: int
    dtype: str  # of the base, as it was trained on
    exact: bool  # False: to what a coarse format rounded away between stages, or in the end


def write_adapter(
    folder: Path,
    origin: Origin,
    *,
    card: Callable[[Written], str],
    on_compared: Callable[[int, int], None] = lambda done, all: None,
) -> Written:
    """Write the adapter of the model in `folder` into its subfolder `adapter`, whole or not at all.

    `card` makes its README.md; `on_compared` is told how many of all tensors are. ModelError where
    the model is no low-rank change of the base.
    """
    out = folder / ADAPTER
    work = folder / f".{ADAPTER}.writing"
    shutil.rmtree(work, ignore_errors=True)
    with without_adapter(folder) as whole:
        own = read_model(whole)
    base = read_model(origin.folder)
    rows = len(base.get_input_embeddings().weight)
    wanted = len(own.get_input_embeddings().weight)
    if wanted > rows:
        with quiet():
            base.resize_token_embeddings(wanted, mean_resizing=False)
    change = difference(own, base, origin, rows, on_compared)
    try:
        work.mkdir()
        worn = _worn(base, own, change, origin)
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            worn.save_pretrained(work, save_embedding_layers=False)
        for name in TRAVELS:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, work / name)
        table = set().union(*change.rows.values())
        written = Written(
            folder=out,
            rank=change.rank,
            matrices=len(change.matrices),
            rows=len(table),
            new_rows=sum(row >= rows for row in table),
            parameters=sum(p.numel() for p in worn.parameters() if p.requires_grad),
            dtype=str(change.rounded or base.dtype).removeprefix("torch."),
            exact=change.exact,
        )
        (work / "README.md").write_text(card(written), encoding="utf-8")
        for file in work.glob("*.safetensors"):
            file.chmod(0o644)
        shutil.rmtree(out, ignore_errors=True)
        work.rename(out)
    except OSError as error:
        raise disk_error(error, "the adapter", out) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return written


def _worn(base: Any, own: Any, change: Change, origin: Origin) -> Any:
    """The base in peft's wrapper, wearing what was found."""
    from peft import LoraConfig, get_peft_model

    rank = change.rank
    settings = LoraConfig(
        r=rank,
        lora_alpha=rank,  # so that the product counts as it is
        lora_dropout=0.0,
        target_modules=_targets(base, list(change.matrices)),
        trainable_token_indices=change.rows or None,  # peft sees to a head that is tied
        task_type="CAUSAL_LM",
        base_model_name_or_path=origin.name,
        revision=origin.revision or None,
    )
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        worn = get_peft_model(base, settings)
    worn.peft_config["default"].base_model_name_or_path = origin.name
    modules = dict(worn.get_base_model().named_modules())
    tables = dict(own.named_modules())
    with torch.no_grad():
        for place, (a, b) in change.matrices.items():
            for kind, matrix in (("lora_A", a), ("lora_B", b)):
                weight = getattr(modules[place], kind)["default"].weight
                weight.data = torch.zeros(weight.shape)  # in float32, whatever the base is in
                part = weight[: len(matrix)] if kind == "lora_A" else weight[:, : matrix.shape[1]]
                part.copy_(matrix)
        for place, some in change.rows.items():
            adapter = getattr(modules[place], "token_adapter", None)
            if adapter is not None and "default" in adapter.trainable_tokens_delta:
                values = tables[place].weight[some].detach().float()
                adapter.trainable_tokens_delta["default"].data = values.clone()
    return worn


def _targets(base: Any, places: Sequence[str]) -> list[str]:
    """The layers by the shortest names that mean these and no others."""
    if not places:
        raise ModelError(
            "only rows of the vocabulary were trained: there is no low-rank matrix to write",
            remedy=REMEDY,
        )
    ends = sorted({place.rpartition(".")[2] for place in places})
    meant = [
        name
        for name, module in base.named_modules()
        if name.rpartition(".")[2] in ends and isinstance(module, (nn.Linear, Conv1D))
    ]
    return ends if set(meant) == set(places) else sorted(places)
