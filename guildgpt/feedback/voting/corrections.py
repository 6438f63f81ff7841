"""Corrections: answers as people would have worded them, which a model may imitate.

What comes from a program of the operator's own (`guildgpt vote`) counts at once. What is offered
elsewhere says under which licence, and waits until the operator accepts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, func, select, update

from guildgpt.data.provenance import OWN, Provenance, refusal, spdx
from guildgpt.errors import LimitReached, OfferRefused
from guildgpt.feedback.messages.conversations import check_there, path_in
from guildgpt.feedback.records import Correction, CorrectionState, WaitingCorrection
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, among, new_id, seconds_until_tomorrow, storable
from guildgpt.feedback.storage.schema import corrections, members, messages
from guildgpt.feedback.storage.trouble import GONE, Known
from guildgpt.feedback.voting.suspicions import suspicions

A_DAY = 20  # that one person may offer: who words more has somebody's words at hand
LONGEST = 20_000  # characters


@dataclass(frozen=True, slots=True)
class Corrections:
    """Answers as members would have worded them: of one member the newest counts."""

    _database: Database
    _clock: Clock

    async def add(self, message_id: str, member_id: str | None, text: str) -> Correction:
        """Add a correction of an answer that needs no review. RecordGone if the answer is gone."""
        if not text.strip():
            raise ValueError("a correction has words")
        return await self._add(message_id, member_id, text.strip())

    async def take_back(self, message_id: str, member_id: str) -> None:
        """What a member has worded better counts no more: one without words is their newest.
        RecordGone if the answer is gone."""
        await self._add(message_id, member_id, "")

    async def offer(
        self, message_id: str, member_id: str, text: str, licence: str, *, a_day: int = A_DAY
    ) -> Correction:
        """Add a correction that the operator shall review, given under a licence.

        It takes the place of the member's earlier one once it is accepted. Raises RecordGone if the
        answer is gone, OfferRefused for a text or a licence that cannot be taken, and from a member
        who wants nothing to be learned; LimitReached after so many of a member `a_day` (UTC).
        """
        text, licence = str(storable(text)).strip(), spdx(licence)
        _check(text, licence)
        now = self._clock.later()
        made = Correction(new_id(), message_id, member_id, text, now, licence, "offered")
        # Their row is held until the end, so that nobody gets in two more than they may.
        who = select(members.c.consent).where(members.c.id == member_id).with_for_update()
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        given = select(func.count()).where(
            corrections.c.member_id == member_id,
            corrections.c.created_at >= today,
            corrections.c.licence != "",
        )
        answer = select(messages.c.text).where(
            messages.c.id == message_id, messages.c.role == "assistant", ~messages.c.deleted
        )

        def work(connection: Connection) -> Correction:
            consent, said = connection.scalar(who), connection.scalar(answer)
            if consent is None or said is None:
                raise Known(GONE)
            if consent == "none":
                raise OfferRefused(
                    "you chose that nothing of yours is learned from",
                    remedy="Change that first, if you want this to be.",
                )
            if text == said.strip():
                raise OfferRefused(
                    "this is the answer as it stands", remedy="Word it as you would have."
                )
            if (connection.scalar(given) or 0) >= a_day:
                raise LimitReached(
                    f"you have worded {a_day} answers today, which is as many as are taken",
                    seconds_until_tomorrow(now),
                    remedy="Come again tomorrow.",
                )
            connection.execute(corrections.insert(), asdict(made))
            return made

        return await self._database.write(work)

    async def review(self, id: str, state: CorrectionState) -> Correction:
        """Accept or refuse a correction. Raises RecordGone if it is gone."""
        this = corrections.c.id == id
        judging = update(corrections).where(this, corrections.c.text != "")
        judged = judging.values(state=state, decided_at=self._clock.now())

        def work(connection: Connection) -> Correction:
            connection.execute(judged)
            found = connection.execute(select(corrections).where(this)).one_or_none()
            if found is None:
                raise Known(GONE)
            return Correction(**found._mapping)

        return await self._database.write(work)

    async def by_id(self, id: str) -> Correction | None:
        """The correction, or None if it is gone."""
        found = await self._database.row(select(corrections).where(corrections.c.id == id))
        return Correction(**found._mapping) if found else None

    async def all(self, state: CorrectionState | None = None) -> list[Correction]:
        """The corrections with words, in a state or in any, the oldest first."""
        wanted = select(corrections).where(corrections.c.text != "")
        if state is not None:
            wanted = wanted.where(corrections.c.state == state)
        ordered = wanted.order_by(corrections.c.created_at, corrections.c.id)
        return [Correction(**row._mapping) for row in await self._database.rows(ordered)]

    async def waiting(self) -> list[WaitingCorrection]:
        """What waits for a review, the oldest first, each with what was said up to the answer. One
        that its member has taken back or worded anew does not wait any more."""

        def work(connection: Connection) -> list[WaitingCorrection]:
            offered = corrections.c.state == "offered"
            on = set(connection.scalars(select(corrections.c.message_id).where(offered)))
            rows = connection.execute(
                select(corrections)
                .where(among(connection, corrections.c.message_id, on))
                .order_by(corrections.c.created_at, corrections.c.id)
            )
            newest = {(row.message_id, row.member_id): Correction(**row._mapping) for row in rows}
            found = [one for one in newest.values() if one.state == "offered"]
            found.sort(key=lambda one: (one.created_at, one.id))
            told = [(one, tuple(path_in(connection, one.message_id))) for one in found]
            flags = suspicions(connection, found)
            return [
                WaitingCorrection(one, path, flags[one.id])
                for one, path in told
                if not path[-1].deleted
            ]

        return await self._database.read(work)

    async def _add(self, message_id: str, member_id: str | None, text: str) -> Correction:
        now = self._clock.later()
        made = Correction(new_id(), message_id, member_id, storable(text), now)

        def work(connection: Connection) -> Correction:
            check_there(connection, [message_id])
            connection.execute(corrections.insert(), asdict(made))
            return made

        return await self._database.write(work)


def in_force(found: Sequence[Correction]) -> list[Correction]:
    """Of each member and answer the newest that was accepted, unless it was taken back since; the
    oldest first."""
    newest: dict[tuple[str, str], Correction] = {}
    for one in sorted(found, key=lambda one: (one.created_at, one.id)):
        if one.state == "accepted":
            newest[one.message_id, one.member_id or one.id] = one
    return sorted(
        (one for one in newest.values() if one.text), key=lambda one: (one.created_at, one.id)
    )


def _check(text: str, licence: str) -> None:
    if not text:
        raise OfferRefused("a correction has words", remedy="Word it as you would have.")
    if len(text) > LONGEST:
        raise OfferRefused(
            f"a correction has {LONGEST:,} characters at most", remedy="Say it more briefly."
        )
    terms = Provenance("", licence=licence, written_by="people")
    if licence == OWN or (why := refusal(terms)):
        raise OfferRefused(
            "this licence does not let a model learn from it" if licence == OWN else str(why),
            remedy="Choose CC0-1.0, say, if you wrote it yourself.",
        )
