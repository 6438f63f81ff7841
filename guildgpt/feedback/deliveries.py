"""Deliveries: every event of Discord's is answered at most once, and none is lost.

Also the newest message read in each channel, for catching up, and the lease on which the right to
answer rests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict, Unpack, get_args

from sqlalchemy import Row, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from guildgpt.feedback.part import Part, new_id
from guildgpt.feedback.records import Delivery, DeliveryState
from guildgpt.feedback.schema import channel_marks, deliveries, leases, messages, parts
from guildgpt.feedback.view import storable


class DeliveryChanges(TypedDict, total=False):
    """What `update_delivery` can change; `parts` and `extra` replace what was there."""

    state: str
    parts: Sequence[int]
    question_id: str | None
    answer_id: str | None
    comparison_id: str | None
    extra: dict[str, Any]


class Deliveries(Part):
    """Events on their way to an answer."""

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
        now, extra = self._now(), storable(extra or {})
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
        claiming = self._insert(deliveries).on_conflict_do_nothing(index_elements=["event_id"])
        holder = select(deliveries.c.id).where(deliveries.c.event_id == event_id)
        marking = self._insert(channel_marks).on_conflict_do_nothing()
        mark = {"channel_id": channel_id, "guild_id": None, "last_seen": 0}

        async def work(connection: AsyncConnection) -> Delivery | None:
            new = (await connection.execute(claiming, row)).rowcount
            if new and channel_id is not None and guild_id is None:
                await connection.execute(marking, mark)
            # Ours all the same if the connection died on the way back from the first try.
            if new or await connection.scalar(holder) == row["id"]:
                return Delivery(**claimed, parts=())
            return None

        return await self._database.write(work)

    async def update_delivery(self, id: str, **changes: Unpack[DeliveryChanges]) -> None:
        """Write down how far it is. Nothing happens if it was erased meanwhile."""
        if unknown := set(changes) - DeliveryChanges.__annotations__.keys():
            raise TypeError(f"a delivery has no {', '.join(sorted(unknown))}")
        row: dict[str, Any] = {**changes, "updated_at": self._clock()}
        if row.get("state", "done") not in get_args(DeliveryState):
            raise ValueError(f"no state of a delivery: {row['state']!r}")
        if "extra" in row:
            row["extra"] = storable(row["extra"])
        written = row.pop("parts", None)

        async def work(connection: AsyncConnection) -> None:
            ours = deliveries.c.id == id
            done = await connection.execute(update(deliveries).where(ours).values(row))
            if written is None or not done.rowcount:
                return
            await connection.execute(delete(parts).where(parts.c.delivery_id == id))
            if written:
                rows = [
                    {"delivery_id": id, "position": position, "discord_id": part}
                    for position, part in enumerate(written)
                ]
                await connection.execute(parts.insert(), rows)

        await self._database.write(work)

    async def delivery_of(self, event_id: int) -> Delivery | None:
        """How far an event is that was claimed; None if it was not."""
        wanted = select(deliveries).where(deliveries.c.event_id == event_id)
        whose = select(parts.c.discord_id).join(deliveries).order_by(parts.c.position)

        async def work(connection: AsyncConnection) -> Delivery | None:
            row = (await connection.execute(wanted)).one_or_none()
            if row is None:
                return None
            written = await connection.scalars(whose.where(deliveries.c.event_id == event_id))
            return _delivery(row, list(written))

        return await self._database.read(work)

    async def goes_on(self, event_id: int) -> bool:
        """Whether somebody said something to the answers to a claimed question, or below it."""
        question = select(deliveries.c.question_id).where(deliveries.c.event_id == event_id)
        answers = messages.alias()
        below = select(answers.c.id).where(answers.c.parent_id.in_(question))
        is_below = messages.c.parent_id.in_(question) & (messages.c.role == "user")
        wanted = select(messages.c.id).where(
            ~messages.c.deleted, or_(is_below, messages.c.parent_id.in_(below))
        )

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(wanted.limit(1))).first() is not None

        return await self._database.read(work)

    async def open_deliveries(self) -> list[Delivery]:
        """What was claimed and not finished, oldest first: to be taken up after a crash."""
        is_open = deliveries.c.state.in_(("pending", "answering"))
        wanted = select(deliveries).where(is_open)
        whose_parts = select(parts).join(deliveries).where(is_open).order_by(parts.c.position)

        async def work(connection: AsyncConnection) -> list[Delivery]:
            found = await connection.execute(
                wanted.order_by(deliveries.c.created_at, deliveries.c.id)
            )
            written: dict[str, list[int]] = {}
            for part in await connection.execute(whose_parts):
                written.setdefault(part.delivery_id, []).append(part.discord_id)
            return [_delivery(row, written.get(row.id, ())) for row in found]

        return await self._database.read(work)

    async def see(self, channel_id: int, message_id: int, guild_id: int | None) -> None:
        """The channel is read up to this message; a mark only ever moves forward."""
        await self.see_all({channel_id: (guild_id, message_id)})

    async def see_all(self, marks: Mapping[int, tuple[int | None, int]]) -> None:
        """The same for many channels at once: for each its guild and the message."""
        seeing = self._insert(channel_marks)
        told = seeing.excluded
        seeing = seeing.on_conflict_do_update(
            index_elements=["channel_id"],
            set_={"last_seen": told.last_seen, "guild_id": told.guild_id},
            where=channel_marks.c.last_seen < told.last_seen,
        )
        rows = [
            {"channel_id": channel_id, "guild_id": guild_id, "last_seen": message_id}
            for channel_id, (guild_id, message_id) in sorted(marks.items())
        ]

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(seeing, rows)

        if rows:
            await self._database.write(work)

    async def channel_marks(self) -> dict[int, tuple[int | None, int]]:
        """For every channel its guild and the newest message read in it."""

        async def work(connection: AsyncConnection) -> dict[int, tuple[int | None, int]]:
            found = await connection.execute(select(channel_marks))
            return {row.channel_id: (row.guild_id, row.last_seen) for row in found}

        return await self._database.read(work)

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take the lease, or renew it, for `seconds` from now; False while another one holds it."""
        now = self._common_clock()
        taken = {"holder": holder, "expires_at": now + timedelta(seconds=seconds)}
        taking = (
            self._insert(leases)
            .values(name=name, **taken)
            .on_conflict_do_update(
                index_elements=["name"],
                set_=taken,
                where=(leases.c.holder == holder) | (leases.c.expires_at <= now),
            )
        )

        async def work(connection: AsyncConnection) -> bool:
            return bool((await connection.execute(taking)).rowcount)

        return await self._database.write(work)

    async def lease_holder(self, name: str) -> str | None:
        """Who holds the lease; None if nobody does, or their time is over."""
        wanted = select(leases.c.holder).where(
            leases.c.name == name, leases.c.expires_at > self._common_clock()
        )

        async def work(connection: AsyncConnection) -> str | None:
            return (await connection.execute(wanted)).scalar_one_or_none()

        return await self._database.read(work)

    def _common_clock(self) -> Any:
        """Now, for all who want the same lease: they may be on hosts whose clocks differ, so that
        PostgreSQL tells the time. A SQLite file lies on their own host."""
        return self._clock() if self._database.is_sqlite else func.clock_timestamp()

    async def release_lease(self, name: str, holder: str) -> None:
        """Give the lease back; nothing happens if another one has it."""
        theirs = (leases.c.name == name) & (leases.c.holder == holder)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(leases).where(theirs))

        await self._database.write(work)


def _delivery(row: Row[Any], written: Sequence[int]) -> Delivery:
    return Delivery(
        id=row.id,
        event_id=row.event_id,
        kind=row.kind,
        guild_id=row.guild_id,
        channel_id=row.channel_id,
        question_id=row.question_id,
        answer_id=row.answer_id,
        state=row.state,
        parts=tuple(written),
        extra=row.extra,
    )
