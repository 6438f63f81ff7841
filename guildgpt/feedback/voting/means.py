"""What a guild's rounds said of a candidate when they closed: kept, for it was looked at.

A sequential decision must not have its past rewritten. So each round's mean is noted in the moment
in which it takes no more votes, in the order in which rounds do, whatever the clock says; and how
many people had voted on the candidate by then, which settles what an observation is. An erasure, a
guild that was left or the end of what is kept take votes, texts and rounds away, never a mean.

A mean names nobody, and no id leads from it to who voted. Where one person alone voted, though, it
is their very verdict. It goes with their votes: the round then says ½, as if they had called it a
tie. It stays an observation, so the number of rounds is what it was; the e-value loses one factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from guildgpt.feedback.records import Ballots, Round, RoundMean
from guildgpt.feedback.storage.rows import among
from guildgpt.feedback.storage.schema import decisions, round_means, rounds, votes
from guildgpt.feedback.voting.ballots import Said, newest_votes, said_in, writers
from guildgpt.feedback.voting.teaching import Teaching

NOTHING_SAID = 0.5


def keep_means(connection: Connection, which: ColumnElement[bool]) -> None:
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
            _keep(connection, one, candidate, versions)


def forget_mean(connection: Connection, round_id: str) -> None:
    """The round was cancelled: it says nothing."""
    connection.execute(delete(round_means).where(round_means.c.round_id == round_id))


def forget_rounds(connection: Connection, which: ColumnElement[bool]) -> None:
    """These rounds go; what they said stays, of a round that nobody knows."""
    gone = round_means.c.round_id.in_(select(rounds.c.id).where(which))
    connection.execute(update(round_means).where(gone).values(round_id=None))


def forget_who_was_alone(connection: Connection, member_id: str) -> None:
    """A member is erased: rounds in which they alone voted say nothing any more."""
    theirs = select(votes.c.comparison_id).where(votes.c.member_id == member_id)
    wanted = (
        select(round_means.c.round_id, rounds.c.comparison_id)
        .join(rounds, rounds.c.id == round_means.c.round_id)
        .where(round_means.c.voters == 1, rounds.c.comparison_id.in_(theirs))
    )
    alone = {row.comparison_id: row.round_id for row in connection.execute(wanted)}
    cast = newest_votes(connection, list(alone))
    said = [
        alone[id]
        for id, each in cast.items()
        if any(vote.member_id == member_id and vote.verdict != "skip" for vote in each)
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
    connection: Connection, closed: Round, candidate: str, versions: Sequence[str | None]
) -> None:
    of_it = round_means.c.decision_id == closed.decision_id
    newest = select(func.max(round_means.c.number), func.max(round_means.c.people)).where(of_it)
    number, people = connection.execute(newest).one()
    said = _said(connection, closed, candidate, versions)
    made = RoundMean(
        decision_id=closed.decision_id or "",
        number=(number or 0) + 1,
        round_id=closed.id,
        mean=fmean(one.value for one in said) if said else None,
        voters=len(said),
        people=max(people or 0, len(_voters(connection, closed) | {one.voter for one in said})),
    )
    connection.execute(round_means.insert(), asdict(made))


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
