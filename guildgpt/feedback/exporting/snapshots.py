"""Everything at once: out for exports, in from imports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, select, true

from guildgpt.errors import StoreError
from guildgpt.feedback.records import (
    Correction,
    Decision,
    Member,
    PoolPrompt,
    Rating,
    Round,
    Snapshot,
    StoredConversation,
    StoredMessage,
    Vote,
)
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import among, storable
from guildgpt.feedback.storage.schema import (
    candidates,
    comparisons,
    conversations,
    corrections,
    decisions,
    left_guilds,
    members,
    messages,
    prompts,
    ratings,
    rounds,
    versions,
    votes,
)
from guildgpt.feedback.storage.sqlite import Work
from guildgpt.feedback.voting.rankings import as_ranking
from guildgpt.feedback.voting.seen import Seen
from guildgpt.feedback.voting.voters import by_position
from guildgpt.feedback.voting.votes import candidate_rows, comparison_row, comparisons_where
from guildgpt.model.version import Version


def add_snapshot(database: Database, snapshot: Snapshot, now: datetime) -> Work[Counter[str]]:
    """The unit of work that takes everything in; how many rows of each kind were new."""
    ordered = _parents_first(snapshot.messages)

    def work(connection: Connection) -> Counter[str]:
        new: Counter[str] = Counter()

        def add(table: Table, rows: Sequence[dict[str, Any]]) -> set[str]:
            """The ids of the rows that are new."""
            same = among(connection, table.c.id, [row["id"] for row in rows])
            there = set(connection.scalars(select(table.c.id).where(same)))
            missing = {row["id"]: row for row in rows if row["id"] not in there}
            if missing:
                adding = database.insert(table).on_conflict_do_nothing()
                connection.execute(adding, list(missing.values()))
            new[table.name] = len(missing)
            new[f"{table.name}_already_there"] = len(rows) - len(missing)
            return set(missing)

        add(versions, [asdict(v) | {"registered_at": now} for v in snapshot.versions.values()])
        born = {"created_at": now, "seen_at": now}
        add(
            members,
            [asdict(m) | {"hash": f"elsewhere:{m.id}", **born} for m in snapshot.members.values()],
        )
        add(conversations, [storable(asdict(c)) for c in snapshot.conversations])
        add(messages, [storable(asdict(m)) for m in ordered])
        posed = [replace(c, created_at=c.created_at or now) for c in snapshot.comparisons]
        made = add(comparisons, [comparison_row(c) for c in posed])
        if made:
            shown = [row for c in posed if c.id in made for row in candidate_rows(c)]
            connection.execute(candidates.insert(), shown)
        add(votes, [asdict(v) for v in snapshot.votes])
        add(ratings, [storable(asdict(r)) for r in snapshot.ratings])
        return Counter({kind: count for kind, count in new.items() if count})

    return work


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


def read_snapshot(connection: Connection, guild_id: int | None, seen: Seen) -> Snapshot:
    """What is in the store, or in one guild's conversations."""
    there: ColumnElement[bool] = true()
    said: ColumnElement[bool] = true()
    if guild_id is not None:
        there = conversations.c.guild_id == guild_id
        said = messages.c.conversation_id.in_(select(conversations.c.id).where(there))
    asked = comparisons.c.question_id.in_(select(messages.c.id).where(said))

    def rows(table: Table, which: ColumnElement[bool]) -> list[dict[str, Any]]:
        wanted = select(table).where(which).order_by(table.c.created_at, table.c.id)
        return [row._asdict() for row in connection.execute(wanted)]

    posed, told = select(comparisons.c.id).where(asked), select(messages.c.id).where(said)
    compared = votes.c.comparison_id.in_(posed)
    rated, corrected = ratings.c.message_id.in_(told), corrections.c.message_id.in_(told)
    found = Snapshot(
        conversations=[StoredConversation(**row) for row in rows(conversations, there)],
        messages=[StoredMessage(**row) for row in rows(messages, said)],
        comparisons=comparisons_where(connection, asked),
        votes=[
            Vote(**row | {"ranking": as_ranking(row["ranking"])}) for row in rows(votes, compared)
        ],
        ratings=[Rating(**row) for row in rows(ratings, rated)],
        corrections=[Correction(**row) for row in rows(corrections, corrected)],
        prompts=[PoolPrompt(**row) for row in rows(prompts, true())],
        rounds=[Round(**row) for row in rows(rounds, rounds.c.comparison_id.in_(posed))],
        decisions=[Decision(**row) for row in rows(decisions, true())],
    )
    speakers = {message.member_id for message in found.messages}
    speakers |= {vote.member_id for vote in found.votes}
    speakers |= {rating.member_id for rating in found.ratings}
    speakers |= {correction.member_id for correction in found.corrections}
    heard = select(members.c.id, members.c.consent).where(
        among(connection, members.c.id, speakers - {None})
    )
    found.members.update({row.id: Member(*row) for row in connection.execute(heard)})
    authors = {message.version_id for message in found.messages}
    voted = {vote.member_id for vote in found.votes if vote.member_id}
    found.by_position.update(by_position(connection, seen, voted))
    found.left_guilds.update(connection.scalars(select(left_guilds.c.guild_id)))
    for row in connection.execute(select(versions)):
        if guild_id is None or row.id in authors:
            found.versions[row.id] = Version(row.id, row.name, row.path, row.sha256)
    return found
