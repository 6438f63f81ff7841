"""Members, guilds' settings, and the versions that answer."""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Any, get_args

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from guildgpt.feedback.part import Part, new_id
from guildgpt.feedback.records import Consent, Member
from guildgpt.feedback.schema import facts, guild_settings, members, versions
from guildgpt.model.version import Version

_SEEN_AGAIN = timedelta(hours=1)  # how old `seen_at` may get: else every message would write it


class Members(Part):
    """Who talks to the bot, and what they and their guilds have chosen."""

    async def member(self, user_id: int) -> Member:
        """The member with this Discord id, made at first sight with consent `chat`."""
        hashed, now, id = self._hash(user_id), self._clock(), new_id()
        wanted = select(members.c.id, members.c.consent, members.c.seen_at).where(
            members.c.hash == hashed
        )

        async def look(connection: AsyncConnection) -> Any:
            return (await connection.execute(wanted)).one_or_none()

        async def make(connection: AsyncConnection) -> Any:
            row = {"id": id, "hash": hashed, "consent": "chat", "created_at": now, "seen_at": now}
            await connection.execute(
                self._insert(members).on_conflict_do_update(
                    index_elements=["hash"], set_={"seen_at": now}
                ),
                row,
            )
            return (await connection.execute(wanted)).one()

        found = await self._database.read(look)
        if found is None or now - found.seen_at > _SEEN_AGAIN:
            found = await self._database.write(make)
        return Member(found.id, found.consent)

    async def member_by_id(self, member_id: str) -> Member | None:
        """The member, or None if they were erased."""

        async def work(connection: AsyncConnection) -> Member | None:
            wanted = select(members.c.id, members.c.consent).where(members.c.id == member_id)
            row = (await connection.execute(wanted)).one_or_none()
            return Member(row.id, row.consent) if row else None

        return await self._database.read(work)

    async def set_consent(self, member_id: str, consent: Consent) -> None:
        """Note the choice; what was kept before stays until it is erased or its time is over."""
        if consent not in get_args(Consent):
            raise ValueError(f"no consent: {consent!r}")

        async def work(connection: AsyncConnection) -> None:
            done = await connection.execute(
                update(members).where(members.c.id == member_id).values(consent=consent)
            )
            if not done.rowcount:
                raise self._gone()

        await self._database.write(work)

    async def guild_settings(self, guild_id: int) -> dict[str, Any]:
        """What the guild's admins have set; empty if nothing."""

        async def work(connection: AsyncConnection) -> dict[str, Any]:
            wanted = select(guild_settings.c.settings).where(guild_settings.c.guild_id == guild_id)
            return (await connection.execute(wanted)).scalar_one_or_none() or {}

        return await self._database.read(work)

    async def save_guild_settings(self, guild_id: int, settings: dict[str, Any]) -> None:
        """Replace them."""
        changed = {"settings": settings, "updated_at": self._clock()}

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                self._insert(guild_settings)
                .values(guild_id=guild_id, **changed)
                .on_conflict_do_update(index_elements=["guild_id"], set_=changed)
            )

        await self._database.write(work)

    async def register_version(self, version: Version) -> None:
        """Make the version known; the same id again says where it lies now."""
        now = self._clock()
        said = {"name": version.name, "path": version.path, "sha256": version.sha256}

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                self._insert(versions)
                .values(id=version.id, registered_at=now, **said)
                .on_conflict_do_update(index_elements=["id"], set_=said)
            )

        await self._database.write(work)

    def _hash(self, user_id: int) -> str:
        return hmac.new(self._key, f"discord:{user_id}".encode(), "sha256").hexdigest()

    async def _fits(self) -> bool:
        """Whether the key is the one that this store was made with."""
        name = "member_key"
        print_ = hmac.new(self._key, b"which key is this?", "sha256").hexdigest()[:16]
        wanted = select(facts.c.value).where(facts.c.name == name)

        async def look(connection: AsyncConnection) -> str | None:
            return (await connection.execute(wanted)).scalar_one_or_none()

        async def note(connection: AsyncConnection) -> str | None:
            await connection.execute(
                self._insert(facts).values(name=name, value=print_).on_conflict_do_nothing()
            )
            return await look(connection)

        return print_ == (await self._database.read(look) or await self._database.write(note))
