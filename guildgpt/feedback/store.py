"""The feedback store: one object, and in it one for each subject.

`members` who they are and what they chose, `accounts` who signs in on the web page, `keys` who asks
the API, `responses` what programs had stored, `conversations` what was said, `chats` what was asked
on the page, `revisions` what is deleted and edited on Discord, `places` guilds and channels,
`deliveries` what is being answered, `votes`, `ratings` and `corrections` what members think, `seen`
who was shown what, `voters` whose votes count, `prompts` what rounds ask, `rounds` what members
vote on, `reports` what somebody should look at, `versions` which models answer and what they
learned from, `releases` who answers how much, `decisions` what becomes of candidates, `log` what
the circle did, `privacy` erasure, retention and what a member may see, `leases` which process may
answer, `traces` what was deleted and is still in the file. Every method raises StoreError, in
words, when the database is locked, full, read-only, damaged or gone; each write is one transaction,
done whole or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Self

from guildgpt.errors import StoreError
from guildgpt.feedback.erasing.privacy import Privacy
from guildgpt.feedback.erasing.removal import Remover
from guildgpt.feedback.erasing.revisions import Revisions
from guildgpt.feedback.exporting.snapshots import add_snapshot, read_snapshot
from guildgpt.feedback.messages.chats import Chats
from guildgpt.feedback.messages.conversations import Conversations
from guildgpt.feedback.messages.deliveries import Deliveries
from guildgpt.feedback.messages.reports import Reports
from guildgpt.feedback.messages.responses import Responses
from guildgpt.feedback.people.accounts import Accounts
from guildgpt.feedback.people.keys import Keys
from guildgpt.feedback.people.members import Members
from guildgpt.feedback.people.places import Places
from guildgpt.feedback.records import Snapshot, Stats
from guildgpt.feedback.statistics import Counting
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.leases import Leases
from guildgpt.feedback.storage.rows import Clock, utcnow
from guildgpt.feedback.storage.traces import Traces
from guildgpt.feedback.versions.circle_log import CircleLog
from guildgpt.feedback.versions.decisions import Decisions
from guildgpt.feedback.versions.releases import Releases
from guildgpt.feedback.versions.versions import Versions
from guildgpt.feedback.voting.corrections import Corrections
from guildgpt.feedback.voting.prompts import Prompts
from guildgpt.feedback.voting.proposals import Proposals
from guildgpt.feedback.voting.rounds import Rounds
from guildgpt.feedback.voting.seen import Seen
from guildgpt.feedback.voting.voters import Voters
from guildgpt.feedback.voting.votes import Ratings, Votes


class Store:
    """The store; opened with `Store.open`, closed with `close` or by leaving its `async with`."""

    def __init__(self, database: Database, *, key: bytes, clock: Clock):
        self.database = database
        self._clock = clock
        self.traces = Traces(database)
        self.seen = Seen(key)
        remover = Remover(database, clock, self.traces)
        self.members = Members(database, clock, key)
        self.accounts = Accounts(database, clock, self.members)
        self.keys = Keys(database, clock)
        self.responses = Responses(database, clock)
        self.conversations = Conversations(database, clock)
        self.chats = Chats(database, clock, remover)
        self.revisions = Revisions(database, remover)
        self.places = Places(database, clock, remover, self.seen)
        self.deliveries = Deliveries(database, clock)
        self.votes = Votes(database, clock)
        self.ratings = Ratings(database, clock)
        self.corrections = Corrections(database, clock)
        self.voters = Voters(database, self.seen)
        self.prompts = Prompts(database, clock)
        self.rounds = Rounds(database, clock, self.seen)
        self.proposals = Proposals(database, clock)
        self.releases = Releases(database, clock)
        self.decisions = Decisions(database, clock)
        self.log = CircleLog(database, clock)
        self.reports = Reports(database, clock)
        self.versions = Versions(database, clock)
        self.privacy = Privacy(database, clock, self.members, remover, self.traces, self.seen)
        self.leases = Leases(database, clock)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        key: bytes,
        clock: Callable[[], datetime] = utcnow,
        patience: float = 5.0,
    ) -> Self:
        """Open a store, or make it, and bring its tables up to date.

        `url` is sqlite:///feedback.db, postgresql://user:password@host/database, `sqlite://` for
        one in memory, or the path of a SQLite file. `key` turns members into hashes; it must be the
        one that the store was made with. For `patience` seconds a database is waited for that is
        locked or gone. Raises StoreError.
        """
        database = await Database.open(url, patience=patience)
        store = cls(database, key=key, clock=Clock(clock))
        try:
            if not await store.members.key_fits():
                raise StoreError(
                    "this is not the key that the store was made with",
                    where=database.where,
                    remedy="Put the right one back: with another, no member is found again.",
                )
            await store.traces.scrub()
        except BaseException:
            await store.close()
            raise
        return store

    async def stats(self, guild_id: int | None = None) -> Stats:
        """Counts over everything, or over one guild's conversations and who spoke in them."""
        return await self.database.read(lambda connection: Counting(connection, guild_id).stats())

    async def snapshot(self, *, guild_id: int | None = None) -> Snapshot:
        """What is in the store, or in one guild's conversations, as it is at this moment."""
        return await self.database.read(
            lambda connection: read_snapshot(connection, guild_id, self.seen)
        )

    async def add_snapshot(self, snapshot: Snapshot) -> Counter[str]:
        """Take everything in, in one transaction; how many rows of each kind were new.

        What is there already by its id is passed over, and counted as `…_already_there`. A new
        member is nobody's here: without the other store's key their hash cannot be made, so they
        are not found again, nor erased. Raises RecordGone if a message's parent is missing.
        """
        work = add_snapshot(self.database, snapshot, self._clock.now())
        return await self.database.write(work)

    async def close(self) -> None:
        """Finish what is being written, and let go of the database."""
        await self.database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()
