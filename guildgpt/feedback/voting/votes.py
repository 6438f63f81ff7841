"""Votes on answers that are compared, and ratings of single ones.

They are events that are only ever added: of one member the newest counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import get_args

from sqlalchemy import ColumnElement, Connection, func, select

from guildgpt.errors import RoundClosed
from guildgpt.feedback.messages.conversations import check_there
from guildgpt.feedback.records import (
    OVER,
    Rating,
    StoredComparison,
    Verdict,
    Vote,
)
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, new_id, storable
from guildgpt.feedback.storage.schema import candidates, comparisons, ratings, rounds, votes
from guildgpt.feedback.storage.trouble import GONE, Known
from guildgpt.feedback.voting.rankings import as_ranking, positions_of


@dataclass(frozen=True, slots=True)
class Votes:
    """Comparisons of answers to one question, and members' votes on them."""

    _database: Database
    _clock: Clock

    async def add_comparison(
        self,
        question_id: str,
        shown: Sequence[str],
        discord_id: int | None = None,
        id: str | None = None,
    ) -> StoredComparison:
        """Put answers to one question up for a vote, in the order shown.

        With the `id` of a comparison that is there already, that one stays as it is. Raises
        RecordGone if one of the messages is gone.
        """
        if len(shown) < 2 or len(set(shown)) < len(shown):
            raise ValueError("a comparison is of two different answers or more")
        now = self._clock.later()
        made = StoredComparison(id or new_id(), question_id, tuple(shown), discord_id, now)

        def work(connection: Connection) -> StoredComparison:
            check_there(connection, [question_id, *shown])
            adding = self._database.insert(comparisons).on_conflict_do_nothing()
            if not connection.execute(adding, comparison_row(made)).rowcount:
                return comparisons_where(connection, comparisons.c.id == made.id)[0]
            connection.execute(candidates.insert(), candidate_rows(made))
            return made

        return await self._database.write(work)

    async def comparison(self, id: str) -> StoredComparison | None:
        """The comparison with this id."""
        this = comparisons.c.id == id
        found = await self._database.read(lambda connection: comparisons_where(connection, this))
        return found[0] if found else None

    async def cast(
        self,
        comparison_id: str,
        member_id: str,
        verdict: Verdict,
        ranking: Sequence[int | Sequence[int]] = (),
        *,
        id: str | None = None,
    ) -> Vote:
        """Add a vote. `ranking` has positions of the comparison, the best first, equals together,
        if and only if the verdict is `ranked`; positions left out share the last place. With the
        `id` of a vote that is there already nothing is added: it was sent twice. Raises RoundClosed
        for a comparison whose round is over."""
        if verdict not in get_args(Verdict):
            raise ValueError(f"no verdict: {verdict!r}")
        placed = as_ranking(ranking)
        positions = positions_of(placed)
        if (verdict == "ranked") != bool(placed) or len(set(positions)) < len(positions):
            raise ValueError(f"no ranking of a {verdict} vote: {tuple(ranking)}")
        now = self._clock.later()
        vote = Vote(id or new_id(), comparison_id, member_id, verdict, placed, now)
        count = select(func.count()).where(candidates.c.comparison_id == comparison_id)
        round_state = (
            select(rounds.c.state)
            .where(rounds.c.comparison_id == comparison_id)
            .with_for_update(read=True)  # it is not closed meanwhile
        )

        def work(connection: Connection) -> Vote:
            shown = connection.scalar(count) or 0
            if not shown:
                raise Known(GONE)
            if id is not None and connection.scalar(select(votes.c.id).where(votes.c.id == id)):
                return vote
            if connection.scalar(round_state) in OVER:
                raise RoundClosed("this round is closed", remedy="The next one comes.")
            if not all(0 <= position < shown for position in positions):
                raise ValueError(f"no ranking of {shown} answers: {tuple(ranking)}")
            connection.execute(self._database.insert(votes).on_conflict_do_nothing(), asdict(vote))
            return vote

        return await self._database.write(work)


@dataclass(frozen=True, slots=True)
class Ratings:
    """What members think of single answers: of one member the newest counts."""

    _database: Database
    _clock: Clock

    async def add(
        self, message_id: str, member_id: str, value: int, reason: str | None = None
    ) -> Rating:
        """Add a rating: 1 up, -1 down, 0 takes it back. RecordGone if the message is gone."""
        if value not in (-1, 0, 1):
            raise ValueError(f"no rating: {value!r}")
        now = self._clock.later()
        rating = Rating(new_id(), message_id, member_id, value, storable(reason), now)

        def work(connection: Connection) -> Rating:
            check_there(connection, [message_id])
            adding = self._database.insert(ratings).on_conflict_do_nothing()
            connection.execute(adding, asdict(rating))
            return rating

        return await self._database.write(work)


def comparison_row(made: StoredComparison) -> dict[str, object]:
    """The comparison as a row; its answers are rows of their own."""
    return {key: value for key, value in asdict(made).items() if key != "candidates"}


def candidate_rows(made: StoredComparison) -> list[dict[str, object]]:
    """A row for each answer of a comparison."""
    return [
        {"comparison_id": made.id, "position": position, "message_id": message}
        for position, message in enumerate(made.candidates)
    ]


def comparisons_where(connection: Connection, which: ColumnElement[bool]) -> list[StoredComparison]:
    """These comparisons with their answers, the oldest first."""
    shown: dict[str, list[str]] = {}
    places = select(candidates).join(comparisons).where(which).order_by(candidates.c.position)
    for place in connection.execute(places):
        shown.setdefault(place.comparison_id, []).append(place.message_id)
    wanted = select(comparisons).where(which).order_by(comparisons.c.created_at, comparisons.c.id)
    return [
        StoredComparison(candidates=tuple(shown.get(row.id, ())), **row._mapping)
        for row in connection.execute(wanted)
    ]
