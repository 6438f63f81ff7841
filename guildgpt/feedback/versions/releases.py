"""Releases: who answers how much. Rows are only ever added; those of the newest number count."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from sqlalchemy import Connection, func, select, update

from guildgpt.errors import DecidedMeanwhile
from guildgpt.feedback.records import DecisionState, LogKind, Release, ReleaseKind
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, storable
from guildgpt.feedback.storage.schema import decisions, releases
from guildgpt.feedback.versions.circle_log import decided, write_down
from guildgpt.feedback.voting.proposals import forget_proposals


@dataclass(frozen=True, slots=True)
class Settled:
    """What a release makes of a decision that is still in one of the states `expected`."""

    decision_id: str
    expected: Collection[DecisionState]
    state: DecisionState
    result: dict[str, Any] | None = None  # what the rounds said


@dataclass(frozen=True, slots=True)
class Releases:
    """The versions in service, now and before."""

    _database: Database
    _clock: Clock

    async def add(
        self,
        shares: Mapping[str, float],
        kind: ReleaseKind,
        why: str = "",
        *,
        settles: Settled | None = None,
    ) -> list[Release]:
        """From now on these versions answer, each its share of the conversations; in all 1.

        What that `settles` is changed at the same moment, and the circle's log says so. Raises
        DecidedMeanwhile, and releases nothing, if it was decided otherwise meanwhile.
        """
        if kind not in get_args(ReleaseKind):
            raise ValueError(f"no kind of release: {kind!r}")
        if not all(0 < share <= 1 for share in shares.values()) or abs(_sum(shares) - 1) > 1e-9:
            raise ValueError(f"the shares are not those of a whole: {dict(shares)}")
        now = self._clock.later()

        def work(connection: Connection) -> list[Release]:
            if settles:
                settling = update(decisions).where(
                    decisions.c.id == settles.decision_id,
                    decisions.c.state.in_(tuple(settles.expected)),
                )
                new: dict[str, Any] = {"state": settles.state, "why": storable(why)}
                if settles.result is not None:
                    new["result"] = storable(settles.result)
                if not connection.execute(settling.values(**new, updated_at=now)).rowcount:
                    raise DecidedMeanwhile(
                        "the decision on this candidate has changed meanwhile",
                        remedy="Look at it again, and decide anew.",
                    )
            newest = connection.scalar(select(func.max(releases.c.number))) or 0
            rows = [Release(newest + 1, id, share, kind, why, now) for id, share in shares.items()]
            before = connection.scalar(
                select(releases.c.version_id)
                .where(releases.c.number == newest)
                .order_by(releases.c.share.desc())
            )
            connection.execute(releases.insert(), [asdict(row) for row in rows])
            about = settles.decision_id if settles else None
            for what, detail in _told(rows, before, settles):
                write_down(connection, self._clock, what, detail, about)
            forget_proposals(connection)  # they were by who answered before
            return rows

        return await self._database.write(work, alone=True)

    async def current(self) -> list[Release]:
        """Who answers now, the largest share first; nobody before the first release."""
        newest = select(func.max(releases.c.number)).scalar_subquery()
        rows = await self._database.rows(select(releases).where(releases.c.number == newest))
        found = [Release(**row._mapping) for row in rows]
        return sorted(found, key=lambda release: (-release.share, release.version_id))

    async def history(self) -> list[list[Release]]:
        """All releases, the newest first, each with its largest share first."""
        ordered = select(releases).order_by(
            releases.c.number.desc(), releases.c.share.desc(), releases.c.version_id
        )
        found: dict[int, list[Release]] = {}
        for row in await self._database.rows(ordered):
            found.setdefault(row.number, []).append(Release(**row._mapping))
        return list(found.values())


def _told(
    rows: Sequence[Release], before: str | None, settles: Settled | None
) -> list[tuple[LogKind, dict[str, Any]]]:
    """What the circle's log says of a release; of one that the operator puts into service by hand,
    nothing. `before` is who answered most until now."""
    first, why = rows[0], {"why": rows[0].why} if rows[0].why else {}
    match first.kind:
        case "canary":
            candidate = rows[-1]
            about = {"candidate": candidate.version_id, "share": candidate.share}
            return [("canary", about | {"baseline": first.version_id} | why)]
        case "promote":
            return [("promoted", {"version": first.version_id, "instead_of": before} | why)]
        case "rollback":
            return [("rolled_back", {"to": first.version_id, "instead_of": before} | why)]
        case "drop":
            dropped: list[tuple[LogKind, dict[str, Any]]] = [("dropped", why)]
            if settles and settles.state != "dropped":
                return [("decided", decided(settles.state, settles.result)), *dropped]
            return dropped
    return []


def _sum(shares: Mapping[str, float]) -> float:
    return sum(shares.values())
