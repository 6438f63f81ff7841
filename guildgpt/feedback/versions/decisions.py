"""Decisions: what becomes of a candidate, from its training to its promotion."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, get_args

from sqlalchemy import Connection, delete, func, select, update

from guildgpt.errors import RecordGone, StoreError
from guildgpt.feedback.records import OPEN_STATES, Decision, DecisionState
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, new_id, storable
from guildgpt.feedback.storage.schema import decisions, lineage
from guildgpt.feedback.storage.trouble import GONE
from guildgpt.feedback.versions.circle_log import decided, write_down


@dataclass(frozen=True, slots=True)
class Decisions:
    """One candidate at a time is trained, tried and decided on."""

    _database: Database
    _clock: Clock

    async def begin(
        self,
        *,
        state: DecisionState = "training",
        candidate_id: str | None = None,
        baseline_id: str | None = None,
        folder: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Decision:
        """Open a decision. Raises StoreError while another one is open."""

        def work(connection: Connection) -> tuple[Decision, bool]:
            if found := current_in(connection):
                return found, False
            now = self._clock.later()
            newest = connection.scalar(select(func.max(decisions.c.created_at)))
            if newest is not None:  # the newest is last, even if the clock was set back
                now = max(now, newest + timedelta(microseconds=1))
            made = Decision(
                id=new_id(),
                state=state,
                candidate_id=candidate_id,
                baseline_id=baseline_id,
                folder=folder,
                settings=settings or {},
                result=None,
                why=None,
                created_at=now,
                updated_at=now,
            )
            connection.execute(decisions.insert(), asdict(made))
            return made, True

        decision, is_new = await self._database.write(work, alone=True)
        if not is_new:
            name = decision.candidate_id or "one that is being trained"
            raise StoreError(
                f"there is a candidate already: {name} ({decision.state})",
                where=self._database.where,
                remedy="One at a time: `guildgpt learn status` says what it waits for; "
                "`guildgpt learn --drop` gives it up.",
            )
        return decision

    async def current(self) -> Decision | None:
        """The one that is open; None if there is none."""
        return await self._database.read(current_in)

    async def by_id(self, id: str) -> Decision | None:
        """The decision, if it is there."""
        found = await self._database.row(select(decisions).where(decisions.c.id == id))
        return Decision(**found._mapping) if found else None

    async def all(self) -> list[Decision]:
        """Every decision, the newest first."""
        newest = select(decisions).order_by(decisions.c.created_at.desc())
        return [Decision(**row._mapping) for row in await self._database.rows(newest)]

    async def clean(self, id: str) -> None:
        """What it learned from was erased, and what it made of that is gone: it begins anew."""

        def work(connection: Connection) -> None:
            connection.execute(delete(lineage).where(lineage.c.version_id == id))
            connection.execute(update(decisions).where(decisions.c.id == id).values(erased_at=None))

        await self._database.write(work)

    async def change(
        self,
        id: str,
        *,
        expected: Collection[DecisionState] = get_args(DecisionState),
        **values: Any,
    ) -> Decision:
        """Note what is new: `state`, `candidate_id`, `settings`, `result`, `why`.

        Nothing changes if it is not in an `expected` state any more: of two that decide at once the
        first has decided. The circle's log is told what it came to. Returns the decision as it is
        now; raises RecordGone if it is gone.
        """
        changing = update(decisions).where(
            decisions.c.id == id, decisions.c.state.in_(tuple(expected))
        )
        changed = {key: storable(value) for key, value in values.items()}
        changed["updated_at"] = self._clock.now()
        state: DecisionState | None = values.get("state")

        def work(connection: Connection) -> None:
            is_new = decisions.c.state != state
            news = connection.scalar(select(decisions.c.id).where(decisions.c.id == id, is_new))
            if not connection.execute(changing.values(**changed)).rowcount or not news:
                return
            if state == "dropped":
                why = {"why": values["why"]} if values.get("why") else {}
                write_down(connection, self._clock, "dropped", why, id)
            elif state in ("preferred", "not_preferred", "undecided"):
                detail = decided(state, values.get("result"))
                write_down(connection, self._clock, "decided", detail, id)

        await self._database.write(work, alone=state is not None)
        found = await self.by_id(id)
        if found is None:
            raise RecordGone(GONE.what, where=self._database.where, remedy=GONE.remedy)
        return found


def secret_of(current: Decision | None) -> frozenset[str]:
    """The versions of whose answers nobody may be told while one of them is being tried: it, and
    who serves."""
    if current is None or current.state not in ("canary", "preferred"):
        return frozenset()
    return frozenset(id for id in (current.candidate_id, current.baseline_id) if id)


def current_in(connection: Connection) -> Decision | None:
    """The one that is open."""
    wanted = select(decisions).where(decisions.c.state.in_(OPEN_STATES))
    found = connection.execute(wanted.order_by(decisions.c.created_at)).first()
    return Decision(**found._mapping) if found else None
