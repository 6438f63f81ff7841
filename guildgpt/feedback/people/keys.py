"""Keys of those who may ask the API, and what each has asked.

Of a key the store has the SHA-256 alone. Its counters hold for all processes that share the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from guildgpt.errors import GuildError, LimitReached
from guildgpt.feedback.records import ApiKey
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import (
    Clock,
    digest_of,
    new_id,
    new_secret,
    seconds_until_tomorrow,
    storable,
)
from guildgpt.feedback.storage.schema import api_keys, api_usage

PREFIX = "gg-"  # so that tools which look for secrets in files know one
LONGEST_NAME = 60  # characters
_LISTED = "`guildgpt serve keys list` shows them."
_KEY = tuple(api_keys.c[name] for name in ApiKey.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Keys:
    """Who may ask the API, and how much."""

    _database: Database
    _clock: Clock

    async def add(
        self,
        name: str,
        requests_per_minute: int | None = None,
        tokens_per_day: int | None = None,
    ) -> str:
        """A new key by that name: its secret, which nobody can read again. Without limits it may
        ask what it likes. Raises GuildError for a name that a key has already, or that is none."""
        chosen = " ".join(str(storable(name)).split())
        if not chosen or len(chosen) > LONGEST_NAME or not chosen.isprintable():
            raise GuildError(
                f"{name!r} is no name for a key",
                remedy=f"Give it one that says whose it is, of {LONGEST_NAME} characters at most.",
            )
        if any(limit is not None and limit < 1 for limit in (requests_per_minute, tokens_per_day)):
            raise ValueError("a limit is 1 at least")
        secret = PREFIX + new_secret()
        row: dict[str, object] = {"id": new_id(), "name": chosen, "sha256": digest_of(secret)}
        row |= {"created_at": self._clock.now(), "seen_at": None, "ended_at": None}
        row |= {"requests_per_minute": requests_per_minute, "tokens_per_day": tokens_per_day}
        anew = {key: value for key, value in row.items() if key not in ("id", "name")}
        adding = self._database.insert(api_keys).on_conflict_do_update(
            index_elements=["name"], set_=anew, where=api_keys.c.ended_at.is_not(None)
        )
        if not await self._database.execute(adding, row):
            raise GuildError(
                f"there is a key called {chosen} already",
                remedy="Choose another name, or take that one away first: "
                f"guildgpt serve keys remove {chosen!r}",
            )
        return secret

    async def of(self, secret: str) -> ApiKey | None:
        """The key with this secret; None where there is none, or it was ended."""
        this = (api_keys.c.sha256 == digest_of(secret)) & api_keys.c.ended_at.is_(None)
        found = await self._database.row(select(*_KEY).where(this))
        return ApiKey(*found) if found else None

    async def all(self) -> list[ApiKey]:
        """The keys that may ask, the oldest first."""
        wanted = select(*_KEY).where(api_keys.c.ended_at.is_(None))
        ordered = wanted.order_by(api_keys.c.created_at, api_keys.c.name)
        return [ApiKey(*row) for row in await self._database.rows(ordered)]

    async def end(self, name: str) -> None:
        """Let a key ask no more. Raises GuildError where none has this name."""
        this = (api_keys.c.name == name) & api_keys.c.ended_at.is_(None)
        ending = update(api_keys).where(this).values(ended_at=self._clock.now())
        if not await self._database.execute(ending):
            raise GuildError(f"no key is called {name}", remedy=_LISTED)

    async def take(self, key: ApiKey) -> None:
        """Count a request of a key with limits. Raises LimitReached where it may not ask now: then
        it does not count."""
        if key.requests_per_minute is None and key.tokens_per_day is None:
            return
        now = self._clock.now()
        minute, day = span_of_minute(now), span_of_day(now)
        counting = self._adding({"key_id": key.id, "span": minute, "requests": 1, "tokens": 0})
        wanted = select(api_usage.c.tokens).where(
            api_usage.c.key_id == key.id, api_usage.c.span == day
        )

        def work(connection: Connection) -> None:
            most = key.tokens_per_day
            if most is not None and (connection.scalar(wanted) or 0) >= most:
                what = f"this key may use {most:,} tokens a day"
                raise LimitReached(what, seconds_until_tomorrow(now))
            most = key.requests_per_minute
            if most is None:
                return
            asked = connection.scalar(counting.returning(api_usage.c.requests))
            if asked > most:
                seconds = 60 - now.second - now.microsecond / 1e6
                raise LimitReached(f"this key may ask {most:,} times a minute", seconds)

        await self._database.write(work)

    async def used(self, tokens: Mapping[str, int], requests: Mapping[str, int]) -> None:
        """Count what keys, by their ids, have used today, and that they were seen."""
        now = self._clock.now()
        ids = sorted({*tokens, *requests})  # in one order: two processes do not wait in a circle
        rows = [
            {"key_id": id, "span": span_of_day(now)}
            | {"requests": requests.get(id, 0), "tokens": tokens.get(id, 0)}
            for id in ids
        ]
        seen = update(api_keys).where(api_keys.c.id.in_(ids)).values(seen_at=now)

        def work(connection: Connection) -> None:
            for row in rows:
                connection.execute(self._adding(row))
            connection.execute(seen)

        if rows:
            await self._database.write(work)

    async def used_today(self) -> dict[str, Counter[str]]:
        """The `requests` and `tokens` of each key, by its id."""
        wanted = select(api_usage).where(api_usage.c.span == span_of_day(self._clock.now()))
        return {
            row.key_id: Counter(requests=row.requests, tokens=row.tokens)
            for row in await self._database.rows(wanted)
        }

    def _adding(self, row: Mapping[str, object]) -> Any:
        """The statement that adds to a count, or begins it."""
        adding = self._database.insert(api_usage).values(**row)
        return adding.on_conflict_do_update(
            index_elements=["key_id", "span"],
            set_={
                "requests": api_usage.c.requests + adding.excluded.requests,
                "tokens": api_usage.c.tokens + adding.excluded.tokens,
            },
        )


def span_of_minute(at: datetime) -> str:
    """The name of a minute, in UTC."""
    return at.strftime("%Y-%m-%dT%H:%M")


def span_of_day(at: datetime) -> str:
    """The name of a day; names are in the order of time."""
    return at.strftime("%Y-%m-%d")
