"""Constraints kept: how large a share of a set, with intervals, and how it changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guildgpt.text.figures import percent, signed

RESAMPLES = 1000
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ConstrainedAnswer:
    """A prompt with constraints, a model's answer to it, and which of them it kept."""

    prompt: str
    answer: str
    kinds: tuple[str, ...]
    kept: tuple[bool, ...]
    ended: bool  # by the model itself
    looped: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class KeptShare:
    """A share, or a difference of two, with its 95 % interval."""

    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class KeptFigures:
    """How one set of prompts with constraints was answered: shares in 0..1."""

    prompts: int
    constraints: int
    all_kept: KeptShare  # of the prompts
    each_kept: KeptShare  # of the constraints
    by_kind: dict[str, float]  # of the constraints of a kind


@dataclass(frozen=True, slots=True)
class KeptChange:
    """The set's shares after, less those before, with both answers to a prompt held together."""

    all_kept: KeptShare
    each_kept: KeptShare


def kept_figures(answers: Sequence[ConstrainedAnswer]) -> KeptFigures:
    """The figures of a set; there must be answers."""
    asked = [(kind, kept) for one in answers for kind, kept in _pairs(one)]
    kinds = sorted({kind for kind, _ in asked})
    return KeptFigures(
        prompts=len(answers),
        constraints=len(asked),
        all_kept=_interval(_all(answers), lambda drawn: drawn.mean(-1)),
        each_kept=_interval(_each(answers), _ratio),
        by_kind={
            kind: float(np.mean([kept for other, kept in asked if other == kind])) for kind in kinds
        },
    )


def kept_change(
    before: Sequence[ConstrainedAnswer], after: Sequence[ConstrainedAnswer]
) -> KeptChange | None:
    """What became of the shares; None unless both answered the same prompts."""
    if not after or [one.prompt for one in before] != [one.prompt for one in after]:
        return None
    (was, asked), (now, _) = _each(before).T, _each(after).T
    return KeptChange(
        _interval(_all(after) - _all(before), lambda drawn: drawn.mean(-1)),
        _interval(np.stack([now - was, asked], axis=1), _ratio),
    )


def kept_sentence(name: str, figures: KeptFigures, change: KeptChange | None = None) -> str:
    """The shares of a set in a sentence."""
    every, each = figures.all_kept, figures.each_kept
    moved = ""
    if change:
        c = change.all_kept
        moved = f"; {signed(c.rate, ' points')}, {signed(c.low, '')} to {signed(c.high, '')}"
    return (
        f"Of {figures.prompts:,} held-out prompts with constraints of {name}, it kept all of them "
        f"in {percent(every.rate)} (95% interval {percent(every.low)} to {percent(every.high)}"
        f"{moved}), and {percent(each.rate)} of {figures.constraints:,} constraints."
    )


def _pairs(one: ConstrainedAnswer) -> list[tuple[str, bool]]:
    return list(zip(one.kinds, one.kept, strict=True))


def _all(answers: Sequence[ConstrainedAnswer]) -> Floats:
    """(N,): 1 where an answer kept all."""
    return np.array([all(one.kept) for one in answers], dtype=np.float64)


def _each(answers: Sequence[ConstrainedAnswer]) -> Floats:
    """(N, 2): how many constraints an answer kept, and of how many."""
    return np.array([(sum(one.kept), len(one.kept)) for one in answers], dtype=np.float64)


def _ratio(drawn: Floats) -> Floats:
    """(…, N, 2) → (…,): all that was kept, as a share of all that was asked."""
    kept, asked = drawn[..., 0].sum(-1), drawn[..., 1].sum(-1)
    return np.asarray(kept / asked)


def _interval(values: Floats, share: Callable[[Floats], Floats]) -> KeptShare:
    """The share of the values (N, …) and its 95 % interval, by drawing prompts anew (bootstrap)."""
    generator = np.random.default_rng(0)
    rows = generator.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(share(values[rows]), [2.5, 97.5])
    return KeptShare(float(share(values)), float(low), float(high))
