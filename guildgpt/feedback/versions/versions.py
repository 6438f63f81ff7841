"""Versions: the models that answer, and what each of them has learned from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, Table, delete, func, literal, select, update

from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, among
from guildgpt.feedback.storage.schema import (
    comparisons,
    corrections,
    decisions,
    lineage,
    messages,
    ratings,
    versions,
    votes,
)
from guildgpt.model.version import Version

Event = tuple[str, str]  # a kind and an id
_EVENTS: dict[str, Table] = {
    "vote": votes,
    "rating": ratings,
    "message": messages,
    "comparison": comparisons,
    "correction": corrections,
}


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """A version as the store has it: where it lies, and whether it may and can answer.

    `erased_at` says when something that it learned from was erased, `trouble` why it did not start.
    """

    id: str
    name: str
    path: str
    sha256: str
    registered_at: datetime
    parent_id: str | None = None
    erased_at: datetime | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Versions:
    """Models by the id that their answers carry."""

    _database: Database
    _clock: Clock

    async def register(
        self, version: Version, learned: Iterable[Event] = (), *, parent_id: str | None = None
    ) -> None:
        """Make the version known, and what it learned from as far as that is in the store (see
        `learned`); the same id again says where it lies now. `parent_id` is the version that it
        was trained from."""
        row = asdict(version) | ({"parent_id": parent_id} if parent_id else {})
        registering = self._database.insert(versions).on_conflict_do_update(
            index_elements=["id"], set_=row
        )
        await self._database.execute(registering, row | {"registered_at": self._clock.now()})
        await self.learned(version.id, learned)

    async def by_id(self, id: str) -> KnownVersion | None:
        """The version, if it was registered."""
        return next((one for one in await self.all() if one.id == id), None)

    async def all(self) -> list[KnownVersion]:
        """Every registered version, the oldest first."""
        wanted = select(versions).order_by(versions.c.registered_at, versions.c.id)
        return [KnownVersion(**row._mapping) for row in await self._database.rows(wanted)]

    async def learned_from(self) -> dict[str, dict[str, int]]:
        """By version, how many events of each kind it learned from that are still in the store."""
        counted = select(lineage.c.version_id, lineage.c.kind, func.count())
        counted = counted.group_by(lineage.c.version_id, lineage.c.kind).order_by(lineage.c.kind)
        found: dict[str, dict[str, int]] = {}
        for id, kind, count in await self._database.rows(counted):
            found.setdefault(id, {})[kind] = count
        return found

    async def events_of(self, id: str) -> set[Event]:
        """What a version learned from, or a decision's training does, as far as it is there."""
        wanted = select(lineage.c.kind, lineage.c.event_id).where(lineage.c.version_id == id)
        return {(kind, event) for kind, event in await self._database.rows(wanted)}

    async def started(self, id: str, trouble: str | None = None) -> None:
        """Note that a version answers, or the trouble for which it does not start."""
        noting = update(versions).where(versions.c.id == id).values(trouble=trouble)
        await self._database.execute(noting)

    async def inherit(self, id: str, decision_id: str) -> None:
        """The version is what a decision's training made: it takes over the lineage that was noted
        before the first step, and whether something in it was erased since. One that was marked
        before, and came out the same without what was erased, is not marked any more, unless what
        it was trained from is."""

        def work(connection: Connection) -> None:
            marks = [versions.c.id == id]
            noted = select(literal(id), lineage.c.kind, lineage.c.event_id).where(
                lineage.c.version_id == decision_id
            )
            taking = self._database.insert(lineage).from_select(
                ["version_id", "kind", "event_id"], noted
            )
            connection.execute(taking.on_conflict_do_nothing())
            forgetting = delete(lineage).where(lineage.c.version_id == decision_id)
            if not connection.execute(forgetting).rowcount:  # it has taken over before
                marks.append(versions.c.erased_at.is_(None))
            erased = select(decisions.c.erased_at).where(decisions.c.id == decision_id)
            parent = select(versions.c.parent_id).where(versions.c.id == id).scalar_subquery()
            above = select(versions.c.erased_at).where(versions.c.id == parent)
            at = connection.scalar(erased) or connection.scalar(above)
            marking = update(versions).where(*marks)
            connection.execute(marking.values(erased_at=at))

        await self._database.write(work, alone=True)

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
