"""Sequences end to end for one pass, without padding; a prompt that neighbours share is there once.

Answers to one prompt come together wherever answers are compared: in groups, rankings and pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guildgpt.data.examples import Example

NOTHING = slice(0, 0)


class Segment(NamedTuple):
    """Tokens of a sequence that lie together, and where those lie that stand before them in it."""

    rows: slice
    before: slice = NOTHING

    @property
    def first(self) -> int:
        """The position of its first token in the sequence."""
        return int(self.before.stop - self.before.start)

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return int(self.rows.stop - self.rows.start)


@dataclass(frozen=True)
class PackedLayout:
    """What is computed of some sequences: `ids` (N,) in `segments`; `places` (M,) says in which of
    these rows each token of the sequences, one after the other, is found."""

    ids: NDArray[np.int32]
    segments: list[Segment]
    places: NDArray[np.int64]

    @property
    def attention_pairs(self) -> int:
        """How many (query, key) pairs attention has, those it masks among them."""
        return sum(one.length * (one.first + one.length) for one in self.segments)


def apart(lengths: Sequence[int]) -> list[Segment]:
    """Sequences that share nothing."""
    return [Segment(slice(*edge)) for edge in pairwise(accumulate(lengths, initial=0))]


def lay_out(examples: Sequence[Example], longest: int) -> PackedLayout:
    """Each run of neighbours with the same tokens before the first that is predicted shares these.

    Sequences of more than `longest` tokens are left whole.
    """
    ids: list[NDArray[np.int32]] = []
    segments: list[Segment] = []
    places: list[NDArray[np.int64]] = []
    filled = 0

    def add(tokens: NDArray[np.int32], before: slice) -> slice:
        nonlocal filled
        rows = slice(filled, filled + len(tokens))
        filled = rows.stop
        ids.append(tokens)
        segments.append(Segment(rows, before))
        return rows

    for common, group in _neighbours(examples, longest):
        shared = add(group[0].ids[:common], NOTHING) if common else NOTHING
        for example in group:
            own = add(example.ids[common:], shared)
            places += [np.arange(shared.start, shared.stop), np.arange(own.start, own.stop)]
    return PackedLayout(np.concatenate(ids), segments, np.concatenate(places))


def _neighbours(
    examples: Sequence[Example], longest: int
) -> Iterable[tuple[int, Sequence[Example]]]:
    """Runs of neighbours, each with the number of tokens that they share at the beginning."""

    def prompt(example: Example) -> bytes:
        common = int(example.mask.argmax()) if len(example) <= longest else 0
        return example.ids[:common].tobytes()

    for key, run in groupby(examples, prompt):
        group = list(run)
        yield (len(key) // group[0].ids.itemsize if len(group) > 1 else 0), group
