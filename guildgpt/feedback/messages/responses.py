"""Responses that programs asked to have stored, so that the next one goes on from them.

Each is bound to its owner, the key that asked: nobody else finds it. They go after 30 days
(`retention`), or when they are deleted; what went on from a deleted one has lost its beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Select, Text, bindparam, cast, delete, func, literal, select

from guildgpt.errors import RecordGone, StoreError
from guildgpt.feedback.erasing.retention import STORED
from guildgpt.feedback.records import StoredResponse
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, storable
from guildgpt.feedback.storage.schema import responses
from guildgpt.feedback.storage.trouble import GONE

MOST_RESPONSES = 1000  # of a conversation
MOST_CHARACTERS = 8 * 2**20
_RESPONSE = tuple(responses.c[name] for name in StoredResponse.__dataclass_fields__)


class TooLong(StoreError):
    """A conversation of more responses, or longer ones, than are gone on from."""


@dataclass(frozen=True, slots=True)
class Responses:
    """What programs had stored."""

    _database: Database
    _clock: Clock

    async def add(self, id: str, owner: str, previous_id: str | None, body: dict[str, Any]) -> None:
        """Store a response that went on from another, or from none."""
        row = {"id": id, "owner": owner, "previous_id": previous_id, "body": storable(body)}
        adding = self._database.insert(responses).on_conflict_do_nothing()
        await self._database.execute(adding, row | {"created_at": self._clock.now()})

    async def of(self, id: str, owner: str) -> StoredResponse | None:
        """The response with this id, if it is this owner's."""
        found = await self._database.row(
            select(*_RESPONSE).where(responses.c.id == storable(id), self._is_there(owner))
        )
        return StoredResponse(*found) if found else None

    async def chain(self, id: str, owner: str) -> list[StoredResponse]:
        """The conversation up to this response, its first one first; found in one go.

        Raises RecordGone where one of them is not this owner's, or not there any more, and TooLong.
        """
        told = {"last": storable(id), "owner": owner, "since": self._clock.now() - STORED}
        found = await self._database.rows(_chain(), told)
        if found and (len(found) > MOST_RESPONSES or found[0].characters > MOST_CHARACTERS):
            raise TooLong("this conversation is too long to go on from")
        if not found or found[0].previous_id is not None:
            raise RecordGone(GONE.what, where=self._database.where, remedy=GONE.remedy)
        return [StoredResponse(*row[:-2]) for row in found]

    async def delete(self, id: str, owner: str) -> bool:
        """Delete a response; False if this owner has none by that id."""
        this = (responses.c.id == storable(id)) & self._is_there(owner)
        return bool(await self._database.execute(delete(responses).where(this)))

    def _is_there(self, owner: str) -> Any:
        since = self._clock.now() - STORED
        return (responses.c.owner == owner) & (responses.c.created_at > since)


@cache
def _chain() -> Select[Any]:
    """From the first response to the one that is `last`; one more than is gone on from, at most."""
    own = (responses.c.owner == bindparam("owner")) & (responses.c.created_at > bindparam("since"))
    size = func.length(cast(responses.c.body, Text))
    here = (responses.c.id, responses.c.previous_id)
    first = select(*here, literal(0).label("above"), size.label("characters"))
    path = first.where(responses.c.id == bindparam("last"), own).cte("path", recursive=True)
    path = path.union_all(
        select(*here, path.c.above + 1, path.c.characters + size)
        .join(path, responses.c.id == path.c.previous_id)
        .where(own, path.c.above < MOST_RESPONSES, path.c.characters <= MOST_CHARACTERS)
    )
    wanted = select(*_RESPONSE, path.c.above, path.c.characters)
    joined = wanted.join(path, responses.c.id == path.c.id)
    return joined.order_by(path.c.above.desc())
