"""What the circle did: written down as it happens, for whoever looks in the morning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from guildgpt.feedback.records import DecisionState, LogEntry, LogKind
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, new_id, storable
from guildgpt.feedback.storage.schema import circle_log


@dataclass(frozen=True, slots=True)
class CircleLog:
    """Entries are only ever added. They hold counts and names of versions, no words of members."""

    _database: Database
    _clock: Clock

    async def add(
        self, kind: LogKind, detail: dict[str, Any] | None = None, *, decision_id: str | None = None
    ) -> LogEntry:
        """Write down what happened; the entry is the newest, even if the clock was set back."""

        def work(connection: Connection) -> LogEntry:
            return write_down(connection, self._clock, kind, detail, decision_id)

        return await self._database.write(work)

    async def entries(
        self, *, decision_id: str | None = None, limit: int | None = None
    ) -> list[LogEntry]:
        """The newest `limit` entries, of a decision or of all, the oldest of them first."""
        wanted = select(circle_log).order_by(circle_log.c.created_at.desc())
        if decision_id is not None:
            wanted = wanted.where(circle_log.c.decision_id == decision_id)
        found = await self._database.rows(wanted.limit(limit) if limit else wanted)
        return [LogEntry(**row._mapping) for row in found][::-1]


def write_down(
    connection: Connection,
    clock: Clock,
    kind: LogKind,
    detail: dict[str, Any] | None = None,
    decision_id: str | None = None,
) -> LogEntry:
    """The same within a transaction: what happened and that it is written down are one."""
    now = clock.later()
    newest = connection.scalar(select(func.max(circle_log.c.created_at)))
    if newest is not None:
        now = max(now, newest + timedelta(microseconds=1))
    made = LogEntry(new_id(), decision_id, kind, storable(detail or {}), now)
    connection.execute(circle_log.insert(), asdict(made))
    return made


def decided(state: DecisionState, result: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an entry says of a decision that has fallen: how, and by which rounds."""
    figures = ("rounds", "mean", "low", "high")
    return {"state": state} | {key: result[key] for key in figures if result and key in result}
