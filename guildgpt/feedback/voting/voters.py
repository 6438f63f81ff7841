"""Who votes by position, found by a rule that looks at no version; their votes count no more.

The order in which answers are shown is drawn at random, so whoever reads them prefers the one shown
first in half of their votes, whatever their taste. Somebody who clicks where the mouse is does not.
For each voter a gambler bets that the answer shown first wins oftener than `TOLERATED` times what
chance gives (.6 between two answers), another that the one shown last does. With c the share staked
and X what a vote says of that answer, for k answers at odds fair for p = TOLERATED / k,

    E_n = mean over both and over c in (0, 1) of ∏_{i ≤ n} (1 + c (X_i / p - 1)),

which for a voter who is not drawn to either end above p is not expected to grow. By Ville's
inequality E reaches 1000 for at most one such voter in 1000, however often it is looked at: after
every vote (`betting.py` has the sources). One who leans a little, as many people do, keeps their
votes: at .6 they still say more of the answers than of the places. Who always clicks the first is
found by their 19th vote, who does in nine of ten cases by about the 35th (`bench/brigades.py`).

**What is decided stays decided.** A round's mean is noted when it closes (`means.py`), and leaves
out who had been found *before* it: by votes in the decision's rounds that closed earlier, and by
votes elsewhere, which decide nothing. So whose votes count is settled by the past alone, as Ville's
inequality asks of a bet: nobody's verdict in a round helps to choose who is heard in it, and no
mean is ever looked at anew because somebody was found later.

Nothing of this is stored. It is worked out of the votes that stand, so it goes with them when
somebody is erased.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import log

import numpy as np
from sqlalchemy import Connection

from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.voting.cast import Cast, casts
from guildgpt.feedback.voting.machines import like_a_machine
from guildgpt.feedback.voting.seen import Seen

TOLERATED = 1.2  # times the share that chance gives: a hand may lean that far
ENOUGH = 1000.0  # of this many honest voters at most one is ever found
STAKES = (np.arange(20) + 0.5) / 20


@dataclass(frozen=True, slots=True)
class Voter:
    """What is to be known of a voter, by their code: how many of their `votes` are `decided`, that
    is put an answer before another, and the share of these that the answers shown first and last
    have won. `found_at` is when they were found to vote by position, at the latest `evidence`
    (the largest that E ever was). `flags` say in words what looks like a machine: they exclude
    nobody.
    """

    code: str
    votes: int
    decided: int
    first: float | None
    last: float | None
    evidence: float
    found_at: datetime | None
    flags: tuple[str, ...]
    newest: datetime


@dataclass(frozen=True, slots=True)
class Electorate:
    """How many people voted, by position (their votes do not count) and like a machine."""

    people: int
    by_position: int
    like_a_machine: int

    @classmethod
    def of(cls, found: Sequence[Voter]) -> Electorate:
        """Of these voters."""
        by_position = sum(one.found_at is not None for one in found)
        return cls(len(found), by_position, sum(bool(one.flags) for one in found))

    @property
    def says(self) -> str:
        """In a sentence."""
        if not self.people:
            return "Nobody has voted yet."
        told = f"{self.people:,} people voted" if self.people > 1 else "1 person voted"
        if self.by_position:
            told += f"; {self.by_position:,} by position: their votes do not count"
        if self.like_a_machine:
            told += f"; {self.like_a_machine:,} like a machine: their votes count, look at them"
        return f"{told}."


@dataclass(frozen=True, slots=True)
class Voters:
    """Who voted, and whose votes count no more."""

    _database: Database
    _seen: Seen

    async def all(self) -> list[Voter]:
        """Every voter, those found first, then those flagged, then by how many votes they cast."""

        def work(connection: Connection) -> list[Voter]:
            found = casts(connection, self._seen)
            return [_voter(self._seen.code(member), cast) for member, cast in found.items()]

        listed = await self._database.read_aside(work)
        return sorted(listed, key=lambda one: (not one.found_at, not one.flags, -one.votes))

    async def excluded(self) -> frozenset[str]:
        """The members who vote by position, as far as is known now."""
        return await self._database.read(lambda one: frozenset(by_position(one, self._seen)))


def by_position(
    connection: Connection,
    seen: Seen,
    members: Collection[str] | None = None,
    *,
    but: Collection[str] = (),
    until: datetime | None = None,
) -> set[str]:
    """Which of these members, or of all, vote by position, judged without their votes on some
    comparisons (`but`), and by none that was cast after a time."""
    without = set(but)
    return {
        member
        for member, own in casts(connection, seen, members).items()
        if found_at(
            one
            for one in own
            if one.comparison_id not in without and (until is None or one.at <= until)
        )
    }


def found_at(cast: Iterable[Cast]) -> datetime | None:
    """When a voter, by their votes in the order in which they were cast, was found to vote by
    position; None if they do not."""
    decided = [one for one in cast if one.first is not None]
    found = np.flatnonzero(log_evidence(decided) >= log(ENOUGH))
    return decided[found[0]].at if len(found) else None


def log_evidence(decided: Sequence[Cast]) -> np.ndarray:
    """log E after each of N votes that put an answer before another, (N,)."""
    if not decided:
        return np.zeros(0)
    chance = np.array([TOLERATED / one.answers for one in decided])
    said = np.array([[one.first, one.last] for one in decided], float).reshape(-1, 2).T
    growth = np.log1p(STAKES * (said / chance - 1)[..., None])  # (2, N, stakes)
    wealth = growth.cumsum(axis=1).transpose(1, 0, 2).reshape(len(decided), -1)
    top = wealth.max(axis=1, initial=0.0)
    evidence: np.ndarray = top + np.log(np.exp(wealth - top[:, None]).mean(axis=1))
    return evidence


def _voter(code: str, cast: Sequence[Cast]) -> Voter:
    decided = [one for one in cast if one.first is not None]
    count = len(decided)
    return Voter(
        code=code,
        votes=len(cast),
        decided=count,
        first=sum(one.first or 0 for one in decided) / count if count else None,
        last=sum(one.last or 0 for one in decided) / count if count else None,
        evidence=float(np.exp(min(log_evidence(decided).max(initial=0.0), 700.0))),
        found_at=found_at(cast),
        flags=like_a_machine(cast),
        newest=cast[-1].at,
    )
