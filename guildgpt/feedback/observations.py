"""What a decision counts: a guild's rounds; where few vote, its days; of one who is alone, theirs.

Members share a round's prompt, and a member's votes resemble each other, so a vote is no
observation. Nor is a person's day where others voted in the same rounds: of four people with a
round a day, one observation each, an equal candidate was promoted in 7 % of cases, in 3 % with one
for all of them (`bench/canaries.py`; asked are 5). Who plays at a terminal shares no round.

Which kind counts is settled by where rounds were held and by how many people voted, never by what
they said. Kinds are not mixed, and only a guild's rounds decide: whatever the operator is advised
on the way, there is one sequence that can promote, with one error rate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from statistics import fmean
from typing import Literal

from guildgpt.feedback.betting import DecisionSettings, Standing, decide
from guildgpt.feedback.records import Ballots, Vote

Where = Literal["guild", "terminal"]
Unit = Literal["round", "day", "person_and_day"]

LEAST_PEOPLE = 5  # who have to have voted, so that rounds decide


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


@dataclass(frozen=True, slots=True)
class _Said:
    voter: str
    day: date
    value: float


def value_of(vote: Vote, candidate: int) -> float | None:
    """What a vote between two answers says of the candidate, which stood at that position.

    1, 0, or for a tie and "both bad" ½; None if it was skipped.
    """
    if vote.verdict == "skip":
        return None
    if vote.verdict != "ranked":
        return 0.5
    return float(vote.ranking[0] == candidate)


def observations_of(
    ballots: Iterable[Ballots], candidate: str, where: Where, *, now: datetime
) -> Observations:
    """The observations of a candidate (a version's id) in closed rounds, of a guild or a terminal.

    Rounds come in the order in which they closed. At a terminal: the mean of each person and day
    (UTC). In a guild, if five people or more voted: the mean of each round in which somebody did.
    With fewer: the mean of each day, in which everybody who voted weighs the same. A day counts
    when it is over: until then each further vote would change what was looked at. Rounds in which
    the candidate wrote no answer, or both, are passed over. Raises ValueError if `now` has no time
    zone.
    """
    today = _day(now)
    rounds = [
        said
        for held in ballots
        if (held.round.place == "terminal") == (where == "terminal")
        and held.round.state == "closed"
        and (said := _of(held, candidate))
    ]
    people = len({one.voter for said in rounds for one in said})
    if where == "guild" and people >= LEAST_PEOPLE:
        means = tuple(fmean(one.value for one in said) for said in rounds)
        return Observations(means, "round", people)
    days: dict[date, dict[str, list[float]]] = {}
    for one in (one for said in rounds for one in said if one.day < today):
        days.setdefault(one.day, {}).setdefault(one.voter, []).append(one.value)
    in_order = [[fmean(own) for own in days[day].values()] for day in sorted(days)]
    if where == "guild":
        return Observations(tuple(map(fmean, in_order)), "day", people)
    each = tuple(mean for means in in_order for mean in means)
    return Observations(each, "person_and_day", people)


def decide_rounds(
    ballots: Iterable[Ballots],
    candidate: str,
    where: Where,
    settings: DecisionSettings | None = None,
    *,
    now: datetime,
) -> Standing:
    """What the rounds held there say of the candidate; flagged where they are advice only."""
    found = observations_of(ballots, candidate, where, now=now)
    return decide(found.values, settings, operator_decides=found.operator_decides)


def _of(held: Ballots, candidate: str) -> list[_Said]:
    """What a round's voters said. Votes without a member are one person's, as far as is known."""
    if held.versions.count(candidate) != 1:
        return []
    position = held.versions.index(candidate)
    return [
        _Said(vote.member_id or "", _day(vote.created_at), value)
        for vote in held.votes
        if (value := value_of(vote, position)) is not None
    ]


def _day(moment: datetime) -> date:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return moment.astimezone(UTC).date()
