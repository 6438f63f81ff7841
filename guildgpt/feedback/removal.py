"""Messages are taken out of their trees with all that is about them; the trees stay whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, bindparam, delete, select, update

from guildgpt.feedback.database import Database
from guildgpt.feedback.records import Erasure
from guildgpt.feedback.rows import Clock, among, new_id
from guildgpt.feedback.schema import (
    candidates,
    comparisons,
    conversations,
    corrections,
    decisions,
    deliveries,
    erasures,
    lineage,
    messages,
    parts,
    ratings,
    reports,
    rounds,
    versions,
    votes,
)
from guildgpt.feedback.traces import Traces

NOTHING = Erasure({}, ())
IS_HUSK = messages.c.deleted & messages.c.member_id.is_(None) & messages.c.discord_id.is_(None)
"""Which messages are empty ones that only hold others."""


@dataclass
class Removed:
    """How many rows went, by kind, and the ids of the events among them."""

    counts: Counter[str] = field(default_factory=Counter)
    events: set[str] = field(default_factory=set)

    def add(self, kind: str, ids: set[str]) -> None:
        """These are gone."""
        self.counts[kind] += len(ids)
        self.events |= ids


@dataclass(frozen=True, slots=True)
class Remover:
    """Takes things away, and keeps book of it."""

    _database: Database
    _clock: Clock
    _traces: Traces

    async def remove(
        self, take: Callable[[Connection, Removed], None], *, is_erasure: bool = False
    ) -> Erasure:
        """Take away in one transaction; say who had learned from it, and that there are traces.

        That is put on record if somebody had, and in any case if it `is_erasure`.
        """
        now, id = self._clock.later(), new_id()

        def work(connection: Connection) -> Erasure:
            removed = Removed()
            take(connection, removed)
            learned = _mark(connection, _forget_lineage(connection, removed.events), now)
            counts = {kind: count for kind, count in removed.counts.items() if count}
            if learned or (is_erasure and counts):
                record = {"id": id, "created_at": now, "counts": counts, "versions": list(learned)}
                connection.execute(erasures.insert(), record)
            self._traces.note(connection)
            return Erasure(counts, learned)

        return await self._database.write(work, alone=True)


def remove_messages(connection: Connection, doomed: set[str], removed: Removed) -> None:
    """Delete the messages, and everybody's deliveries, comparisons, votes, ratings and reports
    about them. In the place of one that others hang below stands an empty one; a conversation in
    which nobody else has said anything goes whole."""
    trees = _trees(connection, doomed)
    empty, gone, left = _fate(trees, doomed)
    said = doomed | gone
    removed.counts["deliveries"] += delete_deliveries(connection, about(connection, said))
    for table in (ratings, reports, corrections):
        of_them = among(connection, table.c.message_id, said)
        removed.add(table.name, delete_where(connection, table, of_them))
    remove_comparisons(connection, said, removed)
    _hollow(connection, empty)
    connection.execute(delete(messages).where(among(connection, messages.c.id, gone | empty)))
    removed.add("messages", said)
    ended = among(connection, conversations.c.id, left)
    removed.counts["conversations"] += len(delete_where(connection, conversations, ended))


def _forget_lineage(connection: Connection, events: set[str]) -> set[str]:
    """Which versions learned from these events; that they did is forgotten event by event."""
    which = among(connection, lineage.c.event_id, events)
    learned = set(connection.scalars(select(lineage.c.version_id).where(which)))
    connection.execute(delete(lineage).where(which))
    return learned


def _mark(connection: Connection, learned: set[str], now: datetime) -> tuple[str, ...]:
    """Mark the versions, those that were trained from them, and the candidates in training."""
    known = connection.execute(select(versions.c.id, versions.c.parent_id))
    parents = {row.id: row.parent_id for row in known}
    marked = set(learned)
    while found := {id for id, parent in parents.items() if parent in marked} - marked:
        marked |= found
    for table in (versions, decisions):
        of_them = among(connection, table.c.id, marked)
        connection.execute(update(table).where(of_them).values(erased_at=now))
    training = set(connection.scalars(select(decisions.c.id)))
    return tuple(sorted(marked - training))


def delete_where(connection: Connection, table: Table, which: ColumnElement[bool]) -> set[str]:
    """Delete rows; their ids."""
    ids = set(connection.scalars(select(table.c.id).where(which)))
    if ids:
        connection.execute(delete(table).where(among(connection, table.c.id, ids)))
    return ids


def delete_deliveries(connection: Connection, which: ColumnElement[bool]) -> int:
    """Delete deliveries with their parts; how many."""
    ids = select(deliveries.c.id).where(which)
    connection.execute(delete(parts).where(parts.c.delivery_id.in_(ids)))
    return len(delete_where(connection, deliveries, which))


def about(connection: Connection, said: set[str]) -> ColumnElement[bool]:
    """Which deliveries ask or answer with one of these messages."""
    asking, answering = deliveries.c.question_id, deliveries.c.answer_id
    return among(connection, asking, said) | among(connection, answering, said)


def remove_comparisons(connection: Connection, said: set[str], removed: Removed) -> None:
    """Delete the comparisons of these messages, and the votes on them."""
    shown = select(candidates.c.comparison_id).where(
        among(connection, candidates.c.message_id, said)
    )
    posed = select(comparisons.c.id).where(among(connection, comparisons.c.question_id, said))
    ids = set(connection.scalars(shown.union(posed)))
    if not ids:
        return
    asked = among(connection, rounds.c.comparison_id, ids)
    removed.counts["rounds"] += len(delete_where(connection, rounds, asked))
    cast = among(connection, votes.c.comparison_id, ids)
    removed.add("votes", delete_where(connection, votes, cast))
    shown_in_them = among(connection, candidates.c.comparison_id, ids)
    connection.execute(delete(candidates).where(shown_in_them))
    connection.execute(delete(comparisons).where(among(connection, comparisons.c.id, ids)))
    removed.add("comparisons", ids)


def _hollow(connection: Connection, ids: set[str]) -> None:
    """Hang what is below these messages on empty ones in their places, under new ids: the old ones
    are known to the buttons on Discord."""
    if not ids:
        return
    fresh = {id: new_id() for id in ids}
    wanted = select(messages).where(among(connection, messages.c.id, ids))
    rows = connection.execute(wanted).all()
    empty = {"text": "", "synthetic": False, "deleted": True, "extra": {}}
    husks = [
        {"id": fresh[row.id], "conversation_id": row.conversation_id, "role": row.role}
        | {"created_at": row.created_at, **empty}
        for row in rows
    ]
    connection.execute(messages.insert(), husks)
    hang = update(messages).values(parent_id=bindparam("new"))
    below = [{"old": old, "new": new} for old, new in fresh.items()]
    connection.execute(hang.where(messages.c.parent_id == bindparam("old")), below)
    above = [
        {"husk": fresh[row.id], "new": fresh.get(row.parent_id, row.parent_id)} for row in rows
    ]
    connection.execute(hang.where(messages.c.id == bindparam("husk")), above)


@dataclass(frozen=True)
class _Node:
    """What of a message decides its fate."""

    parent: str | None
    conversation: str
    is_system: bool
    is_husk: bool


def _trees(connection: Connection, doomed: set[str]) -> dict[str, _Node]:
    """Every message of the conversations that the doomed are in."""
    where = select(messages.c.conversation_id).where(among(connection, messages.c.id, doomed))
    places = set(connection.scalars(where))
    wanted = select(
        messages.c.id,
        messages.c.parent_id,
        messages.c.conversation_id,
        messages.c.role == "system",
        IS_HUSK,
    ).where(among(connection, messages.c.conversation_id, places))
    return {id: _Node(*rest) for id, *rest in connection.execute(wanted)}


def _fate(trees: dict[str, _Node], doomed: set[str]) -> tuple[set[str], set[str], set[str]]:
    """Which messages are to be emptied, which deleted, and which conversations end."""
    staying = {id for id, node in trees.items() if id not in doomed and not node.is_husk}
    spoken = {trees[id].conversation for id in staying if not trees[id].is_system}
    staying = {id for id in staying if trees[id].conversation in spoken}
    holding: set[str] = set()
    for id in staying:
        above = trees[id].parent
        while above in trees and above not in holding:
            holding.add(above)
            above = trees[above].parent
    gone = trees.keys() - staying - holding
    return doomed & holding, gone, {node.conversation for node in trees.values()} - spoken
