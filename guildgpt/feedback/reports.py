"""Reports: what members want somebody to look at, and whether somebody has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from guildgpt.feedback.part import Part, new_id
from guildgpt.feedback.schema import conversations, deliveries, messages, parts, reports
from guildgpt.feedback.view import storable


@dataclass(frozen=True, slots=True)
class Report:
    """An answer that somebody finds wrong, and where it stands on Discord. Of one that is gone
    there is no `text`; who reported it is nobody's business."""

    id: str
    message_id: str
    version_id: str | None
    text: str
    guild_id: int | None
    channel_id: int | None
    discord_id: int | None
    reason: str | None
    created_at: datetime
    resolved_at: datetime | None

    @property
    def link(self) -> str | None:
        """The address of the message on Discord, if it is known."""
        if self.channel_id is None or self.discord_id is None:
            return None
        place = f"{self.guild_id or '@me'}/{self.channel_id}/{self.discord_id}"
        return f"https://discord.com/channels/{place}"


class Reports(Part):
    """What was reported."""

    async def report(
        self, message_id: str, member_id: str | None, reason: str | None = None
    ) -> Report:
        """Note that a member, or somebody who is not named, finds a message wrong.

        Once more by the same member, while nobody has looked at it, is the same report: it takes on
        the reason, if there is one. RecordGone if the message is gone.
        """
        id, now, reason = new_id(), self._now(), storable(reason)
        row = {
            "id": id,
            "message_id": message_id,
            "member_id": member_id,
            "reason": reason,
            "created_at": now,
        }
        there = select(messages.c.id).where(messages.c.id == message_id, ~messages.c.deleted)
        same = select(reports.c.id).where(
            reports.c.message_id == message_id,
            reports.c.member_id == member_id,
            reports.c.resolved_at.is_(None),
        )

        async def work(connection: AsyncConnection) -> Report:
            if (await connection.execute(there)).first() is None:
                raise self._gone()
            before = (await connection.execute(same)).scalar() if member_id else None
            if before is None:
                await connection.execute(self._insert(reports).on_conflict_do_nothing(), row)
            elif reason:
                older = update(reports).where(reports.c.id == before)
                await connection.execute(older.values(reason=reason))
            wanted = _reports().where(reports.c.id == (before or id))
            return _report((await connection.execute(wanted)).one())

        return await self._database.write(work)

    async def reports(
        self,
        guild_id: int | None = None,
        *,
        resolved: bool = False,
        older_than: str | None = None,
        limit: int | None = None,
    ) -> list[Report]:
        """The reports of a guild, or of all, newest first: those that nobody has looked at, or
        (`resolved`) all of them; from the one on that follows `older_than`, by its id."""
        wanted = _reports().order_by(reports.c.created_at.desc(), reports.c.id.desc())
        if guild_id is not None:
            wanted = wanted.where(conversations.c.guild_id == guild_id)
        if not resolved:
            wanted = wanted.where(reports.c.resolved_at.is_(None))
        if limit is not None:
            wanted = wanted.limit(limit)
        last = select(reports.c.created_at).where(reports.c.id == older_than)

        async def work(connection: AsyncConnection) -> list[Report]:
            then = (await connection.execute(last)).scalar() if older_than else None
            rest = wanted.where(reports.c.created_at < then) if then else wanted
            return [_report(row) for row in await connection.execute(rest)]

        return await self._database.read(work)

    async def open_reports(self, guild_id: int) -> int:
        """How many of a guild's nobody has looked at."""
        of_guild = _reports().where(conversations.c.guild_id == guild_id)
        those = of_guild.where(reports.c.resolved_at.is_(None)).subquery()

        async def work(connection: AsyncConnection) -> int:
            return await connection.scalar(select(func.count()).select_from(those)) or 0

        return await self._database.read(work)

    async def resolve_report(self, id: str, guild_id: int | None = None) -> Report | None:
        """Somebody has looked at it; None if there is no such report (in that guild)."""
        now = self._clock()
        wanted = _reports().where(reports.c.id == id)
        if guild_id is not None:
            wanted = wanted.where(conversations.c.guild_id == guild_id)

        async def work(connection: AsyncConnection) -> Report | None:
            row = (await connection.execute(wanted)).one_or_none()
            if row is None:
                return None
            seen = update(reports).where(reports.c.id == id, reports.c.resolved_at.is_(None))
            await connection.execute(seen.values(resolved_at=now))
            found = _report(row)
            return found if found.resolved_at else replace(found, resolved_at=now)

        return await self._database.write(work)


def _reports() -> Select[Any]:
    first_part = (
        select(func.min(parts.c.discord_id))
        .join(deliveries, deliveries.c.id == parts.c.delivery_id)
        .where(deliveries.c.answer_id == messages.c.id)
        .scalar_subquery()
    )
    return (
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


def _report(row: Any) -> Report:
    return Report(**row._asdict())
