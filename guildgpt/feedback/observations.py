"""What a decision counts: a guild's rounds; where few vote, its days; of one who is alone, theirs.

Members share a round's prompt, and a member's votes resemble each other, so a vote is no
observation. Nor is a person's day where others voted in the same rounds: of four people with a
round a day, one observation each, an equal candidate was promoted in 8 % of cases, in 3 % with one
for all of them (`bench/canaries.py`; asked are 5). Who plays at a terminal shares no round.

Which kind counts is settled by where rounds were held and by how many people voted, never by what
they said. Kinds are not mixed, and only a guild's rounds decide: whatever the operator is advised
on the way, there is one sequence that can promote, with one error rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from statistics import fmean
from typing import Literal

from guildgpt.feedback.decision import Decision, DecisionSettings, decide
from guildgpt.feedback.records import Verdict

Place = Literal["guild", "terminal"]
Unit = Literal["round", "day", "person_and_day"]

LEAST_PEOPLE = 5  # who have to have voted, so that a guild's rounds decide


@dataclass(frozen=True, slots=True)
class CastVote:
    """What one person, whom an id stands for, said of the candidate: 0, ½ or 1. Raises ValueError
    for another value, and for a time without a zone."""

    voter: str
    cast_at: datetime
    value: float

    def __post_init__(self) -> None:
        _day(self.cast_at)
        if self.value not in (0, 0.5, 1):
            raise ValueError(f"a verdict is 0, ½ or 1 for the candidate, not {self.value}")


@dataclass(frozen=True, slots=True)
class ClosedRound:
    """A round that takes no more votes. In a `terminal` one person alone sees its pair."""

    place: Place
    votes: tuple[CastVote, ...]


@dataclass(frozen=True, slots=True)
class Observations:
    """What `decide` takes, in order; `people` voted."""

    values: tuple[float, ...]
    unit: Unit
    people: int

    @property
    def operator_decides(self) -> bool:
        """Whether they are advice only."""
        return self.unit != "round"


def value_of(verdict: Verdict, ranking: Sequence[int], candidate: int) -> float | None:
    """A stored vote between two answers as one on the candidate, which stood at that position.

    A tie and "both bad" count ½; None if it was skipped.
    """
    if verdict == "skip":
        return None
    if verdict != "ranked":
        return 0.5
    return float(ranking[0] == candidate)


def observations_of(rounds: Iterable[ClosedRound], place: Place, *, now: datetime) -> Observations:
    """The observations in the rounds of one place, which come in the order in which they closed.

    In a guild in which five people or more voted: the mean of each round in which somebody did.
    With fewer: the mean of each day (UTC), in which everybody who voted weighs the same. At a
    terminal: the mean of each person and day, by day, then by the first vote. A day counts when it
    is over: until then each further vote would change what was looked at. Of several votes of one
    person in a round the newest counts. Raises ValueError if `now` has no time zone.
    """
    today = _day(now)
    counted = [_newest(held.votes) for held in rounds if held.place == place]
    people = len({vote.voter for votes in counted for vote in votes})
    if place == "guild" and people >= LEAST_PEOPLE:
        means = tuple(fmean(vote.value for vote in votes) for votes in counted if votes)
        return Observations(means, "round", people)
    days: dict[date, dict[str, list[float]]] = {}
    for vote in sorted((v for votes in counted for v in votes), key=lambda vote: vote.cast_at):
        days.setdefault(_day(vote.cast_at), {}).setdefault(vote.voter, []).append(vote.value)
    over = [[fmean(own) for own in of.values()] for day, of in days.items() if day < today]
    if place == "guild":
        return Observations(tuple(fmean(means) for means in over), "day", people)
    return Observations(tuple(mean for means in over for mean in means), "person_and_day", people)


def decide_rounds(
    rounds: Iterable[ClosedRound],
    place: Place,
    settings: DecisionSettings | None = None,
    *,
    now: datetime,
) -> Decision:
    """What the rounds of one place say of the candidate; flagged where they are advice only."""
    found = observations_of(rounds, place, now=now)
    return decide(found.values, settings, operator_decides=found.operator_decides)


def _newest(votes: Iterable[CastVote]) -> list[CastVote]:
    """Each person's last vote of a round."""
    ordered = sorted(votes, key=lambda vote: vote.cast_at)
    return list({vote.voter: vote for vote in ordered}.values())


def _day(moment: datetime) -> date:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return moment.astimezone(UTC).date()
