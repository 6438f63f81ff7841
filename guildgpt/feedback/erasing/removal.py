"""Messages are taken out of their trees with all that is about them; the trees stay whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Table,
    bindparam,
    delete,
    select,
    update,
)

from guildgpt.feedback.people.naming import LOCAL_ACCOUNT
from guildgpt.feedback.records import Erasure
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, among, new_id
from guildgpt.feedback.storage.schema import (
    accounts,
    candidates,
    chats,
    comparisons,
    conversations,
    corrections,
    decisions,
    deliveries,
    erasures,
    facts,
    invitations,
    lineage,
    messages,
    parts,
    prompts,
    proposals,
    ratings,
    reports,
    rounds,
    sessions,
    versions,
    votes,
)
from guildgpt.feedback.storage.traces import Traces
from guildgpt.feedback.versions.circle_log import write_down
from guildgpt.feedback.voting.means import forget_rounds

IS_HUSK = messages.c.deleted & messages.c.member_id.is_(None) & messages.c.discord_id.is_(None)
"""Which messages are empty ones that only hold others."""


@dataclass
class Removal:
    """Rows are taken away in one transaction: how many, by kind, and the ids of all that goes."""

    connection: Connection
    counts: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)

    def note(self, kind: str, ids: set[str]) -> None:
        """These are gone."""
        self.counts[kind] += len(ids)
        self.ids |= ids

    def delete(self, table: Table, which: ColumnElement[bool]) -> None:
        """Delete rows; a delivery's parts with it, a conversation's title on the web page, an
        account's sessions and links, and what is proposed to be asked of a prompt."""
        ids = set(self.connection.scalars(select(table.c.id).where(which)))
        if table is deliveries:
            theirs = among(self.connection, parts.c.delivery_id, ids)
            self.connection.execute(delete(parts).where(theirs))
        elif table is conversations:
            theirs = among(self.connection, chats.c.conversation_id, ids)
            self.connection.execute(delete(chats).where(theirs))
        elif table is prompts:
            self.delete(proposals, among(self.connection, proposals.c.prompt_id, ids))
        elif table is accounts:
            for one in (sessions, invitations):
                self.delete(one, among(self.connection, one.c.account_id, ids))
            noted = (facts.c.name == LOCAL_ACCOUNT) & among(self.connection, facts.c.value, ids)
            self.connection.execute(delete(facts).where(noted))
        if ids:
            self.connection.execute(delete(table).where(among(self.connection, table.c.id, ids)))
        self.note(table.name, ids)


@dataclass(frozen=True, slots=True)
class Remover:
    """Takes things away, and keeps book of it."""

    _database: Database
    _clock: Clock
    _traces: Traces

    async def remove(
        self,
        take: Callable[[Removal], None],
        *,
        of: Executable | None = None,
        is_erasure: bool = False,
    ) -> Erasure:
        """Take away in one transaction; say who had learned from it, and that there are traces.

        That is put on record if somebody had, and in any case if it `is_erasure`. Where `of` finds
        no row, there is nothing to take, and nobody has to wait for it.
        """
        if of is not None and not await self._database.row(of):
            return Erasure({}, ())
        now, id = self._clock.later(), new_id()

        def work(connection: Connection) -> Erasure:
            removal = Removal(connection)
            take(removal)
            marked = _mark(connection, _forget_lineage(connection, removal.ids), now)
            training = _tell(connection, self._clock, marked)
            learned = tuple(sorted(marked - training))
            counts = dict(+removal.counts)
            if learned or (is_erasure and counts):
                record = {"id": id, "created_at": now, "counts": counts, "versions": list(learned)}
                connection.execute(erasures.insert(), record)
            self._traces.note(connection)
            return Erasure(counts, learned)

        return await self._database.write(work, alone=True)


def remove_messages(removal: Removal, doomed: set[str]) -> None:
    """Delete the messages, and everybody's deliveries, comparisons, votes, ratings and reports
    about them. In the place of one that others hang below stands an empty one; a conversation in
    which nobody else has said anything goes whole."""
    connection = removal.connection
    trees = _trees(connection, doomed)
    empty, said, left = _fate(trees, doomed)
    removal.delete(deliveries, about(connection, said))
    for table in (ratings, reports, corrections):
        removal.delete(table, among(connection, table.c.message_id, said))
    remove_comparisons(removal, said)
    _hollow(connection, empty)
    removal.delete(messages, among(connection, messages.c.id, said))
    removal.delete(conversations, among(connection, conversations.c.id, left))


