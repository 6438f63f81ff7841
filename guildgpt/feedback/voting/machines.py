"""Votes that look like a machine's: faster than people read, or as regular as a clock.

People differ, clocks are set back, and somebody may have read the answers elsewhere: so this flags
a voter for the operator's eyes, and excludes nobody. Like all that is asked of voters it looks at
times and lengths, never at versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median, quantiles

from guildgpt.feedback.voting.cast import Cast

LEAST = 20  # votes, before anything is said of them
CHARACTERS_A_SECOND = 60.0  # some 700 words a minute: faster than people skim
LEAST_SECONDS = 1.0  # to see two answers and click, however short they are
IN_A_ROW = 10  # votes within so many
SECONDS = 15.0
REGULAR = 0.05  # the middle half of all waits lies so close around their median
LONGEST_WAIT = 600.0  # seconds; what is longer is a pause, at which anybody may be


def like_a_machine(cast: Sequence[Cast]) -> tuple[str, ...]:
    """What looks like one, in words, of a voter's votes in the order in which they were cast;
    nothing where there are fewer than 20."""
    if len(cast) < LEAST:
        return ()
    gaps = [(b.at - a.at).total_seconds() for a, b in pairwise(cast)]
    waits = [(one.at - one.posed_at).total_seconds() for one in cast]
    # Nobody has read for longer than since the answers were there, and since their vote before.
    had = [waits[0], *(min(pair) for pair in zip(gaps, waits[1:], strict=True))]
    needed = [max(LEAST_SECONDS, one.characters / CHARACTERS_A_SECOND) for one in cast]
    flags = []
    if median(time / need for time, need in zip(had, needed, strict=True)) < 1:
        flags.append(
            f"half of the votes came within {median(had):.1f} seconds, faster than people read"
        )
    if _burst(cast):
        flags.append(f"{IN_A_ROW} votes within {SECONDS:.0f} seconds")
    if _regular(gaps):
        flags.append("votes at regular intervals")
    if _regular(waits):
        flags.append("the same wait before each vote")
    return tuple(flags)


def _burst(cast: Sequence[Cast]) -> bool:
    rows = zip(cast, cast[IN_A_ROW - 1 :], strict=False)
    return any((last.at - first.at).total_seconds() < SECONDS for first, last in rows)


def _regular(seconds: Sequence[float]) -> bool:
    """Whether most of them are the same, up to a twentieth."""
    short = [one for one in seconds if 0 < one <= LONGEST_WAIT]
    if len(short) < LEAST - 1:
        return False
    low, middle, high = quantiles(short, n=4)
    return high - low < REGULAR * middle
