"""What was cast in rounds, and what it says of a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import Connection, select

from guildgpt.feedback.records import Ballots, Vote
from guildgpt.feedback.storage.rows import among
from guildgpt.feedback.storage.schema import candidates, messages, votes
from guildgpt.feedback.voting.rankings import as_ranking, latest


@dataclass(frozen=True, slots=True)
class Said:
    """What a voter said of the candidate, from 0 to 1, and on which day (UTC). Votes without a
    member are one person's, as far as is known: ""."""

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


def said_in(held: Ballots, candidate: str) -> list[Said]:
    """What a round's voters said of a candidate (a version's id); nothing if it wrote no answer, or
    both."""
    if held.versions.count(candidate) != 1:
        return []
    position = held.versions.index(candidate)
    return [
        Said(vote.member_id or "", day_of(vote.created_at), value)
        for vote in held.votes
        if (value := value_of(vote, position)) is not None
    ]


def day_of(moment: datetime) -> date:
    """The day in UTC. Raises ValueError if the moment has no time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return moment.astimezone(UTC).date()


def writers(connection: Connection, ids: Sequence[str]) -> dict[str, list[str | None]]:
    """By comparison, the versions that wrote its answers, in the order shown."""
    wanted = (
        select(candidates.c.comparison_id, messages.c.version_id)
        .join(messages, messages.c.id == candidates.c.message_id)
        .where(among(connection, candidates.c.comparison_id, ids))
        .order_by(candidates.c.position)
    )
    found: dict[str, list[str | None]] = {}
    for comparison_id, version_id in connection.execute(wanted):
        found.setdefault(comparison_id, []).append(version_id)
    return found


def newest_votes(connection: Connection, ids: Sequence[str]) -> dict[str, list[Vote]]:
    """By comparison, each member's newest vote."""
    wanted = select(votes).where(among(connection, votes.c.comparison_id, ids))
    found: dict[str, list[Vote]] = {}
    rows = [row._asdict() for row in connection.execute(wanted)]
    for vote in latest(Vote(**row | {"ranking": as_ranking(row["ranking"])}) for row in rows):
        found.setdefault(vote.comparison_id, []).append(vote)
    return found
