"""Pairs that rounds to learn from may ask: those of which a reward model cannot say which answer
people like better. Rounds that decide never do.

They are by the version that served when they were written, and go with the next release.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from random import Random

from sqlalchemy import Connection, Select, delete, select, update

from guildgpt.feedback.records import Candidate, PoolPrompt, Proposal
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, among, new_id, storable
from guildgpt.feedback.storage.schema import facts, prompts, proposals

SHARE = 0.5  # of the rounds to learn from, that take a proposal while there is one
_SHARE = "share of rounds that ask where the reward model is unsure"


@dataclass(frozen=True, slots=True)
class NewProposal:
    """A pair, and how unsure a reward model is of it."""

    prompt_id: str
    answers: tuple[Candidate, Candidate]
    unsure: float


@dataclass(frozen=True, slots=True)
class Proposals:
    """Pairs that wait to be asked; each is once."""

    _database: Database
    _clock: Clock

    async def put(self, new: Iterable[NewProposal]) -> int:
        """Take these in the place of all that wait; how many there are now. Prompts that are gone,
        refused or for deciding have none."""
        rows = [
            {
                "id": new_id(),
                "prompt_id": one.prompt_id,
                "answers": storable([asdict(answer) for answer in one.answers]),
                "unsure": one.unsure,
                "created_at": self._clock.later(),
            }
            for one in new
        ]

        def work(connection: Connection) -> int:
            connection.execute(delete(proposals))
            asked = {row["prompt_id"] for row in rows}
            there = set(
                connection.scalars(_may_be_asked().where(among(connection, prompts.c.id, asked)))
            )
            kept = [row for row in rows if row["prompt_id"] in there]
            if kept:
                connection.execute(proposals.insert(), kept)
            return len(kept)

        return await self._database.write(work)

    async def take(self) -> tuple[PoolPrompt, tuple[Candidate, ...]] | None:
        """The pair of which it is least sure, for a round that opens now: nobody else gets it.
        None where none waits."""
        best = (
            select(proposals.c.id)
            .join(prompts, prompts.c.id == proposals.c.prompt_id)
            .where(proposals.c.taken_at.is_(None), proposals.c.prompt_id.in_(_may_be_asked()))
            .order_by(proposals.c.unsure.desc(), proposals.c.id)
            .limit(1)
        )
        now = self._clock.now()

        def work(connection: Connection) -> tuple[PoolPrompt, tuple[Candidate, ...]] | None:
            while (id := connection.scalar(best)) is not None:
                mine = proposals.c.id == id
                taking = update(proposals).where(mine, proposals.c.taken_at.is_(None))
                if not connection.execute(taking.values(taken_at=now)).rowcount:
                    continue  # another one was faster
                row = connection.execute(select(proposals).where(mine)).one()
                prompt = connection.execute(
                    select(prompts).where(prompts.c.id == row.prompt_id)
                ).one()
                answers = tuple(Candidate(**one) for one in row.answers)
                return PoolPrompt(**prompt._mapping), answers
            return None

        return await self._database.write(work)

    async def waiting(self) -> list[Proposal]:
        """Those that were not taken, the one it is least sure of first."""
        wanted = select(proposals).where(proposals.c.taken_at.is_(None))
        rows = await self._database.rows(wanted.order_by(proposals.c.unsure.desc(), proposals.c.id))
        return [
            Proposal(**row._asdict() | {"answers": tuple(Candidate(**one) for one in row.answers)})
            for row in rows
        ]

    async def share(self) -> float:
        """Of the rounds to learn from, the share that takes one while one waits."""
        said = await self._database.value(select(facts.c.value).where(facts.c.name == _SHARE))
        return SHARE if said is None else float(said)

    async def set_share(self, share: float) -> None:
        """From now on this share of the rounds to learn from takes one."""
        if not 0 <= share <= 1:
            raise ValueError(f"no share: {share}")
        noting = self._database.insert(facts).values(name=_SHARE, value=str(share))
        changed = {"value": str(share)}
        await self._database.execute(
            noting.on_conflict_do_update(index_elements=["name"], set_=changed)
        )

    async def drawn(self, chance: Random) -> tuple[PoolPrompt, tuple[Candidate, ...]] | None:
        """For that share of the calls what `take` gives, for the others None: those rounds stay
        drawn at random, however many proposals wait."""
        return await self.take() if chance.random() < await self.share() else None


def _may_be_asked() -> Select[tuple[str]]:
    return select(prompts.c.id).where(prompts.c.state == "accepted", prompts.c.purpose == "train")


def forget_proposals(connection: Connection) -> None:
    """All of them go: somebody else answers from now on."""
    connection.execute(delete(proposals))
