"""Ratings: thumbs up and down under an answer, events that are only ever added."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection

from guildgpt.feedback.conversations import check_there
from guildgpt.feedback.database import Database
from guildgpt.feedback.records import Rating
from guildgpt.feedback.rows import Clock, new_id, storable
from guildgpt.feedback.schema import ratings


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
