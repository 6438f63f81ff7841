"""The prompt pool: texts that anybody may read, under a licence, that rounds ask the models."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from random import Random

from sqlalchemy import Connection, delete, func, select, update

from guildgpt.errors import RecordGone
from guildgpt.feedback.records import PoolPrompt, PromptState, Purpose
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, new_id, storable
from guildgpt.feedback.storage.schema import comparisons, prompts, proposals, rounds
from guildgpt.feedback.storage.trouble import GONE

_MENTION = re.compile(r"<@!?\d+>")


@dataclass(frozen=True, slots=True)
class NewPrompt:
    """A prompt as it comes into the pool."""

    text: str
    source: str
    licence: str
    credit: str = ""
    lang: str = ""


def sha256_of(text: str) -> str:
    """By what two prompts are the same: their words, in any case and spacing."""
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).hexdigest()


def purpose_of(sha256: str) -> Purpose:
    """Every other prompt decides; the rest are for training. It is the text's own for ever."""
    return "decide" if int(sha256[:8], 16) % 2 else "train"


@dataclass(frozen=True, slots=True)
class Prompts:
    """The pool. Members' prompts are asked once the operator has accepted them."""

    _database: Database
    _clock: Clock

    async def add(self, new: Iterable[NewPrompt]) -> Counter[str]:
        """Take prompts in, by what they may be used for; `already_there` are passed over."""
        rows = [self._prompt(one, "accepted") for one in new]
        fresh = {row.sha256: row for row in reversed(rows)}

        def work(connection: Connection) -> Counter[str]:
            added: Counter[str] = Counter()
            for row in reversed(fresh.values()):
                adding = self._database.insert(prompts).on_conflict_do_nothing()
                new = connection.execute(adding, asdict(row)).rowcount
                added[row.purpose if new else "already_there"] += 1
            added["already_there"] += len(rows) - len(fresh)
            return +added

        return await self._database.write(work)

    async def submit(self, member_id: str, new: NewPrompt) -> PoolPrompt | None:
        """A member's own prompt, for the operator to accept; None if the pool has it already."""
        made = self._prompt(new, "offered", member_id)
        adding = self._database.insert(prompts).on_conflict_do_nothing()
        return made if await self._database.execute(adding, asdict(made)) else None

    async def judge(self, id: str, state: PromptState) -> PoolPrompt:
        """Accept or refuse a prompt that a member offered, and what was proposed to be asked of
        it. Raises RecordGone if it is gone."""
        judging = update(prompts).where(prompts.c.id == id)
        judging = judging.values(state=state, decided_at=self._clock.now())

        def work(connection: Connection) -> None:
            connection.execute(judging)
            if state == "refused":
                connection.execute(delete(proposals).where(proposals.c.prompt_id == id))

        await self._database.write(work)
        found = await self.by_id(id)
        if found is None:
            raise RecordGone(GONE.what, where=self._database.where, remedy=GONE.remedy)
        return found

    async def by_id(self, id: str) -> PoolPrompt | None:
        """The prompt, or None if it is gone."""
        found = await self._database.row(select(prompts).where(prompts.c.id == id))
        return PoolPrompt(**found._mapping) if found else None

    async def all(self, state: PromptState | None = None) -> list[PoolPrompt]:
        """The prompts, in a state or in any, the oldest first."""
        wanted = select(prompts).order_by(prompts.c.created_at, prompts.c.id)
        if state is not None:
            wanted = wanted.where(prompts.c.state == state)
        return [PoolPrompt(**row._mapping) for row in await self._database.rows(wanted)]

    async def next(
        self,
        purpose: Purpose,
        rng: Random,
        *,
        decision_id: str | None = None,
        without: Collection[str] = (),
    ) -> PoolPrompt | None:
        """A prompt for a round: of those that were asked least (for this decision), any; not one
        of those ids `without` which it has to do, since both answers were the same, say.

        None if the pool has none for this purpose.
        """
        asked = (
            select(rounds.c.prompt_id, func.count().label("times"))
            .join(comparisons, comparisons.c.id == rounds.c.comparison_id)
            .where(rounds.c.decision_id == decision_id, rounds.c.state != "cancelled")
            .group_by(rounds.c.prompt_id)
            .subquery()
        )
        times = func.coalesce(asked.c.times, 0)
        wanted = (
            select(prompts, times.label("times"))
            .outerjoin(asked, asked.c.prompt_id == prompts.c.id)
            .where(prompts.c.state == "accepted", prompts.c.purpose == purpose)
            .where(prompts.c.id.not_in(without))
            .order_by(times, prompts.c.id)
        )
        found = await self._database.rows(wanted)
        if not found:
            return None
        chosen = rng.choice([row for row in found if row.times == found[0].times])
        return PoolPrompt(*chosen[:-1])

    def _prompt(
        self, new: NewPrompt, state: PromptState, member_id: str | None = None
    ) -> PoolPrompt:
        text = _MENTION.sub("@someone", str(storable(new.text))).strip()
        if not text:
            raise ValueError("a prompt has words")
        sha256 = sha256_of(text)
        return PoolPrompt(
            id=new_id(),
            text=text,
            sha256=sha256,
            purpose=purpose_of(sha256),
            source=str(storable(new.source)),
            licence=str(storable(new.licence)),
            credit=str(storable(new.credit)),
            lang=new.lang,
            member_id=member_id,
            state=state,
            created_at=self._clock.later(),
        )
