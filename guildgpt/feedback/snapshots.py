"""Everything at once: out for exports, in from imports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Table, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from guildgpt.errors import StoreError
from guildgpt.feedback.part import Part, chunks
from guildgpt.feedback.records import (
    Member,
    Rating,
    Snapshot,
    StoredComparison,
    StoredConversation,
    StoredMessage,
    Vote,
)
from guildgpt.feedback.schema import (
    candidates,
    comparisons,
    conversations,
    members,
    messages,
    ratings,
    versions,
    votes,
)
from guildgpt.feedback.view import storable
from guildgpt.model.version import Version


class Snapshots(Part):
    """The store as one value."""

    async def snapshot(self, *, guild_id: int | None = None) -> Snapshot:
        """What is in the store, or in one guild's conversations, as it is at this moment."""
        return await self._database.read(lambda connection: _read(connection, guild_id))

    async def add_snapshot(self, snapshot: Snapshot) -> Counter[str]:
        """Take everything in, in one transaction; how many rows of each kind were new.

        What is there already by its id is passed over, and counted as `…_already_there`. A new
        member is nobody's here: without the other store's key their hash cannot be made, so they
        are not found again, nor erased. Raises RecordGone if a message's parent is missing.
        """
        now = self._clock()
        ordered = _parents_first(snapshot.messages)
        new: Counter[str] = Counter()

        async def work(connection: AsyncConnection) -> Counter[str]:
            new.clear()  # what a first try, undone, had counted

            async def add(table: Table, rows: Sequence[dict[str, Any]]) -> set[str]:
                """The ids of the rows that are new."""
                there = await _there(connection, table, [row["id"] for row in rows])
                missing = {row["id"]: row for row in rows if row["id"] not in there}
                for chunk in chunks(missing.values()):
                    await connection.execute(self._insert(table).on_conflict_do_nothing(), chunk)
                new[table.name] = len(missing)
                new[f"{table.name}_already_there"] = len(rows) - len(missing)
                return set(missing)

            known = [asdict(v) | {"registered_at": now} for v in snapshot.versions.values()]
            await add(versions, known)
            born = {"created_at": now, "seen_at": now}
            strangers = [
                {"id": m.id, "consent": m.consent, "hash": f"elsewhere:{m.id}", **born}
                for m in snapshot.members.values()
            ]
            await add(members, strangers)
            await add(conversations, [storable(asdict(c)) for c in snapshot.conversations])
            await add(messages, [storable(asdict(m)) for m in ordered])
            posed = [
                {"id": c.id, "question_id": c.question_id, "discord_id": c.discord_id}
                | {"created_at": c.created_at or now}
                for c in snapshot.comparisons
            ]
            made = await add(comparisons, posed)
            shown = [
                {"comparison_id": c.id, "position": position, "message_id": message}
                for c in snapshot.comparisons
                if c.id in made
                for position, message in enumerate(c.candidates)
            ]
            for chunk in chunks(shown):
                await connection.execute(candidates.insert(), chunk)
            await add(votes, [asdict(v) | {"ranking": list(v.ranking)} for v in snapshot.votes])
            await add(ratings, [storable(asdict(r)) for r in snapshot.ratings])
            return Counter({kind: count for kind, count in new.items() if count})

        return await self._database.write(work)


async def _there(connection: AsyncConnection, table: Table, ids: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for chunk in chunks(ids):
        found.update(await connection.scalars(select(table.c.id).where(table.c.id.in_(chunk))))
    return found


def _parents_first(rows: Sequence[StoredMessage]) -> list[StoredMessage]:
    """The messages so ordered that each comes after its parent."""
    waiting: dict[str, list[StoredMessage]] = {}
    ids = {row.id for row in rows}
    ordered: list[StoredMessage] = []
    for row in rows:
        if row.parent_id in ids and row.parent_id is not None:
            waiting.setdefault(row.parent_id, []).append(row)
        else:
            ordered.append(row)
    for row in ordered:  # grows while it is walked
        ordered += waiting.pop(row.id, [])
    if waiting:
        raise StoreError(
            "messages reply to each other in a circle",
            where=next(iter(waiting)),
            remedy="Their `parent_id`s are wrong.",
        )
    return ordered


async def _read(connection: AsyncConnection, guild_id: int | None) -> Snapshot:
    there: ColumnElement[bool] = true()
    said: ColumnElement[bool] = true()
    if guild_id is not None:
        there = conversations.c.guild_id == guild_id
        said = messages.c.conversation_id.in_(select(conversations.c.id).where(there))
    asked = comparisons.c.question_id.in_(select(messages.c.id).where(said))

    async def rows(table: Table, which: ColumnElement[bool]) -> list[dict[str, Any]]:
        wanted = select(table).where(which).order_by(table.c.created_at, table.c.id)
        return [row._asdict() for row in await connection.execute(wanted)]

    shown: dict[str, list[str]] = {}
    places = select(candidates).join(comparisons).where(asked).order_by(candidates.c.position)
    for place in await connection.execute(places):
        shown.setdefault(place.comparison_id, []).append(place.message_id)
    compared = votes.c.comparison_id.in_(select(comparisons.c.id).where(asked))
    rated = ratings.c.message_id.in_(select(messages.c.id).where(said))
    found = Snapshot(
        conversations=[StoredConversation(**row) for row in await rows(conversations, there)],
        messages=[StoredMessage(**row) for row in await rows(messages, said)],
        comparisons=[
            StoredComparison(candidates=tuple(shown.get(row["id"], ())), **row)
            for row in await rows(comparisons, asked)
        ],
        votes=[
            Vote(**row | {"ranking": tuple(row["ranking"])}) for row in await rows(votes, compared)
        ],
        ratings=[Rating(**row) for row in await rows(ratings, rated)],
    )
    speakers = {message.member_id for message in found.messages}
    speakers |= {vote.member_id for vote in found.votes}
    speakers |= {rating.member_id for rating in found.ratings}
    for chunk in chunks(speakers - {None}):
        heard = select(members.c.id, members.c.consent).where(members.c.id.in_(chunk))
        found.members.update({row.id: Member(*row) for row in await connection.execute(heard)})
    authors = {message.version_id for message in found.messages}
    for row in await connection.execute(select(versions)):
        if guild_id is None or row.id in authors:
            found.versions[row.id] = Version(row.id, row.name, row.path, row.sha256)
    return found
