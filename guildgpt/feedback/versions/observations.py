"""What a decision counts: a guild's rounds; where few vote, its days; of one who is alone, theirs.

Members share a round's prompt, and a member's votes resemble each other, so a vote is no
observation. Nor is a person's day where others voted in the same rounds: of four people with a
round a day, one observation each, an equal candidate was promoted in 7 % of cases, in 3 % with one
for all of them (`bench/canaries.py`; asked are 5). Who plays at a terminal shares no round; on the
web page people do (`talk/shared_rounds.py`), and their rounds count as a guild's.

Which kind counts is settled by where rounds were held and by how many people voted, never by what
they said. Kinds are not mixed, and only a guild's rounds decide: whatever the operator is advised
on the way, there is one sequence that can promote, with one error rate. What was looked at in it
stays: a round's mean, and how many people had voted, are kept when it closes (`means.py`). Days are
of the votes that stand: they are advice, and may lose what somebody has erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from statistics import fmean
from typing import Literal

from guildgpt.feedback.records import Ballots, RoundMean
from guildgpt.feedback.versions.betting import DecisionSettings, Standing, decide
from guildgpt.feedback.voting.ballots import day_of, said_in

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


def observations_of(
    ballots: Iterable[Ballots],
    candidate: str,
    where: Where,
    *,
    now: datetime,
    means: Sequence[RoundMean] = (),
) -> Observations:
    """The observations of a candidate (a version's id) in closed rounds, of a guild or a terminal.

    Rounds come in the order in which they closed. At a terminal: the mean of each person and day
    (UTC). In a guild, if five people or more voted: the mean of each round in which somebody did,
    as it was noted when the round closed (`means`; of the ballots where nothing was).
    With fewer: the mean of each day, in which everybody who voted weighs the same. A day counts
    when it is over: until then each further vote would change what was looked at. Rounds in which
    the candidate wrote no answer, or both, are passed over. Raises ValueError if `now` has no time
    zone.
    """
    today = day_of(now)
    rounds = [
        said
        for held in ballots
        if (held.round.place == "terminal") == (where == "terminal")
        and held.round.state == "closed"
        and (said := said_in(held, candidate))
    ]
    people = len({one.voter for said in rounds for one in said})
    people = max([people, *(one.people for one in means)])
    if where == "guild" and people >= LEAST_PEOPLE:
        kept = tuple(one.mean for one in means if one.mean is not None)
        values = kept or tuple(fmean(one.value for one in said) for said in rounds)
        return Observations(values, "round", people)
    days: dict[date, dict[str, list[float]]] = {}
    for one in (one for said in rounds for one in said if one.day < today):
        days.setdefault(one.day, {}).setdefault(one.voter, []).append(one.value)
    in_order = [[fmean(own) for own in days[day].values()] for day in sorted(days)]
    if where == "guild":
        return Observations(tuple(map(fmean, in_order)), "day", people)
    each = tuple(mean for of_day in in_order for mean in of_day)
    return Observations(each, "person_and_day", people)


def decide_rounds(
    ballots: Iterable[Ballots],
    candidate: str,
    where: Where,
    settings: DecisionSettings | None = None,
    *,
    now: datetime,
    means: Sequence[RoundMean] = (),
) -> Standing:
    """What the rounds held there say of the candidate; flagged where they are advice only."""
    found = observations_of(ballots, candidate, where, now=now, means=means)
    return decide(found.values, settings, operator_decides=found.operator_decides)
