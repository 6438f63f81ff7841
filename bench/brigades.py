"""What a decision comes to while some vote without reading: for a side, by style, for one version.

A guild as in `canaries.py`, of 40 members of whom ten vote in each round; of these a share are a
brigade's. One that votes by side always takes the answer shown first, one that votes by style the
shorter answer, whoever wrote it, and one that votes for a version the candidate. The rule of
`guildgpt.feedback.voting.voters` leaves out who was found to vote by position before a round
closes; what it does is played with it and without. Then how many votes it takes to find somebody.
All is seeded.

    python bench/brigades.py [CANARIES]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.canaries import AT_ONCE, LEAN, ROUNDS, RULE, Floats, first, rate, table
from guildgpt.feedback.versions.betting import evidence
from guildgpt.feedback.voting.voters import ENOUGH, STAKES, TOLERATED

Kind = Literal["first", "first of all", "shorter", "shorter as the candidate", "candidate"]
KINDS: dict[Kind, str] = {
    "first": "the side shown first, an order for each voter (web page)",
    "first of all": "the side shown first, one order for all (Discord)",
    "shorter": "the shorter answer, the candidate's in 50 % of rounds",
    "shorter as the candidate": "the shorter answer, the candidate's in 70 % of rounds",
    "candidate": "the candidate",
}
SHARES = (0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35)
MEMBERS, PRESENT = 40, 10
SCATTER = 0.1  # what a prompt adds to all leanings
VOTES = 400  # of a voter who is looked for


@dataclass(frozen=True)
class Brigade:
    """How many of the members, and what they do."""

    kind: Kind
    share: float


@dataclass(frozen=True)
class Held:
    """Rounds: (canaries, rounds, voters). `verdicts` are for the candidate, `sides` 1 where the
    answer shown first was taken; `voters` are who cast them."""

    verdicts: Floats
    sides: Floats
    voters: NDArray[np.int64]


def play(true: float, brigade: Brigade, canaries: int, chance: np.random.Generator) -> Held:
    """Rounds in which each voter sees the answers in an order of their own. The true share is that
    of the members who read."""
    shape = (canaries, ROUNDS, PRESENT)
    order = chance.random((canaries, ROUNDS, MEMBERS)).argsort(axis=-1)[..., :PRESENT]
    theirs = order < round(brigade.share * MEMBERS)
    readers = MEMBERS - round(brigade.share * MEMBERS)
    steps = (np.arange(readers) + 0.5) / readers * 2 - 1
    leaning = np.full((canaries, MEMBERS), true)
    leaning[:, -readers:] += LEAN * 3**0.5 * chance.permuted(np.tile(steps, (canaries, 1)), axis=1)
    prompt = SCATTER * 3**0.5 * chance.uniform(-1, 1, (canaries, ROUNDS, 1))
    own = np.take_along_axis(leaning[:, None], order, axis=-1)
    verdicts = (chance.random(shape) < np.clip(own + prompt, 0, 1)).astype(float)
    orders = (canaries, ROUNDS, 1) if brigade.kind == "first of all" else shape
    candidate_first = np.broadcast_to(chance.random(orders) < 0.5, shape)
    takes: Floats | NDArray[np.bool_] = np.ones(shape)
    if brigade.kind.startswith("first"):
        takes = candidate_first
    elif brigade.kind.startswith("shorter"):
        often = 0.5 if brigade.kind == "shorter" else 0.7
        takes = chance.random((canaries, ROUNDS, 1)) < often
    verdicts = np.where(theirs, takes, verdicts).astype(float)
    return Held(verdicts, (verdicts == candidate_first).astype(float), order)


def found(sides: Floats) -> NDArray[np.bool_]:
    """By vote (..., N), whether its voter has been found by it or one before: as in `voters.py`,
    for two answers."""
    chance = TOLERATED / 2
    logs = [
        np.log1p(STAKES * (said[..., None] / chance - 1)).cumsum(axis=-2)
        for said in (sides, 1 - sides)
    ]
    wealth = np.concatenate(logs, axis=-1)
    top = wealth.max(axis=-1)
    evidence_ = top + np.log(np.exp(wealth - top[..., None]).mean(axis=-1))
    crossed: NDArray[np.bool_] = np.maximum.accumulate(evidence_, axis=-1) >= np.log(ENOUGH)
    return crossed


def excluded(held: Held) -> NDArray[np.bool_]:
    """Whether each vote's voter had been found before its round: (canaries, rounds, voters)."""
    without = np.zeros(held.sides.shape, bool)
    for canary in range(len(without)):
        for member in range(MEMBERS):
            at = np.nonzero(held.voters[canary] == member)
            crossed = found(held.sides[canary][at])
            before = np.concatenate([[False], crossed[:-1]]) if len(crossed) else crossed
            without[canary][at] = before
    return without


