"""What comes from Discord, in words that are not Discord's; what of it outlasts a crash, and a
memory of the latest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import uuid4

from guildgpt.bot.text.files import Kind
from guildgpt.feedback.records import Delivery, Member, Passed
from guildgpt.feedback.store import Store

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as the member's hash knows them, and the name they go by."""

    user_id: int
    name: str


@dataclass(frozen=True, slots=True)
class Quoted:
    """A message that is asked about: somebody's words, which stay theirs. Bots and webhooks have no
    `user_id` here: they are no members.

    `not_theirs` says how far it is what a member only forwards (wholly) or links to (partly); not
    `is_kept` is what the bot wrote: that is in the store already, or was erased there.
    """

    id: int
    name: str
    text: str
    user_id: int | None
    not_theirs: Passed | None = None
    is_kept: bool = True
    edited_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A question from Discord: a message, a command, a click that asks again.

    `id` is Discord's own, of the message or the interaction: the same event never has two answers.
    `text` names people as Discord does (`<@id>`), `names` says what they are called; `unseen` is
    the kind of what was attached in place of any text. `answers_to` is the Discord id of the
    message that is replied to, `starter_id` that of the one that somebody's thread began with;
    `quoted` are these and what is forwarded, as far as they are at hand. `continues` says that the
    channel is one conversation (direct messages, a thread of the bot's), `home_id` names the
    channel a thread belongs to. `token` writes into an interaction for fifteen minutes. `edited_at`
    is Discord's time of the last edit that is in it. `again` is the answer that another one is
    wanted for.
    """

    id: int
    kind: str
    asker: Asker
    channel_id: int
    guild_id: int | None = None
    text: str = ""
    names: Mapping[int, str] = field(default_factory=dict)
    unseen: Kind | None = None
    answers_to: int | None = None
    starter_id: int | None = None
    quoted: Sequence[Quoted] = ()
    continues: bool = False
    home_id: int | None = None
    token: str | None = None
    edited_at: datetime | None = None
    again: str | None = None

    def is_older_than(self, other: Event) -> bool:
        """Whether `other` is the same message after a later edit."""
        mine, others = self.edited_at, other.edited_at
        return others is not None and (mine is None or mine < others)


@dataclass(frozen=True, slots=True)
class Work:
    """An event that was claimed, and the id that its answer is going to have.

    One that is `taken_up` was claimed before a crash; it is not `whole` where something of it might
    not be written down.
    """

    delivery: Delivery
    event: Event
    answer_id: str = field(default_factory=lambda: str(uuid4()))
    taken_up: bool = False
    whole: bool = True

    @classmethod
    def of_old(cls, delivery: Delivery) -> Work:
        """One that was claimed before a crash, as far as it stands in the store."""
        extra = delivery.extra
        event = Event(
            id=delivery.event_id,
            kind=delivery.kind,
            asker=Asker(0, extra.get("name", "")),
            channel_id=delivery.channel_id or 0,
            guild_id=delivery.guild_id,
            text=extra.get("text", ""),
            unseen=extra.get("unseen"),
            answers_to=extra.get("answers_to"),
            starter_id=extra.get("starter_id"),
            continues=extra.get("continues", False),
            home_id=extra.get("home_id"),
            token=extra.get("token"),
            again=extra.get("again"),
        )
        answer_id = delivery.answer_id or str(uuid4())
        return cls(delivery, event, answer_id, taken_up=True, whole=extra.get("whole", True))


def packed(event: Event, member: Member) -> dict[str, Any]:
    """What of an event is written down with its claim: no words of who wants nothing kept, and
    none of a quoted person's."""
    kept = member.consent != "none"
    return {
        "member_id": member.id,
        "name": event.asker.name if kept else "",
        "text": event.text if kept else "",
        "whole": (kept or not event.text) and not event.quoted,
        "unseen": event.unseen,
        "starter_id": event.starter_id,
        "answers_to": event.answers_to,
        "continues": event.continues,
        "home_id": event.home_id,
        "token": event.token,
        "again": event.again,
    }


async def claimed(store: Store, event: Event, member: Member) -> Delivery | None:
    """The right to answer an event; None if it was claimed before."""
    return await store.deliveries.claim(
        event.id,
        event.kind,
        guild_id=event.guild_id,
        channel_id=event.channel_id,
        member_id=member.id,
        extra=packed(event, member),
    )


def without_words(extra: Mapping[str, Any]) -> dict[str, Any]:
    """The same once the question has a row of its own."""
    return {**extra, "name": "", "text": "", "whole": True}


class Recent(OrderedDict[K, V]):
    """A memory that does not grow: the last `limit` entries that were set."""

    def __init__(self, limit: int = 10_000):
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > self._limit:
            self.popitem(last=False)
