"""Reports: what members want somebody to look at, and whether somebody has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select, update

from guildgpt.feedback.messages.conversations import check_there
from guildgpt.feedback.records import AbuseReport
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, new_id, storable
from guildgpt.feedback.storage.schema import conversations, deliveries, messages, parts, reports


@dataclass(frozen=True, slots=True)
class Reports:
    """What was reported."""

    _database: Database
    _clock: Clock

    async def add(
        self, message_id: str, member_id: str | None, reason: str | None = None
    ) -> AbuseReport:
        """Note that a member, or somebody who is not named, finds a message wrong.

        Once more by the same member, while nobody has looked at it, is the same report: it takes on
        the reason, if there is one. RecordGone if the message is gone.
        """
        id, now, reason = new_id(), self._clock.later(), storable(reason)
        row = {
            "id": id,
            "message_id": message_id,
            "member_id": member_id,
            "reason": reason,
            "created_at": now,
        }
        same = select(reports.c.id).where(
            reports.c.message_id == message_id,
            reports.c.member_id == member_id,
            reports.c.resolved_at.is_(None),
        )

        def work(connection: Connection) -> AbuseReport:
            check_there(connection, [message_id])
            before = connection.scalar(same) if member_id else None
            if before is None:
                connection.execute(self._database.insert(reports).on_conflict_do_nothing(), row)
            elif reason:
                older = update(reports).where(reports.c.id == before)
                connection.execute(older.values(reason=reason))
            wanted = _reports().where(reports.c.id == (before or id))
            return AbuseReport(**connection.execute(wanted).one()._asdict())

        return await self._database.write(work)

    async def newest(
        self,
        guild_id: int | None = None,
        *,
        resolved: bool = False,
        older_than: str | None = None,
        limit: int | None = None,
    ) -> list[AbuseReport]:
        """The reports of a guild, or of all, newest first: those that nobody has looked at, or
        (`resolved`) all of them; from the one on that follows `older_than`, by its id."""
        wanted = _reports(guild_id, unresolved=not resolved).limit(limit)
        if older_than is not None:
            last = select(reports.c.created_at).where(reports.c.id == older_than)
            then = await self._database.value(last)
            wanted = wanted.where(reports.c.created_at < then) if then else wanted
        found = await self._database.rows(
            wanted.order_by(reports.c.created_at.desc(), reports.c.id.desc())
        )
        return [AbuseReport(**row._asdict()) for row in found]

    async def count_open(self, guild_id: int) -> int:
        """How many of a guild's nobody has looked at."""
        those = _reports(guild_id, unresolved=True).subquery()
        return int(await self._database.value(select(func.count()).select_from(those)))

    async def resolve(self, id: str, guild_id: int | None = None) -> AbuseReport | None:
        """Somebody has looked at it; None if there is no such report (in that guild)."""
        now = self._clock.now()
        wanted = _reports(guild_id).where(reports.c.id == id)

        def work(connection: Connection) -> AbuseReport | None:
            there = wanted.with_only_columns(reports.c.id)
            seen = update(reports).where(reports.c.id.in_(there), reports.c.resolved_at.is_(None))
            connection.execute(seen.values(resolved_at=now))
            row = connection.execute(wanted).one_or_none()
            return AbuseReport(**row._asdict()) if row else None

        return await self._database.write(work)


def _reports(guild_id: int | None = None, *, unresolved: bool = False) -> Select[Any]:
    first_part = (
        select(func.min(parts.c.discord_id))
        .join(deliveries, deliveries.c.id == parts.c.delivery_id)
        .where(deliveries.c.answer_id == messages.c.id)
        .scalar_subquery()
    )
    wanted = (
        select(
            reports.c.id,
            reports.c.message_id,
            messages.c.version_id,
            messages.c.text,
            conversations.c.guild_id,
            conversations.c.channel_id,
            func.coalesce(messages.c.discord_id, first_part).label("discord_id"),
            reports.c.reason,
            reports.c.created_at,
            reports.c.resolved_at,
        )
        .join(messages, messages.c.id == reports.c.message_id)
        .join(conversations, conversations.c.id == messages.c.conversation_id)
    )
    if guild_id is not None:
        wanted = wanted.where(conversations.c.guild_id == guild_id)
    return wanted.where(reports.c.resolved_at.is_(None)) if unresolved else wanted
