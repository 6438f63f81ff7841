"""Accounts of the web page: invited by a link, signed in by a session.

Of a link and of a session the store has the SHA-256 alone: who reads the database can be nobody.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, get_args

from sqlalchemy import ColumnElement, Connection, delete, select, update

from guildgpt.errors import RecordGone, SignInRefused, StoreError
from guildgpt.feedback.people.members import SEEN_AGAIN, Members
from guildgpt.feedback.people.naming import (
    LOCAL_ACCOUNT,
    LOCAL_NAME,
    clean_name,
    refuse_taken,
    taken,
)
from guildgpt.feedback.records import Account, AccountRole, Invitation, Session
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, digest_of, new_id, new_secret, storable
from guildgpt.feedback.storage.schema import accounts, facts, invitations, members, sessions
from guildgpt.feedback.storage.trouble import GONE, Known

LASTS = timedelta(days=7)  # a link
STAYS = timedelta(days=30)  # a session, after it was last seen
_LONGEST_DEVICE = 200
_MOST_BEGUN = 20  # sessions without a link on one device: a browser may keep no cookie
_SOMEBODY_CAME = "web_signed_in"  # the fact that an invitation was accepted
_NEW_LINK = "Ask who invited you for a new link."
_ACCOUNT = tuple(accounts.c[name] for name in Account.__dataclass_fields__)
_INVITATION = tuple(invitations.c[name] for name in Invitation.__dataclass_fields__)
_SESSION = tuple(sessions.c[name] for name in Session.__dataclass_fields__)
_OF_THE_WEB = accounts.c.kind == "web"
_LOCAL_ID = select(facts.c.value).where(facts.c.name == LOCAL_ACCOUNT).scalar_subquery()


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who may come by the web page, as a voter or as an operator."""

    _database: Database
    _clock: Clock
    _members: Members

    async def invite(
        self,
        role: AccountRole,
        name: str | None = None,
        *,
        account_id: str | None = None,
        lasts: timedelta = LASTS,
    ) -> str:
        """The token of a link that makes an account, once; or signs this one in again.

        `name` is what who comes by it is called if they do not choose; an account that is signed in
        again keeps its name and role. Raises SignInRefused for a name that is taken, RecordGone
        where there is no such account or it has ended.
        """
        if role not in get_args(AccountRole):
            raise ValueError(f"no role: {role!r}")
        token, now = new_secret(), self._clock.now()
        row: dict[str, object] = {"id": new_id(), "sha256": digest_of(token), "role": role}
        row |= {"account_id": account_id, "created_at": now, "expires_at": now + lasts}
        row["name"] = None if name is None or account_id else clean_name(name)

        def work(connection: Connection) -> None:
            if account_id is not None:
                row["role"] = _account(connection, account_id).role
            elif row["name"] is not None:
                refuse_taken(connection, str(row["name"]))
            connection.execute(invitations.insert(), row)

        await self._database.write(work)
        return token

    async def invitations(self) -> list[Invitation]:
        """The links that still let somebody in, the oldest first."""
        wanted = select(*_INVITATION).where(self._is_open()).order_by(invitations.c.created_at)
        return [Invitation(*row) for row in await self._database.rows(wanted)]

    async def invitation(self, token: str) -> Invitation | None:
        """What a link is for, so that its page can say so; None if it lets nobody in."""
        wanted = select(*_INVITATION).where(
            self._is_open(), invitations.c.sha256 == digest_of(token)
        )
        found = await self._database.row(wanted)
        return Invitation(*found) if found else None

    async def withdraw(self, invitation_id: str) -> bool:
        """Let a link let nobody in; False if it did not any more."""
        this = delete(invitations).where(self._is_open(), invitations.c.id == invitation_id)
        return bool(await self._database.execute(this))

    async def accept(self, token: str, name: str | None, device: str) -> tuple[Account, str]:
        """Use a link: the account, and the token of a new session on this device.

        Who chooses no `name` gets the invitation's. Raises SignInRefused, in words, for a link that
        was used, has expired or never was, and for a name that is taken, has no words or is too
        long: then the link stays good.
        """
        if await self.invitation(token) is None:  # nobody is kept waiting by what is no link
            raise _no_link()
        secret, now = new_secret(), self._clock.now()
        session_id, account_id, member_id = new_id(), new_id(), new_id()

        def work(connection: Connection) -> Account:
            used = (
                update(invitations)
                .where(invitations.c.sha256 == digest_of(token), self._is_open())
                .values(used_at=now)
                .returning(*_INVITATION)
            )
            invited = connection.execute(used).one_or_none()
            if invited is None:
                raise _no_link()
            if invited.account_id is not None:
                account = _account(connection, invited.account_id)
            else:
                chosen = clean_name(name if name and name.strip() else invited.name or "")
                refuse_taken(connection, chosen)
                made = Account(account_id, member_id, chosen, invited.role, now)
                account = self._make(connection, made)
                if account.id != made.id:  # somebody else took the name at the same moment
                    raise taken(chosen)
            # Who came by it, their account alone says: it takes the link along when it is erased.
            came_by = update(invitations).where(invitations.c.id == invited.id)
            connection.execute(came_by.values(account_id=account.id, name=None))
            begun = _session(session_id, account.id, secret, device, now)
            connection.execute(sessions.insert(), begun)
            noting = self._database.insert(facts).values(name=_SOMEBODY_CAME, value="yes")
            connection.execute(noting.on_conflict_do_nothing())
            return account

        # Alone, or two who come at one moment took names that read alike.
        return await self._database.write(work, alone=True), secret

    async def begin(self, account_id: str, device: str) -> str:
        """The token of a new session on this device, without a link: see `local`. The oldest of
        many there ends. Raises RecordGone where there is no such account, or it has ended."""
        secret, begun = new_secret(), new_id()
        there = (sessions.c.account_id == account_id) & (sessions.c.device == device)
        newest = select(sessions.c.id).where(there).order_by(sessions.c.seen_at.desc())
        old = sessions.c.id.in_(newest.offset(_MOST_BEGUN - 1))

        def work(connection: Connection) -> None:
            account = _account(connection, account_id)
            connection.execute(delete(sessions).where(old))
            row = _session(begun, account.id, secret, device, self._clock.now())
            connection.execute(sessions.insert(), row)

        await self._database.write(work)
        return secret

    async def of_session(self, token: str) -> Account | None:
        """Who is signed in with this session; None if it has expired, or was ended."""
        now = self._clock.now()
        this = sessions.c.sha256 == digest_of(token)
        wanted = (
            select(*_ACCOUNT, sessions.c.seen_at)
            .join(sessions, sessions.c.account_id == accounts.c.id)
            .where(this, sessions.c.expires_at > now, accounts.c.ended_at.is_(None))
        )
        found = await self._database.row(wanted)
        if found is None:
            return None
        *row, seen_at = found
        account = Account(*row)
        if now - seen_at > SEEN_AGAIN:
            seen = update(sessions).where(this).values(seen_at=now, expires_at=now + STAYS)
            here = update(members).where(members.c.id == account.member_id).values(seen_at=now)

            def note(connection: Connection) -> None:
                connection.execute(seen)
                connection.execute(here)

            with suppress(StoreError):  # nobody is sent away because the disk is full
                await self._database.write(note)
        return account

    async def sessions(self, account_id: str) -> list[Session]:
        """Where an account is signed in, the last seen first."""
        valid = sessions.c.expires_at > self._clock.now()
        wanted = select(*_SESSION).where(sessions.c.account_id == account_id, valid)
        newest = wanted.order_by(sessions.c.seen_at.desc(), sessions.c.id)
        return [Session(*row) for row in await self._database.rows(newest)]

    async def session(self, token: str) -> Session | None:
        """The session with this token, so that its own browser is known among several."""
        wanted = select(*_SESSION).where(sessions.c.sha256 == digest_of(token))
        found = await self._database.row(wanted)
        return Session(*found) if found else None

    async def end_session(self, session_id: str, account_id: str) -> bool:
        """Sign an account out on one device; False if it has no such session."""
        this = (sessions.c.id == session_id) & (sessions.c.account_id == account_id)
        return bool(await self._database.execute(delete(sessions).where(this)))

    async def sign_out(self, token: str) -> None:
        """End the session with this token."""
        this = sessions.c.sha256 == digest_of(token)
        await self._database.execute(delete(sessions).where(this))

    async def rename(self, account_id: str, name: str) -> Account:
        """Call an account otherwise; all that is its member's stays its own. Raises SignInRefused
        for a name that is taken or is none, RecordGone where there is no such account."""
        chosen = clean_name(name)
        hashed = self._members.account_hash("web", chosen)

        def work(connection: Connection) -> Account:
            before = _account(connection, account_id)
            if chosen == before.name:
                return before
            refuse_taken(connection, chosen, of=before.id)
            if connection.scalar(select(members.c.id).where(members.c.hash == hashed)):
                raise taken(chosen)  # by who has an account no more
            if before.name == LOCAL_NAME:  # they are to be found again
                noting = self._database.insert(facts).values(name=LOCAL_ACCOUNT, value=before.id)
                connection.execute(noting.on_conflict_do_nothing())
            called = update(accounts).where(accounts.c.id == before.id).values(name=chosen)
            found_by = update(members).where(members.c.id == before.member_id).values(hash=hashed)
            connection.execute(called)
            connection.execute(found_by)
            return replace(before, name=chosen)

        return await self._database.write(work, alone=True)

    async def end(self, account_id: str) -> Account:
        """Sign an account out everywhere, for good; what it voted and wrote stays. Raises
        RecordGone where there is no such account."""
        ending = (
            update(accounts)
            .where(accounts.c.id == account_id, _OF_THE_WEB, accounts.c.ended_at.is_(None))
            .values(ended_at=self._clock.now())
        )

        def work(connection: Connection) -> Account:
            connection.execute(ending)
            for table in (sessions, invitations):
                connection.execute(delete(table).where(table.c.account_id == account_id))
            return _account(connection, account_id, even_ended=True)

        return await self._database.write(work)

    async def all(self) -> list[Account]:
        """The accounts of the web page, the oldest first, those that have ended, too."""
        wanted = select(*_ACCOUNT).where(_OF_THE_WEB).order_by(accounts.c.created_at)
        return [Account(*row) for row in await self._database.rows(wanted)]

    async def local(self) -> Account:
        """The operator at the machine itself, made at first sight.

        A server that is bound to loopback takes whoever comes for them, until somebody has signed
        in by a link: see `somebody_came`. Raises RecordGone if the operator ended the account.
        """
        named = accounts.c.name == LOCAL_NAME
        this = select(*_ACCOUNT).where(_OF_THE_WEB, named | (accounts.c.id == _LOCAL_ID))
        found = await self._database.row(this)
        if found is None:
            made = Account(new_id(), new_id(), LOCAL_NAME, "operator", self._clock.now())
            return await self._database.write(lambda connection: self._make(connection, made))
        if found.ended_at is not None:
            raise RecordGone(GONE.what, where=self._database.where, remedy=GONE.remedy)
        return Account(*found)

    async def somebody_came(self) -> bool:
        """Whether an invitation was ever accepted: from then on everybody signs in."""
        wanted = select(facts.c.value).where(facts.c.name == _SOMEBODY_CAME)
        return await self._database.value(wanted) is not None

    def _make(self, connection: Connection, account: Account) -> Account:
        """Write an account and its member down; one that is there already stays as it is."""
        hashed = self._members.account_hash("web", account.name)
        row: dict[str, object] = {"id": account.member_id, "hash": hashed, "consent": "chat"}
        row |= {"created_at": account.created_at, "seen_at": account.created_at}
        connection.execute(self._database.insert(members).on_conflict_do_nothing(), row)
        member = connection.scalar(select(members.c.id).where(members.c.hash == hashed))
        written = {name: getattr(account, name) for name in Account.__dataclass_fields__}
        written |= {"member_id": member, "kind": "web"}
        connection.execute(self._database.insert(accounts).on_conflict_do_nothing(), written)
        this = select(*_ACCOUNT).where(accounts.c.member_id == member)
        return Account(*connection.execute(this).one())

    def _is_open(self) -> ColumnElement[bool]:
        """Which invitations let somebody in."""
        unused = invitations.c.used_at.is_(None)
        return unused & (invitations.c.expires_at > self._clock.now())


def _account(connection: Connection, id: str, *, even_ended: bool = False) -> Account:
    this = select(*_ACCOUNT).where(accounts.c.id == id, _OF_THE_WEB)
    found = connection.execute(this).one_or_none()
    if found is None or (found.ended_at is not None and not even_ended):
        raise Known(GONE)
    return Account(*found)


def _session(id: str, account_id: str, secret: str, device: str, now: datetime) -> dict[str, Any]:
    """A session as a row."""
    return {
        "id": id,
        "sha256": digest_of(secret),
        "account_id": account_id,
        "device": storable(device)[:_LONGEST_DEVICE],
        "created_at": now,
        "seen_at": now,
        "expires_at": now + STAYS,
    }


def _no_link() -> SignInRefused:
    return SignInRefused("this link was used, is too old, or was never one", remedy=_NEW_LINK)
