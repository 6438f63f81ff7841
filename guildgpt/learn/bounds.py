"""What a gate says of each measure: both models' figures, their difference, and the bound.

A bound is missed only where the whole 95 % interval of the difference lies beyond it. So equal
models are dropped by chance hardly ever, and what is dropped is worse, as far as a gate of some
minutes can tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from guildgpt.evaluate.bits import Bits
from guildgpt.evaluate.head_to_head import WinRate
from guildgpt.evaluate.intervals import RESAMPLES, Floats, Z, paired_difference
from guildgpt.text.figures import percent

State = Literal["passed", "failed", "advisory", "not measured"]
Unit = Literal["share", "tokens", "bits", "nats"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that was measured of both; a figure is None where there is none."""

    name: str
    title: str  # for people
    state: State
    unit: Unit
    count: int = 0  # of answers, rows or pairs
    candidate: float | None = None
    serving: float | None = None
    difference: float | None = None  # candidate less serving; of lengths their ratio
    low: float | None = None  # of its 95 % interval
    high: float | None = None
    bound: str = ""  # in words
    why: str = ""  # it failed, is advice, says nothing


@dataclass(frozen=True, slots=True)
class About:
    """Which measure it is."""

    name: str
    title: str
    unit: Unit = "share"


def _held(
    about: About,
    bad: bool,
    count: int,
    candidate: float,
    serving: float | None,
    interval: tuple[float | None, float | None, float | None],
    bound: str,
    why: str,
) -> Measure:
    """A measure that was held to its bound: the difference with its ends, and why it failed."""
    state: State = "failed" if bad else "passed"
    return Measure(
        *(about.name, about.title, state, about.unit, count, candidate, serving, *interval, bound),
        why if bad else "",
    )


def not_measured(about: About, why: str) -> Measure:
    """A measure of which nothing can be said."""
    return Measure(about.name, about.title, "not measured", about.unit, why=why)


def rate(
    about: About, candidate: Floats, serving: Floats, margin: float, *, more_is_worse: bool
) -> Measure:
    """Shares (N,) of the same prompts, 0 to 1 each: at most `margin` worse."""
    if not len(candidate):
        return not_measured(about, "nothing was asked")
    middle, low, high = paired_difference(candidate - serving)
    was, now = float(serving.mean()), float(candidate.mean())
    return _held(
        about,
        low > margin if more_is_worse else high < -margin,
        len(candidate),
        now,
        was,
        (middle, low, high),
        f"at most {100 * margin:g} points {'more' if more_is_worse else 'less'}",
        f"{percent(now)}, and {percent(was)} of who serves",
    )


def length(
    about: About, candidate: Floats, serving: Floats, shortest: float, longest: float
) -> Measure:
    """Lengths (N,) in tokens of answers to the same prompts: their means' ratio within bounds."""
    if not len(candidate):
        return not_measured(about, "nothing was asked")
    middle = ratio(candidate, serving)
    drawn = np.random.default_rng(0).integers(len(candidate), size=(RESAMPLES, len(candidate)))
    found = [ratio(candidate[rows], serving[rows]) for rows in drawn]
    low, high = (float(one) for one in np.percentile(found, [2.5, 97.5]))
    was, now = float(serving.mean()), float(candidate.mean())
    return _held(
        about,
        high < shortest or low > longest,
        len(candidate),
        now,
        was,
        (middle, low, high),
        f"{shortest:g} to {longest:g} times as long",
        f"{now:.1f} tokens, and {was:.1f} of who serves",
    )


def more_bits(
    about: About, candidate: Sequence[Bits], serving: Sequence[Bits], most: float
) -> Measure:
    """Losses on the same held-out rows: at most so many more bits a byte, rows drawn anew."""
    pairs = [(a, b) for a, b in zip(candidate, serving, strict=True) if a.bytes and b.bytes]
    if not pairs:
        return not_measured(about, "no held-out row that neither was trained on")
    ours, theirs = (
        np.array([(one.nats / np.log(2), one.bytes) for one in side])
        for side in zip(*pairs, strict=True)
    )

    def per_byte(some: Floats) -> Floats:
        bits: Floats = some[..., 0].sum(-1) / some[..., 1].sum(-1)
        return bits

    rows = np.random.default_rng(0).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    found = per_byte(ours[rows]) - per_byte(theirs[rows])
    low, high = (float(one) for one in np.percentile(found, [2.5, 97.5]))
    now, was = float(per_byte(ours)), float(per_byte(theirs))
    return _held(
        about,
        low > most,
        len(pairs),
        now,
        was,
        (now - was, low, high),
        f"at most {most:g} more",
        f"{now:.3f} bits a byte, and {was:.3f} of who serves",
    )


def away(about: About, nats: Floats, most: float) -> Measure:
    """How far each answer (N,) is away from the ancestor: at most so many nats in the mean."""
    if not len(nats):
        return not_measured(about, "nothing was asked")
    middle = float(nats.mean())
    spread = Z * float(nats.std(ddof=1)) / math.sqrt(len(nats)) if len(nats) > 1 else math.inf
    ends = (middle - spread, middle + spread) if math.isfinite(spread) else (None, None)
    return _held(
        about,
        middle - spread > most,
        len(nats),
        middle,
        None,
        (None, *ends),
        f"at most {most:g}",
        f"{middle:.1f} nats an answer away from the ancestor",
    )


def wins(about: About, found: WinRate, least: float, advice: Sequence[str]) -> Measure:
    """How often a judge prefers the candidate; where something speaks against the judge's word, it
    is advice."""
    worse = found.high < least
    said = f"the judge prefers it on {percent(found.rate)} of prompts"
    state: State = "failed" if worse else "passed"
    return Measure(
        about.name,
        about.title,
        "advisory" if advice else state,
        about.unit,
        found.comparisons,
        found.rate,
        1 - found.rate,
        found.rate - 0.5,
        found.low - 0.5,
        found.high - 0.5,
        f"not clearly below {percent(least)}",
        "; ".join([*([said] if worse else []), *advice]),
    )


def ratio(candidate: Floats, serving: Floats) -> float:
    """Of two means; where there is nothing to divide by, of what is one longer."""
    return float((candidate.mean() + 1e-9) / (serving.mean() + 1e-9))


def failures(measures: Sequence[Measure]) -> str:
    """What failed, and how, in one line; empty where nothing did."""
    return "; ".join(f"{one.title}: {one.why}" for one in measures if one.state == "failed")