def _forget_lineage(connection: Connection, gone: set[str]) -> set[str]:
    """Which versions learned from what is gone; that they did is forgotten event by event."""
    which = among(connection, lineage.c.event_id, gone)
    learned = set(connection.scalars(select(lineage.c.version_id).where(which)))
    connection.execute(delete(lineage).where(which))
    return learned


def _mark(connection: Connection, learned: set[str], now: datetime) -> set[str]:
    """Mark the versions, those that were trained from them, and the candidates in training."""
    known = connection.execute(select(versions.c.id, versions.c.parent_id))
    parents = {row.id: row.parent_id for row in known}
    marked = set(learned)
    while found := {id for id, parent in parents.items() if parent in marked} - marked:
        marked |= found
    for table in (versions, decisions):
        of_them = among(connection, table.c.id, marked)
        connection.execute(update(table).where(of_them).values(erased_at=now))
    return marked


def _tell(connection: Connection, clock: Clock, marked: set[str]) -> set[str]:
    """The circle's log says which versions learned from what is gone, beside the turn that made
    each of them; which of the `marked` are no versions, but turns in training."""
    turns = connection.execute(select(decisions.c.id, decisions.c.candidate_id)).all()
    training = marked & {row.id for row in turns}
    versions = marked - training
    for row in turns:
        if row.id in training or row.candidate_id in versions:
            of_it = [row.candidate_id] if row.candidate_id in versions else []
            write_down(connection, clock, "erased", {"versions": of_it}, row.id)
    if others := sorted(versions - {row.candidate_id for row in turns}):
        write_down(connection, clock, "erased", {"versions": others})
    return training


def about(connection: Connection, said: set[str]) -> ColumnElement[bool]:
    """Which deliveries ask or answer with one of these messages."""
    asking, answering = deliveries.c.question_id, deliveries.c.answer_id
    return among(connection, asking, said) | among(connection, answering, said)


def remove_comparisons(removal: Removal, said: set[str]) -> None:
    """Delete the comparisons of these messages, and the votes on them."""
    connection = removal.connection
    shown = select(candidates.c.comparison_id).where(
        among(connection, candidates.c.message_id, said)
    )
    posed = select(comparisons.c.id).where(among(connection, comparisons.c.question_id, said))
    ids = set(connection.scalars(shown.union(posed)))
    if not ids:
        return
    held = among(connection, rounds.c.comparison_id, ids)
    forget_rounds(connection, held)
    removal.delete(rounds, held)
    removal.delete(votes, among(connection, votes.c.comparison_id, ids))
    in_them = among(connection, candidates.c.comparison_id, ids)
    connection.execute(delete(candidates).where(in_them))
    removal.delete(comparisons, among(connection, comparisons.c.id, ids))


def _hollow(connection: Connection, ids: set[str]) -> None:
    """Hang what is below these messages on empty ones in their places, under new ids: the old ones
    are known to the buttons on Discord."""
    if not ids:
        return
    fresh = {id: new_id() for id in ids}
    wanted = select(messages).where(among(connection, messages.c.id, ids))
    rows = connection.execute(wanted).all()
    husks = [
        {
            "id": fresh[row.id],
            "conversation_id": row.conversation_id,
            "role": row.role,
            "created_at": row.created_at,
            "text": "",
            "synthetic": False,
            "deleted": True,
            "extra": {},
        }
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
    places = select(messages.c.conversation_id).where(among(connection, messages.c.id, doomed))
    wanted = select(
        messages.c.id,
        messages.c.parent_id,
        messages.c.conversation_id,
        messages.c.role == "system",
        IS_HUSK,
    ).where(messages.c.conversation_id.in_(places))
    return {id: _Node(*rest) for id, *rest in connection.execute(wanted)}


def _fate(trees: dict[str, _Node], doomed: set[str]) -> tuple[set[str], set[str], set[str]]:
    """Which messages leave an empty one behind, which go in all, and which conversations end."""
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
    return doomed & holding, doomed | gone, {node.conversation for node in trees.values()} - spoken
