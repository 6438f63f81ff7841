"""When a message is taken back, the answers that repeat it are blanked; see `quoting` for the rule.

An answer was told every message above it in its tree. A blanked one is gone itself: what repeats it
further down is blanked as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, union_all, update

from guildgpt.feedback.erasing.removal import Removal, remove_comparisons
from guildgpt.feedback.messages.quoting import Trace, distinctive, marks, name_traces, traces
from guildgpt.feedback.storage.rows import among
from guildgpt.feedback.storage.schema import (
    conversations,
    corrections,
    deliveries,
    messages,
    parts,
    ratings,
    reports,
)

BLANK: dict[str, Any] = {"text": "", "name": None, "sampling": None, "deleted": True, "extra": {}}
"""What a message becomes whose text has to go while its row holds the tree."""


def blank_answers(
    removal: Removal,
    gone: set[str],
    *,
    with_them: Set[str] = frozenset(),
    edited: Mapping[str, str] = MappingProxyType({}),
    names: bool = False,
) -> None:
    """Blank the answers that quote messages that are gone, with everybody's ratings, comparisons
    and votes on them.

    Their texts have to stand in the store still. Answers that go `with_them`, or are blanked
    because they quote them, count for their distinctive words alone: a model says the same phrases
    again and again. `edited` are gone, too, but say something else now, by their ids: what was told
    one of them and stays becomes `outdated`. With `names` the speakers' names count as what they
    said. Blanked rows stay, to hold their trees; reports on them stay, for what is to be looked at
    is still on Discord.
    """
    connection = removal.connection
    taken_back = among(connection, messages.c.id, gone | edited.keys())
    places = set(connection.scalars(select(messages.c.conversation_id).where(taken_back)))
    for place in sorted(places - _leaving(connection, places, gone | with_them)):
        said = _told_together(connection, place)
        tree = _Tree(said, gone, with_them, edited, names)
        quoting, outdated = tree.judged()
        if quoting:
            blank(removal, quoting)
            _hide(connection, quoting, tree)
        if outdated:
            old = update(messages).where(among(connection, messages.c.id, outdated))
            connection.execute(old.values(outdated=True))


def _leaving(connection: Connection, places: Set[str], going: Set[str]) -> set[str]:
    """Chats of the web page in which nothing stays that could quote anything: somebody may have
    thousands, and writers wait meanwhile. Elsewhere threads may hang from what goes."""
    wanted = (
        select(messages.c.conversation_id, messages.c.id)
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .where(conversations.c.kind == "web", among(connection, conversations.c.id, places))
    )
    found = connection.execute(wanted).all()
    staying = {place for place, id in found if id not in going}
    return {place for place, _ in found} - staying


def _told_together(connection: Connection, conversation_id: str) -> dict[str, _Said]:
    """The messages of a conversation, and of the threads that hang from one of them: what is said
    in those is told all that stands above it here."""
    here = _said(connection, messages.c.conversation_id == conversation_id, {})
    own = select(messages.c.discord_id, messages.c.id).where(
        messages.c.conversation_id == conversation_id
    )
    answered = (
        select(parts.c.discord_id, deliveries.c.answer_id)
        .join(deliveries, deliveries.c.id == parts.c.delivery_id)
        .where(among(connection, deliveries.c.answer_id, here))
    )
    found = connection.execute(union_all(own, answered))
    hooks = {hook: id for hook, id in found if hook}  # a thread has its first message's Discord id
    threads = select(conversations.c.id, conversations.c.channel_id).where(
        among(connection, conversations.c.channel_id, hooks)
    )
    roots = {id: hooks[channel] for id, channel in connection.execute(threads)}
    below = among(connection, messages.c.conversation_id, roots)
    return here | _said(connection, below, roots)


def _said(
    connection: Connection, which: ColumnElement[bool], roots: Mapping[str, str]
) -> dict[str, _Said]:
    wanted = select(
        messages.c.id,
        messages.c.conversation_id,
        messages.c.parent_id,
        messages.c.role,
        messages.c.text,
        messages.c.name,
        messages.c.deleted,
    )
    return {
        id: _Said(parent or roots.get(place), *rest)
        for id, place, parent, *rest in connection.execute(wanted.where(which))
    }


def blank(removal: Removal, ids: set[str]) -> None:
    """Empty these messages, and take away the ratings, comparisons and votes on them."""
    for table in (ratings, corrections):
        removal.delete(table, among(removal.connection, table.c.message_id, ids))
    remove_comparisons(removal, ids)
    blanking = update(messages).where(among(removal.connection, messages.c.id, ids))
    removal.connection.execute(blanking.values(BLANK))
    removal.note("messages", ids)


def _hide(connection: Connection, ids: set[str], tree: _Tree) -> None:
    """Take the reasons out of reports on these where they repeat what is gone."""
    wanted = select(reports.c.id, reports.c.message_id, reports.c.reason).where(
        among(connection, reports.c.message_id, ids), reports.c.reason.is_not(None)
    )
    repeating = [
        id
        for id, message_id, reason in connection.execute(wanted)
        if tree.repeats(message_id, reason)
    ]
    hiding = update(reports).where(among(connection, reports.c.id, repeating))
    connection.execute(hiding.values(reason=None))


@dataclass(frozen=True, slots=True)
class _Said:
    parent: str | None
    role: str
    text: str
    name: str | None
    deleted: bool


class _Tree:
    """The messages of one conversation, and what of them is gone."""

    def __init__(
        self,
        said: dict[str, _Said],
        gone: set[str],
        with_them: Set[str],
        edited: Mapping[str, str],
        names: bool,
    ):
        self._said = said
        self._edited = edited
        self._marks: dict[str, set[Trace]] = {}
        self._above: dict[str, set[Trace]] = {}  # traces of what is gone above a message
        self._gone = {id: distinctive(said[id].text) for id in with_them if id in said}
        self._gone |= {id: self._traces(id, names) for id in gone | edited.keys() if id in said}

    def judged(self) -> tuple[set[str], set[str]]:
        """Which answers quote what is gone, and which others were told what has been edited."""
        quoting: set[str] = set()
        outdated: set[str] = set()
        told_old: set[str] = set()
        for id in self._parents_first():
            said = self._said[id]
            if said.parent in told_old or said.parent in self._edited:
                told_old.add(id)
            if said.role != "assistant" or said.deleted or id in self._gone:
                continue
            if self.repeats(id, said.text):
                quoting.add(id)
                self._gone[id] = distinctive(said.text)
            elif id in told_old:
                outdated.add(id)
        return quoting, outdated

    def repeats(self, id: str, text: str) -> bool:
        """Whether a text about what is above a message repeats what is gone of that."""
        shared = self._above.get(id, set()) & marks(text)
        at = self._said[id].parent
        while shared and at in self._said:
            shared -= self._kept(at)
            at = self._said[at].parent
        return bool(shared)

    def _traces(self, id: str, names: bool) -> set[Trace]:
        said = self._said[id]
        found = traces(said.text) if id not in self._edited else traces(said.text) - self._kept(id)
        return found | name_traces(said.name or "") if names and said.role == "user" else found

    def _kept(self, id: str) -> set[Trace]:
        """What stands in a message that stays, or in its new text."""
        if id not in self._marks:
            text = self._edited.get(id, self._said[id].text)
            self._marks[id] = marks(text)
        return self._marks[id] if id in self._edited or id not in self._gone else set()

    def _parents_first(self) -> Iterator[str]:
        below: dict[str | None, list[str]] = {}
        for id, said in self._said.items():
            below.setdefault(said.parent if said.parent in self._said else None, []).append(id)
        ordered = list(below.get(None, ()))
        for id in ordered:  # grows while it is walked
            yield id
            above = self._above.get(id, set())
            above = above | self._gone[id] if id in self._gone else above
            for reply in below.get(id, ()):
                self._above[reply] = above
                ordered.append(reply)
