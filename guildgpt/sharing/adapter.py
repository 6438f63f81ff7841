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
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from guildgpt.bases.base import read_model
from guildgpt.errors import ModelError, disk_error
from guildgpt.model.adapter import without_adapter
from guildgpt.model.lineage import LINEAGE_FILE
from guildgpt.model.provenance import PROVENANCE_FILE
from guildgpt.model.quiet import quiet
from guildgpt.sharing.low_rank import factors, rounding
from guildgpt.sharing.origin import REMEDY, Origin

ADAPTER = "adapter"  # the folder, within the model's
TRAVELS = (
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "template.json"),
    *(PROVENANCE_FILE, LINEAGE_FILE),
)
FEW = 0.25  # of a table's rows: more than so many changed ones are a table trained whole


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


@dataclass(frozen=True, slots=True)
class _Change:
    """What training made of a base: pairs (A, B) by module, and rows of tables by module."""

    matrices: dict[str, tuple[Tensor, Tensor]]
    rows: dict[str, list[int]]
    rounded: torch.dtype | None  # what the base was rounded to before it was trained

    @property
    def rank(self) -> int:
        return max((len(a) for a, _ in self.matrices.values()), default=1)


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
    change = _difference(own, base, origin, rows, on_compared)
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


def _difference(
    own: Any, base: Any, origin: Origin, first_new: int, on_compared: Callable[[int, int], None]
) -> _Change:
    """What is not the same in the two models; ModelError where an adapter cannot say it."""
    ours, theirs = dict(own.named_parameters()), dict(base.named_parameters())
    shapes = {name: p.shape for name, p in theirs.items()}
    if shapes != {name: p.shape for name, p in ours.items()}:
        raise ModelError(
            f"{origin.name} is not the base of this model: its weights have other names or sizes",
            where=origin.folder,
            remedy="Name the base that it was trained from with --base.",
        )
    tables = {id(t.weight) for t in (own.get_input_embeddings(), own.get_output_embeddings()) if t}
    modules = dict(own.named_modules())
    with torch.no_grad():
        rounded = _rounded_to(
            own.get_input_embeddings().weight, base.get_input_embeddings().weight, first_new
        )
        matrices: dict[str, tuple[Tensor, Tensor]] = {}
        rows: dict[str, list[int]] = {}
        for done, (name, weight) in enumerate(ours.items()):
            on_compared(done, len(ours))
            place, _, kind = name.rpartition(".")
            start = theirs[name] if rounded is None else theirs[name].to(rounded)
            if torch.equal(weight, start.to(weight.dtype)) and id(weight) not in tables:
                continue
            if id(weight) in tables and kind == "weight":
                changed = (weight != start.to(weight.dtype)).any(1)
                changed[first_new:] = True
                if float(changed[:first_new].float().mean()) > FEW:
                    raise _trained_whole(place, origin)
                rows[place] = changed.nonzero()[:, 0].tolist()
                continue
            found = None
            if isinstance(modules[place], (nn.Linear, Conv1D)) and kind == "weight":
                turned = isinstance(modules[place], Conv1D)
                change = weight.double() - start.double()
                least = 1 if weight.dtype == torch.float32 else origin.rank
                found = factors(
                    change.T if turned else change, origin.rank, rounding(weight), least=least
                )
            if found is None:
                raise _trained_whole(name, origin)
            matrices[place] = found
    rows = {place: some for place, some in rows.items() if some}
    if not matrices and not rows:
        raise ModelError(
            f"this model is {origin.name} itself: no weight of it was changed",
            where=origin.folder,
            remedy="Name the base that it was trained from with --base.",
        )
    return _Change(matrices, rows, rounded)


def _rounded_to(own: Tensor, base: Tensor, first_new: int) -> torch.dtype | None:
    """The format that the base was in while it was trained, None for that of its files: the one in
    which the rows that nobody trained are the same."""
    best, most = None, -1
    for dtype in (None, torch.bfloat16, torch.float16):
        start = base if dtype is None else base.to(dtype)
        same = int((own == start.to(own.dtype)).all(1)[:first_new].sum())
        if same > most:
            best, most = dtype, same
    return best


def _trained_whole(name: str, origin: Origin) -> ModelError:
    return ModelError(
        f"this model is no adapter on {origin.name}: all weights of {name} were trained, not only "
        "low-rank matrices beside them",
        where=origin.model,
        remedy=f"{REMEDY} (Was it another base? Name it with --base.)",
    )


def _worn(base: Any, own: Any, change: _Change, origin: Origin) -> Any:
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
