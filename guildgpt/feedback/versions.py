"""Versions: the models that answer, and what each of them has learned from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Table, select

from guildgpt.feedback.database import Database
from guildgpt.feedback.rows import Clock, among
from guildgpt.feedback.schema import comparisons, lineage, messages, ratings, versions, votes
from guildgpt.model.version import Version

Event = tuple[str, str]  # a kind and an id
_EVENTS: dict[str, Table] = {
    "vote": votes,
    "rating": ratings,
    "message": messages,
    "comparison": comparisons,
}


@dataclass(frozen=True, slots=True)
class Versions:
    """Models by the id that their answers carry."""

    _database: Database
    _clock: Clock

    async def register(self, version: Version, learned: Iterable[Event] = ()) -> None:
        """Make the version known, and what it learned from as far as that is in the store (see
        `learned`); the same id again says where it lies now."""
        row = asdict(version)
        registering = self._database.insert(versions).on_conflict_do_update(
            index_elements=["id"], set_=row
        )
        await self._database.execute(registering, row | {"registered_at": self._clock.now()})
        await self.learned(version.id, learned)

    async def learned(self, version_id: str, events: Iterable[Event]) -> set[Event]:
        """Note which events, as (kind, id), a version was trained on.

        Returns those that are not in the store (any more): they are not noted, for nobody could
        ever ask for them, and ids of what was erased do not come back.
        """
        wanted = set(events)

        def work(connection: Connection) -> set[Event]:
            there: set[Event] = set()
            for kind, table in _EVENTS.items():
                same = among(connection, table.c.id, [id for its, id in wanted if its == kind])
                found = connection.scalars(select(table.c.id).where(same))
                there |= {(kind, id) for id in found}
            rows = [
                {"version_id": version_id, "kind": kind, "event_id": id}
                for kind, id in sorted(there)
            ]
            if rows:
                connection.execute(self._database.insert(lineage).on_conflict_do_nothing(), rows)
            return wanted - there

        return await self._database.write(work) if wanted else wanted