def means(held: Held, without: NDArray[np.bool_]) -> Floats:
    """What each round says; ½ of one in which nobody is heard, which moves nothing much."""
    heard = ~without
    count = heard.sum(axis=-1)
    return np.where(count, (held.verdicts * heard).sum(axis=-1) / np.maximum(count, 1), 0.5)


def outcomes(true: float, brigade: Brigade, canaries: int) -> list[tuple[int, int, float]]:
    """Promoted, of how many, and the mean verdict of all rounds: without the rule, and with it."""
    chance = np.random.default_rng(7)
    promoted, said, done = [0, 0], [0.0, 0.0], 0
    for _ in range(0, canaries, AT_ONCE):
        held = play(true, brigade, AT_ONCE, chance)
        done += AT_ONCE
        for place, without in enumerate((np.zeros(held.sides.shape, bool), excluded(held))):
            rounds = means(held, without)
            found_ = evidence(rounds)
            won, lost = first(found_.preferred), first(found_.not_preferred)
            promoted[place] += int(((won <= lost) & (won < ROUNDS)).sum())
            said[place] += float(rounds.mean()) * AT_ONCE
    return [(promoted[n], done, said[n] / done) for n in range(2)]


def power(share: float, canaries: int) -> list[str]:
    """How often one who takes the first side so often is found by 20, 50, 100, 400 votes, and in
    which vote in the median and in nine of ten cases."""
    chance = np.random.default_rng(8)
    crossed = np.concatenate(
        [
            found((chance.random((AT_ONCE, VOTES)) < share).astype(float))
            for _ in range(0, canaries, AT_ONCE)
        ]
    )
    by = [f"{100 * crossed[:, count - 1].mean():.1f} %" for count in (20, 50, 100, VOTES)]
    at = np.where(crossed.any(axis=-1), crossed.argmax(axis=-1) + 1, VOTES + 1)
    shown = [np.quantile(at, part) for part in (0.5, 0.9)]
    return [*by, *(f"{one:.0f}" if one <= VOTES else "-" for one in shown)]


def main() -> None:
    canaries = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    assert RULE.alpha == 0.05
    table(
        ["takes the first side", "found by 20 votes", "50", "100", "400", "median", "nine of ten"],
        (
            [f"{share:.2f}", *power(share, 20 * canaries if share <= 0.6 else 2 * canaries)]
            for share in (0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 1.0)
        ),
    )
    for true in (0.5, 0.6):
        rows = []
        for kind in KINDS:
            for share in (0.0, *SHARES) if kind == "first" else SHARES:
                plain, ruled = outcomes(true, Brigade(kind, share), canaries)
                rows.append(
                    [
                        KINDS[kind] if share else "-",
                        f"{share:.0%}",
                        f"{plain[2]:.3f}",
                        rate(*plain[:2]),
                        f"{ruled[2]:.3f}",
                        rate(*ruled[:2]),
                    ]
                )
        print(f"\nTrue share {true:.2f}:")
        head = ["a brigade for", "of the members", "says", "promoted", "with the rule: says"]
        table([*head, "promoted"], rows)


if __name__ == "__main__":
    main()
