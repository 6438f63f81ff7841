"""What members think: comparisons and votes, ratings; and what versions learned from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from guildgpt.feedback.part import Part, chunks, new_id
from guildgpt.feedback.records import Rating, StoredComparison, Verdict, Vote
from guildgpt.feedback.schema import (
    candidates,
    comparisons,
    lineage,
    messages,
    ratings,
    votes,
)
from guildgpt.feedback.view import storable

EventKind = Literal["vote", "rating", "message", "comparison"]
_EVENTS: dict[EventKind, Table] = {
    "vote": votes,
    "rating": ratings,
    "message": messages,
    "comparison": comparisons,
}


class Opinions(Part):
    """Votes and ratings are events that are only ever added: of one member the newest counts."""

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
        made = StoredComparison(id or new_id(), question_id, tuple(shown), discord_id, self._now())
        row = {
            "id": made.id,
            "question_id": question_id,
            "discord_id": discord_id,
            "created_at": made.created_at,
        }
        places = [
            {"comparison_id": made.id, "position": position, "message_id": message}
            for position, message in enumerate(shown)
        ]

        async def work(connection: AsyncConnection) -> StoredComparison:
            await self._check_there(connection, [question_id, *shown])
            adding = self._insert(comparisons).on_conflict_do_nothing()
            if not (await connection.execute(adding, row)).rowcount:
                return await _comparison(connection, made.id) or made
            await connection.execute(candidates.insert(), places)
            return made

        return await self._database.write(work)

    async def comparison(self, id: str) -> StoredComparison | None:
        """The comparison with this id."""
        return await self._database.read(lambda connection: _comparison(connection, id))

    async def vote(
        self,
        comparison_id: str,
        member_id: str,
        verdict: Verdict,
        ranking: Sequence[int] = (),
    ) -> Vote:
        """Add a vote. `ranking` has positions of the comparison, the best first, if and only if the
        verdict is `ranked`; positions left out share the last place."""
        if verdict not in get_args(Verdict):
            raise ValueError(f"no verdict: {verdict!r}")
        if (verdict == "ranked") != bool(ranking) or len(set(ranking)) < len(ranking):
            raise ValueError(f"no ranking of a {verdict} vote: {tuple(ranking)}")
        vote = Vote(new_id(), comparison_id, member_id, verdict, tuple(ranking), self._now())
        row = {
            "id": vote.id,
            "comparison_id": comparison_id,
            "member_id": member_id,
            "verdict": verdict,
            "ranking": list(ranking),
            "created_at": vote.created_at,
        }
        count = select(func.count()).where(candidates.c.comparison_id == comparison_id)

        async def work(connection: AsyncConnection) -> Vote:
            shown = await connection.scalar(count) or 0
            if not shown:
                raise self._gone()
            if not all(0 <= position < shown for position in ranking):
                raise ValueError(f"no ranking of {shown} answers: {tuple(ranking)}")
            await connection.execute(self._insert(votes).on_conflict_do_nothing(), row)
            return vote

        return await self._database.write(work)

    async def rate(
        self, message_id: str, member_id: str, value: int, reason: str | None = None
    ) -> Rating:
        """Add a rating: 1 up, -1 down, 0 takes it back. RecordGone if the message is gone."""
        if value not in (-1, 0, 1):
            raise ValueError(f"no rating: {value!r}")
        rating = Rating(new_id(), message_id, member_id, value, storable(reason), self._now())
        row = {
            "id": rating.id,
            "message_id": message_id,
            "member_id": member_id,
            "value": value,
            "reason": rating.reason,
            "created_at": rating.created_at,
        }

        async def work(connection: AsyncConnection) -> Rating:
            await self._check_there(connection, [message_id])
            await connection.execute(self._insert(ratings).on_conflict_do_nothing(), row)
            return rating

        return await self._database.write(work)

    async def learned(
        self, version_id: str, events: Iterable[tuple[str, str]]
    ) -> set[tuple[str, str]]:
        """Note which events, as (kind, id), a version was trained on.

        Returns those that are not in the store (any more): they are not noted, for nobody could
        ever ask for them, and ids of what was erased do not come back.
        """
        wanted = set(events)
        if unknown := {kind for kind, _ in wanted} - _EVENTS.keys():
            raise ValueError(f"no kind of event: {', '.join(sorted(unknown))}")

        async def work(connection: AsyncConnection) -> set[tuple[str, str]]:
            there: set[tuple[str, str]] = set()
            for kind, table in _EVENTS.items():
                for chunk in chunks(id for its, id in wanted if its == kind):
                    found = await connection.scalars(
                        select(table.c.id).where(table.c.id.in_(chunk))
                    )
                    there |= {(kind, id) for id in found}
            rows = [
                {"version_id": version_id, "kind": kind, "event_id": id}
                for kind, id in sorted(there)
            ]
            for some in chunks(rows):
                await connection.execute(self._insert(lineage).on_conflict_do_nothing(), some)
            return wanted - there

        return await self._database.write(work)

    async def _check_there(self, connection: AsyncConnection, wanted: Sequence[str]) -> None:
        """Raise RecordGone unless all the messages are there and none is deleted."""
        found = await connection.scalar(
            select(func.count()).where(messages.c.id.in_(set(wanted)), ~messages.c.deleted)
        )
        if found != len(set(wanted)):
            raise self._gone()


async def _comparison(connection: AsyncConnection, id: str) -> StoredComparison | None:
    row = (await connection.execute(select(comparisons).where(comparisons.c.id == id))).first()
    if row is None:
        return None
    shown = await connection.scalars(
        select(candidates.c.message_id)
        .where(candidates.c.comparison_id == id)
        .order_by(candidates.c.position)
    )
    return StoredComparison(id, row.question_id, tuple(shown), row.discord_id, row.created_at)
