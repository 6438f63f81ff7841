"""Members: who talks to the bot, known by a hash, and what they have chosen."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, get_args

from sqlalchemy import Connection, select, update

from guildgpt.errors import RecordGone
from guildgpt.feedback.records import AccountKind, Consent, Member
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, new_id
from guildgpt.feedback.storage.schema import accounts, facts, members
from guildgpt.feedback.storage.trouble import GONE

SEEN_AGAIN = timedelta(hours=1)  # how old `seen_at` may get: else every message would write it
KEY_FACT = "member_key"  # the fact that has the fingerprint of the key


def key_print(key: bytes) -> str:
    """The fingerprint of a key: it tells one from another, and nothing of either."""
    return hmac.new(key, b"which key is this?", "sha256").hexdigest()[:16]


@dataclass(frozen=True)
class Members:
    """People, each made at first sight; who they are on Discord, nobody reads from the hash."""

    _database: Database
    _clock: Clock
    _key: bytes = field(repr=False)

    async def of_user(self, user_id: int) -> Member:
        """The member with this Discord id, made at first sight with consent `chat`."""
        return await self._of_hash(self.hash_of(user_id))

    async def of_account(self, kind: AccountKind, name: str) -> Member:
        """The member who votes under this name without Discord, made at first sight."""
        hashed = self.account_hash(kind, name)
        member = await self._of_hash(hashed)
        row = {"id": new_id(), "member_id": member.id, "kind": kind, "name": name}
        noting = self._database.insert(accounts).on_conflict_do_nothing()
        await self._database.execute(noting, row | {"created_at": self._clock.now()})
        return member

    async def by_id(self, member_id: str) -> Member | None:
        """The member, or None if they were erased."""
        wanted = select(members.c.id, members.c.consent).where(members.c.id == member_id)
        found = await self._database.row(wanted)
        return Member(*found) if found else None

    async def set_consent(self, member_id: str, consent: Consent) -> None:
        """Note the choice; what was kept before stays until it is erased or its time is over."""
        if consent not in get_args(Consent):
            raise ValueError(f"no consent: {consent!r}")
        chosen = update(members).where(members.c.id == member_id).values(consent=consent)
        if not await self._database.execute(chosen):
            raise RecordGone(GONE.what, where=self._database.where, remedy=GONE.remedy)

    def hash_of(self, user_id: int) -> str:
        """By what a user is found again; nobody without the key can make it."""
        return self._hash(f"discord:{user_id}")

    def account_hash(self, kind: AccountKind, name: str) -> str:
        """The same for who votes without Discord."""
        return self._hash(f"{kind}:{name}")

    async def key_fits(self) -> bool:
        """Whether the key is the one that this store was made with."""
        name = KEY_FACT
        print_ = key_print(self._key)
        wanted = select(facts.c.value).where(facts.c.name == name)

        def note(connection: Connection) -> str | None:
            noting = self._database.insert(facts).values(name=name, value=print_)
            connection.execute(noting.on_conflict_do_nothing())
            return connection.scalar(wanted)

        noted = await self._database.value(wanted) or await self._database.write(note)
        return bool(noted == print_)

    async def _of_hash(self, hashed: str) -> Member:
        now, id = self._clock.now(), new_id()
        wanted = select(members.c.id, members.c.consent, members.c.seen_at).where(
            members.c.hash == hashed
        )

        def make(connection: Connection) -> Any:
            row = {"id": id, "hash": hashed, "consent": "chat", "created_at": now, "seen_at": now}
            making = self._database.insert(members).on_conflict_do_update(
                index_elements=["hash"], set_={"seen_at": now}
            )
            connection.execute(making, row)
            return connection.execute(wanted).one()

        found = await self._database.row(wanted)
        if found is None or now - found.seen_at > SEEN_AGAIN:
            found = await self._database.write(make)
        return Member(found.id, found.consent)

    def _hash(self, who: str) -> str:
        return hmac.new(self._key, who.encode(), "sha256").hexdigest()
