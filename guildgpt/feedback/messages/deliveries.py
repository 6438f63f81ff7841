"""Deliveries: every event of Discord's is answered at most once, and none is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack, get_args

from sqlalchemy import ColumnElement, Connection, delete, or_, select, update

from guildgpt.feedback.records import Delivery, DeliveryState
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, new_id, storable
from guildgpt.feedback.storage.schema import channel_marks, deliveries, messages, parts


class DeliveryChanges(TypedDict, total=False):
    """What `update` can change; `parts` and `extra` replace what was there."""

    state: str
    parts: Sequence[int]
    question_id: str | None
    answer_id: str | None
    comparison_id: str | None
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Events on their way to an answer."""

    _database: Database
    _clock: Clock

    async def claim(
        self,
        event_id: int,
        kind: str,
        *,
        guild_id: int | None = None,
        channel_id: int | None = None,
        member_id: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Delivery | None:
        """Take the event on; None if somebody, in whatever process, has taken it on before.

        `member_id` is whose event it is, so that an erasure finds it even when nothing else of it
        is kept; without it, `extra["member_id"]`. A channel of direct messages gets a mark, at its
        beginning: Discord lists no such channels, and where nobody knows one, nothing is read.
        """
        now, extra = self._clock.later(), storable(extra or {})
        claimed: dict[str, Any] = {
            "id": new_id(),
            "event_id": event_id,
            "kind": kind,
            "guild_id": guild_id,
            "channel_id": channel_id,
            "question_id": None,
            "answer_id": None,
            "state": "pending",
            "extra": extra,
        }
        whose = member_id or extra.get("member_id")
        row = {**claimed, "member_id": whose, "created_at": now, "updated_at": now}
        claiming = self._database.insert(deliveries).on_conflict_do_nothing(
            index_elements=["event_id"]
        )
        holder = select(deliveries.c.id).where(deliveries.c.event_id == event_id)
        marking = self._database.insert(channel_marks).on_conflict_do_nothing()
        mark = {"channel_id": channel_id, "guild_id": None, "last_seen": 0}

        def work(connection: Connection) -> Delivery | None:
            new = connection.execute(claiming, row).rowcount
            if new and channel_id is not None and guild_id is None:
                connection.execute(marking, mark)
            # Ours all the same if the connection died on the way back from the first try.
            if new or connection.scalar(holder) == row["id"]:
                return Delivery(**claimed, parts=())
            return None

        return await self._database.write(work)

    async def update(self, id: str, **changes: Unpack[DeliveryChanges]) -> None:
        """Write down how far it is. Nothing happens if it was erased meanwhile."""
        if unknown := set(changes) - DeliveryChanges.__annotations__.keys():
            raise TypeError(f"a delivery has no {', '.join(sorted(unknown))}")
        row: dict[str, Any] = {**changes, "updated_at": self._clock.now()}
        if row.get("state", "done") not in get_args(DeliveryState):
            raise ValueError(f"no state of a delivery: {row['state']!r}")
        if "extra" in row:
            row["extra"] = storable(row["extra"])
        written = row.pop("parts", None)

        def work(connection: Connection) -> None:
            ours = deliveries.c.id == id
            done = connection.execute(update(deliveries).where(ours).values(row))
            if written is None or not done.rowcount:
                return
            connection.execute(delete(parts).where(parts.c.delivery_id == id))
            if written:
                rows = [
                    {"delivery_id": id, "position": position, "discord_id": part}
                    for position, part in enumerate(written)
                ]
                connection.execute(parts.insert(), rows)

        await self._database.write(work)

    async def of_event(self, event_id: int) -> Delivery | None:
        """How far an event is that was claimed; None if it was not."""
        which = deliveries.c.event_id == event_id
        found = await self._database.read(lambda connection: _found(connection, which))
        return found[0] if found else None

    async def goes_on(self, event_id: int) -> bool:
        """Whether somebody said something to the answers to a claimed question, or below it."""
        question = select(deliveries.c.question_id).where(deliveries.c.event_id == event_id)
        answers = messages.alias()
        below = select(answers.c.id).where(answers.c.parent_id.in_(question))
        is_below = messages.c.parent_id.in_(question) & (messages.c.role == "user")
        wanted = select(messages.c.id).where(
            ~messages.c.deleted, or_(is_below, messages.c.parent_id.in_(below))
        )
        return await self._database.row(wanted.limit(1)) is not None

    async def unfinished(self) -> list[Delivery]:
        """What was claimed and not finished, oldest first: to be taken up after a crash."""
        is_open = deliveries.c.state.in_(("pending", "answering"))
        return await self._database.read(lambda connection: _found(connection, is_open))


def _found(connection: Connection, which: ColumnElement[bool]) -> list[Delivery]:
    """These deliveries with their parts, oldest first."""
    written: dict[str, list[int]] = {}
    whose_parts = select(parts).join(deliveries).where(which).order_by(parts.c.position)
    for part in connection.execute(whose_parts):
        written.setdefault(part.delivery_id, []).append(part.discord_id)
    wanted = select(deliveries).where(which).order_by(deliveries.c.created_at, deliveries.c.id)
    return [
        Delivery(
            id=row.id,
            event_id=row.event_id,
            kind=row.kind,
            guild_id=row.guild_id,
            channel_id=row.channel_id,
            question_id=row.question_id,
            answer_id=row.answer_id,
            state=row.state,
            parts=tuple(written.get(row.id, ())),
            extra=row.extra,
        )
        for row in connection.execute(wanted)
    ]
