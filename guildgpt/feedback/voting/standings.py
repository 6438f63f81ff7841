"""How versions stand in the votes that are in the store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection, select, true

from guildgpt.feedback.records import StoredComparison, Vote
from guildgpt.feedback.storage.schema import candidates, messages
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.ballots import newest_votes
from guildgpt.feedback.voting.rankings import Share
from guildgpt.feedback.voting.scores import Score, bradley_terry, duels, win_shares
from guildgpt.feedback.voting.voters import by_position
from guildgpt.feedback.voting.votes import comparisons_where


@dataclass(frozen=True, slots=True)
class Standing:
    """A version among those that it met: the votes that it had a part in, the share of its duels
    that it won, and its score; None where it met none."""

    votes: int = 0
    wins: Share | None = None
    score: Score | None = None


async def standings(store: Store) -> dict[str, Standing]:
    """Every version that an answer which was put to the vote is by. Answers that are deleted say
    nothing any more, nor does who votes by position."""

    def read(
        connection: Connection,
    ) -> tuple[list[StoredComparison], list[Vote], dict[str, str]]:
        compared = comparisons_where(connection, true())
        cast = newest_votes(connection, [one.id for one in compared])
        wrote = (
            select(messages.c.id, messages.c.version_id)
            .where(messages.c.id.in_(select(candidates.c.message_id)))
            .where(~messages.c.deleted, messages.c.version_id.is_not(None))
        )
        versions = {row.id: row.version_id for row in connection.execute(wrote)}
        without = by_position(connection, store.seen)
        heard = [vote for each in cast.values() for vote in each if vote.member_id not in without]
        return compared, heard, versions

    compared, votes, versions = await store.database.read(read)
    met = duels(compared, votes, versions)
    shares, scores = win_shares(met), bradley_terry(met)
    counts: Counter[str] = Counter()
    wrote = {one.id: {versions[id] for id in one.candidates if id in versions} for one in compared}
    for vote in votes:
        if vote.verdict != "skip":
            counts.update(wrote.get(vote.comparison_id, ()))
    return {
        version: Standing(counts[version], shares.get(version), scores.get(version))
        for version in sorted({*counts, *scores})
    }
