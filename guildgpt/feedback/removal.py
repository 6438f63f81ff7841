"""Messages are taken out of their trees with all that is about them; the trees stay whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam, delete, or_, select, update

from guildgpt.feedback.database import Database
from guildgpt.feedback.records import Erasure
from guildgpt.feedback.rows import Clock, chunks, new_id
from guildgpt.feedback.schema import (
    candidates,
    comparisons,
    conversations,
    deliveries,
    erasures,
    lineage,
    messages,
    parts,
    ratings,
    reports,
    votes,
)
from guildgpt.feedback.traces import Traces

NOTHING = Erasure({}, ())


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
            learned = _forget_lineage(connection, removed.events)
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
    for chunk in chunks(doomed | gone):
        removed.counts["deliveries"] += delete_deliveries(connection, about(chunk))
        for table in (ratings, reports):
            of_them = table.c.message_id.in_(chunk)
            removed.add(table.name, delete_where(connection, table, of_them))
        remove_comparisons(connection, chunk, removed)
    _hollow(connection, empty)
    for chunk in chunks([*_leaves_first(trees, gone), *empty]):
        connection.execute(delete(messages).where(messages.c.id.in_(chunk)))
    removed.add("messages", doomed | gone)
    for chunk in chunks(left):
        which = conversations.c.id.in_(chunk)
        removed.counts["conversations"] += len(delete_where(connection, conversations, which))


def _forget_lineage(connection: Connection, events: set[str]) -> tuple[str, ...]:
    """Which versions learned from these events; that they did is forgotten event by event."""
    learned: set[str] = set()
    for chunk in chunks(events):
        which = lineage.c.event_id.in_(chunk)
        learned.update(connection.scalars(select(lineage.c.version_id).where(which)))
        connection.execute(delete(lineage).where(which))
    return tuple(sorted(learned))


def delete_where(connection: Connection, table: Table, which: ColumnElement[bool]) -> set[str]:
    """Delete rows; their ids."""
    ids = set(connection.scalars(select(table.c.id).where(which)))
    for chunk in chunks(ids):
        connection.execute(delete(table).where(table.c.id.in_(chunk)))
    return ids


def delete_deliveries(connection: Connection, which: ColumnElement[bool]) -> int:
    """Delete deliveries with their parts; how many."""
    ids = select(deliveries.c.id).where(which)
    connection.execute(delete(parts).where(parts.c.delivery_id.in_(ids)))
    return len(delete_where(connection, deliveries, which))


def about(said: list[str]) -> ColumnElement[bool]:
    """Which deliveries ask or answer with one of these messages."""
    return deliveries.c.question_id.in_(said) | deliveries.c.answer_id.in_(said)


def remove_comparisons(connection: Connection, said: list[str], removed: Removed) -> None:
    """Delete the comparisons of these messages, and the votes on them."""
    shown = select(candidates.c.comparison_id).where(candidates.c.message_id.in_(said))
    which = or_(comparisons.c.question_id.in_(said), comparisons.c.id.in_(shown))
    ids = list(connection.scalars(select(comparisons.c.id).where(which)))
    for chunk in chunks(ids):
        cast = votes.c.comparison_id.in_(chunk)
        removed.add("votes", delete_where(connection, votes, cast))
        connection.execute(delete(candidates).where(candidates.c.comparison_id.in_(chunk)))
        connection.execute(delete(comparisons).where(comparisons.c.id.in_(chunk)))
    removed.add("comparisons", set(ids))


def _hollow(connection: Connection, ids: set[str]) -> None:
    """Hang what is below these messages on empty ones in their places, under new ids: the old ones
    are known to the buttons on Discord."""
    fresh = {id: new_id() for id in ids}
    husks: list[dict[str, Any]] = []
    links: list[dict[str, Any]] = []  # which messages get which parent
    for chunk in chunks(ids):
        wanted = select(messages).where(messages.c.id.in_(chunk))
        for row in connection.execute(wanted):
            husk = {"id": fresh[row.id], "conversation_id": row.conversation_id, "role": row.role}
            empty = {"text": "", "synthetic": False, "deleted": True, "extra": {}}
            husks.append({**husk, **empty, "created_at": row.created_at})
            links.append({"old": row.id, "new": fresh[row.id], "above": row.parent_id})
    if not husks:
        return
    connection.execute(messages.insert(), husks)
    hang = update(messages).values(parent_id=bindparam("new"))
    connection.execute(hang.where(messages.c.parent_id == bindparam("old")), links)
    above = [
        {"husk": link["new"], "new": fresh.get(link["above"], link["above"])} for link in links
    ]
    connection.execute(hang.where(messages.c.id == bindparam("husk")), above)


@dataclass(frozen=True)
class _Node:
    """What of a message decides its fate. A `husk` is an empty one that only holds others."""

    parent: str | None
    conversation: str
    is_system: bool
    is_husk: bool


def _trees(connection: Connection, doomed: set[str]) -> dict[str, _Node]:
    """Every message of the conversations that the doomed are in."""
    places: set[str] = set()
    for chunk in chunks(doomed):
        where = select(messages.c.conversation_id).where(messages.c.id.in_(chunk))
        places.update(connection.scalars(where))
    trees: dict[str, _Node] = {}
    for chunk in chunks(places):
        wanted = select(
            messages.c.id,
            messages.c.parent_id,
            messages.c.conversation_id,
            messages.c.role,
            messages.c.deleted & messages.c.member_id.is_(None) & messages.c.discord_id.is_(None),
        ).where(messages.c.conversation_id.in_(chunk))
        for id, parent, conversation, role, is_husk in connection.execute(wanted):
            trees[id] = _Node(parent, conversation, role == "system", bool(is_husk))
    return trees


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


def _leaves_first(trees: dict[str, _Node], gone: set[str]) -> list[str]:
    """The messages so ordered that none is deleted before its replies."""
    replies = Counter(trees[id].parent for id in gone)
    ordered = [id for id in gone if not replies[id]]
    for id in ordered:  # grows while it is walked
        parent = trees[id].parent
        replies[parent] -= 1
        if parent in gone and not replies[parent]:
            ordered.append(parent)
    return ordered
