"""What a guild's rounds said of a candidate when they closed: kept, for it was looked at.

A sequential decision must not have its past rewritten. So each round's mean is noted in the moment
in which it takes no more votes, in the order in which rounds do, whatever the clock says; and how
many people had voted on the candidate by then, which settles what an observation is. An erasure, a
guild that was left or the end of what is kept take votes, texts and rounds away, never a mean.

A mean names nobody, and no id leads from it to who voted. Where one person alone voted, though, it
is their very verdict. It goes with their votes: the round then says ½, as if they had called it a
tie. It stays an observation, so the number of rounds is what it was; the e-value loses one factor.

Who votes by position is not heard, from the first round on that closes after they were found
(`voters.py` says why that leaves the error rate as it is); how many were not is noted beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, select, update

from guildgpt.feedback.records import Ballots, Round, RoundMean
from guildgpt.feedback.storage.rows import among
from guildgpt.feedback.storage.schema import decisions, round_means, rounds, votes
from guildgpt.feedback.voting.ballots import Said, newest_votes, said_in, writers
from guildgpt.feedback.voting.seen import Seen
from guildgpt.feedback.voting.teaching import Teaching
from guildgpt.feedback.voting.voters import by_position

NOTHING_SAID = 0.5


def keep_means(connection: Connection, which: ColumnElement[bool], seen: Seen) -> None:
    """Note what these rounds say, as far as they decide in a guild between a candidate and who
    serves. They take no more votes, and nobody else closes any meanwhile."""
    wanted = (
        select(
            rounds,
            decisions.c.candidate_id,
            decisions.c.baseline_id,
            decisions.c.settings.label("chosen"),
        )
        .join(decisions, decisions.c.id == rounds.c.decision_id)
        .where(which, rounds.c.place != "terminal")
        .where(rounds.c.id.not_in(select(round_means.c.round_id).where(_has_round)))
        .order_by(rounds.c.closed_at, rounds.c.id)
    )
    found = [row._asdict() for row in connection.execute(wanted)]
    found = [row for row in found if Teaching.of(row.pop("chosen")).counts(row["guild_id"])]
    pairs = [(row.pop("candidate_id"), row.pop("baseline_id")) for row in found]
    closed = [Round(**row) for row in found]
    wrote = writers(connection, [one.comparison_id for one in closed])
    for (candidate, baseline), one in zip(pairs, closed, strict=True):
        versions = wrote.get(one.comparison_id, [])
        if candidate and sorted(map(str, versions)) == sorted([candidate, str(baseline)]):
            _keep(connection, one, candidate, versions, seen)


def forget_mean(connection: Connection, round_id: str) -> None:
    """The round was cancelled: it says nothing."""
    connection.execute(delete(round_means).where(round_means.c.round_id == round_id))


def forget_rounds(connection: Connection, which: ColumnElement[bool]) -> None:
    """These rounds go; what they said stays, of a round that nobody knows."""
    gone = round_means.c.round_id.in_(select(rounds.c.id).where(which))
    connection.execute(update(round_means).where(gone).values(round_id=None))


def forget_who_was_alone(connection: Connection, member_id: str, seen: Seen) -> None:
    """A member is erased: rounds in which they alone were heard say nothing any more."""
    theirs = select(votes.c.comparison_id).where(votes.c.member_id == member_id)
    wanted = (
        select(round_means, rounds.c.comparison_id, rounds.c.closed_at)
        .join(rounds, rounds.c.id == round_means.c.round_id)
        .where(round_means.c.voters == 1, rounds.c.comparison_id.in_(theirs))
    )
    alone = {row.comparison_id: row for row in connection.execute(wanted)}
    cast = newest_votes(connection, list(alone))
    said = [
        alone[id].round_id
        for id, each in cast.items()
        if any(vote.member_id == member_id and vote.verdict != "skip" for vote in each)
        and not (alone[id].excluded and _was_excluded(connection, member_id, alone[id], seen))
    ]
    of_them = among(connection, round_means.c.round_id, said)
    connection.execute(update(round_means).where(of_them).values(mean=NOTHING_SAID))


def means_of(connection: Connection, decision_id: str) -> list[RoundMean]:
    """What a decision's rounds said, in the order in which they closed."""
    wanted = select(round_means).where(round_means.c.decision_id == decision_id)
    ordered = wanted.order_by(round_means.c.number)
    return [RoundMean(**row._mapping) for row in connection.execute(ordered)]


_has_round = round_means.c.round_id.is_not(None)


def _keep(
    connection: Connection,
    closed: Round,
    candidate: str,
    versions: Sequence[str | None],
    seen: Seen,
) -> None:
    of_it = round_means.c.decision_id == closed.decision_id
    newest = select(func.max(round_means.c.number), func.max(round_means.c.people)).where(of_it)
    number, people = connection.execute(newest).one()
    said = _said(connection, closed, candidate, versions)
    voters = _voters(connection, closed) | {one.voter for one in said}
    later = _not_closed_before(connection, closed.decision_id, (number or 0) + 1)
    without = by_position(connection, seen, voters - {""}, but=later)
    heard = [one.value for one in said if one.voter not in without]
    made = RoundMean(
        decision_id=closed.decision_id or "",
        number=(number or 0) + 1,
        round_id=closed.id,
        mean=fmean(heard) if heard else None,
        voters=len(heard),
        people=max(people or 0, len(voters - without)),
        excluded=len(said) - len(heard),
    )
    connection.execute(round_means.insert(), asdict(made))


def _was_excluded(connection: Connection, member_id: str, kept: Row[Any], seen: Seen) -> bool:
    """Whether a member was not heard when this round's mean was noted."""
    later = _not_closed_before(connection, kept.decision_id, kept.number)
    until = kept.closed_at
    return bool(by_position(connection, seen, [member_id], but=later, until=until))


def _not_closed_before(connection: Connection, decision_id: str | None, number: int) -> set[str]:
    """The comparisons of a decision's rounds, but for those whose mean was noted before that of
    this number: what is cast in them settles nothing about who is heard."""
    before = (
        select(round_means.c.round_id)
        .where(round_means.c.decision_id == decision_id, round_means.c.number < number)
        .where(_has_round)
    )
    wanted = select(rounds.c.comparison_id).where(
        rounds.c.decision_id == decision_id, rounds.c.id.not_in(before)
    )
    return set(connection.scalars(wanted))


def _said(
    connection: Connection, closed: Round, candidate: str, versions: Sequence[str | None]
) -> list[Said]:
    cast = newest_votes(connection, [closed.comparison_id]).get(closed.comparison_id, [])
    return said_in(Ballots(closed, "decide", tuple(versions), tuple(cast)), candidate)


def _voters(connection: Connection, closed: Round) -> set[str]:
    """Who voted in the decision's rounds whose mean is kept, as far as they were not erased."""
    kept = (
        select(rounds.c.comparison_id)
        .join(round_means, round_means.c.round_id == rounds.c.id)
        .where(round_means.c.decision_id == closed.decision_id)
    )
    cast = newest_votes(connection, list(connection.scalars(kept)))
    return {
        vote.member_id or "" for each in cast.values() for vote in each if vote.verdict != "skip"
    }
