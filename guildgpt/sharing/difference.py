"""What training made of a base: low-rank matrices beside linear layers, and rows of the vocabulary.

Training may have held the base in 16 bits, each stage the weights that the one before left: what
rounding took is in the difference as well, and is no adapter's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from guildgpt.errors import ModelError
from guildgpt.sharing.low_rank import factors, rounding
from guildgpt.sharing.origin import REMEDY, Origin

Pair = tuple[Tensor, Tensor]  # A (r, n) and B (m, r)
Format = torch.dtype | None  # what the base was rounded to for training; None: as in its files
# What the sum of products in float32 may be off by, in units of what rounding its result costs; and
# how much several roundings, one after another, may come to.
MERGED, ROUNDED = 4.0, 2.0
FEW = 0.25  # of a table's rows: more than so many changed ones are a table trained whole


@dataclass(frozen=True, slots=True)
class Change:
    """The difference: pairs (A, B) by module, rows of tables by module."""

    matrices: dict[str, Pair]
    rows: dict[str, list[int]]
    rounded: Format
    exact: bool  # whether nothing is lost but what float32 rounds

    @property
    def rank(self) -> int:
        """The largest of all pairs."""
        return max((len(a) for a, _ in self.matrices.values()), default=1)


@torch.no_grad()
def difference(
    own: Any,
    base: Any,
    origin: Origin,
    first_new: int,
    on_compared: Callable[[int, int], None],
) -> Change:
    """What is not the same in two models of one shape; rows from `first_new` on are new.

    ModelError where an adapter cannot say it: where something else was trained, or all of a matrix.
    """
    ours, theirs = dict(own.named_parameters()), dict(base.named_parameters())
    if {name: p.shape for name, p in theirs.items()} != {name: p.shape for name, p in ours.items()}:
        raise ModelError(
            f"{origin.name} is not the base of this model: its weights have other names or sizes",
            where=origin.folder,
            remedy="Name the base that it was trained from with --base.",
        )
    tables = {id(t.weight) for t in (own.get_input_embeddings(), own.get_output_embeddings()) if t}
    modules = dict(own.named_modules())
    formats = _formats(own.get_input_embeddings(), base.get_input_embeddings(), first_new)
    matrices: dict[str, Pair] = {}
    rows: dict[str, list[int]] = {}
    exact = True
    for done, (name, weight) in enumerate(ours.items()):
        on_compared(done, len(ours))
        place, start = name.rpartition(".")[0], theirs[name]
        if id(weight) in tables:
            changed = (weight != _as(start, formats[0], weight)).any(1)
            if float(changed[:first_new].float().mean()) > FEW:
                raise _trained_whole(place, origin)
            changed[first_new:] = True
            rows[place] = changed.nonzero()[:, 0].tolist()
        elif any(torch.equal(weight, _as(start, format, weight)) for format in formats):
            continue
        elif isinstance(modules[place], nn.Linear | Conv1D) and weight.ndim == 2:
            turned = isinstance(modules[place], Conv1D)
            pair, format = _exactly(weight, start, formats, origin.rank, turned)
            if pair is not None:
                formats = [format]
            else:
                exact, pair = False, _nearly(weight, start, formats[0], origin.rank, turned)
            if pair is None:
                raise _trained_whole(name, origin)
            matrices[place] = pair
        else:
            raise _trained_whole(name, origin)
    rows = {place: some for place, some in rows.items() if some}
    if not matrices and not rows:
        raise ModelError(
            f"this model is {origin.name} itself: no weight of it was changed",
            where=origin.folder,
            remedy="Name the base that it was trained from with --base.",
        )
    return Change(matrices, rows, formats[0], exact)


def _formats(own: Any, base: Any, first_new: int) -> list[Format]:
    """The formats that the base may have been in while it was trained, by the rows that nobody
    trained: those are as that format left them."""

    def same(format: Format) -> int:
        as_then = _as(base.weight, format, own.weight)
        return int((own.weight == as_then).all(1)[:first_new].sum())

    formats: list[Format] = [None, torch.bfloat16, torch.float16]
    found = {format: same(format) for format in formats}
    return [format for format in formats if found[format] == max(found.values())]


def _as(start: Tensor, format: Format, weight: Tensor) -> Tensor:
    """A base's tensor as it came out of training unchanged."""
    return (start if format is None else start.to(format)).to(weight.dtype)


def _change(weight: Tensor, start: Tensor, format: Format, turned: bool) -> Tensor:
    change = weight.double() - (start if format is None else start.to(format)).double()
    return change.T if turned else change


def _exactly(
    weight: Tensor, start: Tensor, formats: list[Format], rank: int, turned: bool
) -> tuple[Pair | None, Format]:
    """The pair that gives the weights back to what float32 rounds, and from which format on."""
    if weight.dtype == torch.float32:
        tolerance = MERGED * rounding(weight, torch.float32)
        for format in formats:
            change = _change(weight, start, format, turned)
            if pair := factors(change, rank, tolerance, most=rank or None):
                return pair, format
    return None, None


def _nearly(weight: Tensor, start: Tensor, format: Format, rank: int, turned: bool) -> Pair | None:
    """The pair that gives them back to what 16 bits round, several times perhaps."""
    coarse = torch.float16 if torch.float16 in (format, start.dtype) else torch.bfloat16
    tolerance = ROUNDED * rounding(weight, coarse)
    return factors(_change(weight, start, format, turned), rank, tolerance, least=rank)


def _trained_whole(name: str, origin: Origin) -> ModelError:
    return ModelError(
        f"this model is no adapter on {origin.name}: all weights of {name} were trained, not only "
        "low-rank matrices beside them",
        where=origin.model,
        remedy=f"{REMEDY} (Was it another base? Name it with --base.)",
    )
