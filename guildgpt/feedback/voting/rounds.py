"""Rounds: a prompt of the pool with two blind answers, open until its time is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, case, exists, func, select, update

from guildgpt.feedback.records import (
    Ballots,
    Candidate,
    Drawn,
    Place,
    PoolPrompt,
    Purpose,
    Round,
    RoundMean,
    RoundState,
    StoredComparison,
)
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, among, new_id, storable
from guildgpt.feedback.storage.schema import (
    candidates,
    comparisons,
    conversations,
    messages,
    prompts,
    rounds,
    votes,
)
from guildgpt.feedback.storage.trouble import GONE, Known
from guildgpt.feedback.voting.ballots import newest_votes, writers
from guildgpt.feedback.voting.means import forget_mean, keep_means, means_of
from guildgpt.feedback.voting.seen import Seen
from guildgpt.feedback.voting.votes import candidate_rows, comparison_row

UNENDED: tuple[RoundState, ...] = ("posting", "open", "closing")


@dataclass(frozen=True, slots=True)
class Rounds:
    """What members are asked to vote on. While a round is open, its votes can be changed."""

    _database: Database
    _clock: Clock
    _seen: Seen

    async def open(
        self,
        prompt: PoolPrompt,
        answers: Sequence[Candidate],
        place: Place,
        *,
        decision_id: str | None = None,
        guild_id: int | None = None,
        channel_id: int | None = None,
        closes_at: datetime | None = None,
        state: RoundState = "open",
        drawn: Drawn = "random",
    ) -> Round:
        """Put two answers to the vote, in the order in which they are shown.

        On Discord a round is `posting` until its message is there (see `posted`). `drawn` says how
        prompt and answers were chosen; a round that decides draws at random, or ValueError. Raises
        RecordGone if the prompt is gone.
        """
        if decision_id is not None and drawn != "random":
            raise ValueError("what is decided on is drawn at random")
        now, question_id = self._clock.later(), new_id()
        ids = [new_id() for _ in answers]
        comparison = StoredComparison(new_id(), question_id, tuple(ids), None, now)
        made = Round(
            new_id(), prompt.id, comparison.id, decision_id, place, guild_id, channel_id, None,
            state, now, closes_at, None, drawn,
        )  # fmt: skip
        conversation = {"id": new_id(), "kind": "round", "guild_id": guild_id}
        conversation |= {"channel_id": channel_id, "home_id": None, "source": place}
        question = {
            "id": question_id,
            "conversation_id": conversation["id"],
            "parent_id": None,
            "role": "user",
            "text": prompt.text,
            "member_id": prompt.member_id,
            "created_at": now,
            **_PLAIN,
        }
        written = [
            {
                "id": id,
                "conversation_id": conversation["id"],
                "parent_id": question_id,
                "role": "assistant",
                "text": storable(answer.text),
                "version_id": answer.version_id,
                "sampling": storable(answer.sampling),
                "stop": answer.stop,
                "created_at": self._clock.later(),
                **_PLAIN,
                "synthetic": True,
            }
            for id, answer in zip(ids, answers, strict=True)
        ]

        def work(connection: Connection) -> Round:
            there = select(prompts.c.id).where(prompts.c.id == prompt.id)
            if connection.scalar(there) is None:
                raise Known(GONE)
            place_row = {"lang": prompt.lang, "created_at": now, **conversation}
            connection.execute(conversations.insert(), place_row)
            connection.execute(messages.insert(), question)
            connection.execute(messages.insert(), written)
            connection.execute(comparisons.insert(), comparison_row(comparison))
            connection.execute(candidates.insert(), candidate_rows(comparison))
            connection.execute(rounds.insert(), asdict(made))
            return made

        return await self._database.write(work)

    async def posted(self, id: str, discord_id: int) -> None:
        """The round's message is there."""
        posting = update(rounds).where(rounds.c.id == id, rounds.c.state == "posting")
        await self._database.execute(posting.values(state="open", discord_id=discord_id))

    async def end(self, id: str, state: RoundState = "closed") -> bool:
        """Close a round, or cancel it: its votes stand no more. False if it had ended before.

        Where its message has to say so it is `closing` first: no vote is taken from then on. What
        one said that decides is kept in that moment (see `means`).
        """
        before = UNENDED[:-1] if state == "closing" else UNENDED
        ending = update(rounds).where(rounds.c.id == id, rounds.c.state.in_(before))
        closed_at = func.coalesce(rounds.c.closed_at, self._clock.now())

        def work(connection: Connection) -> bool:
            if not connection.execute(ending.values(state=state, closed_at=closed_at)).rowcount:
                return False
            if state == "cancelled":
                forget_mean(connection, id)
            else:
                keep_means(connection, rounds.c.id == id, self._seen)
            return True

        return await self._database.write(work, alone=True)

    async def means(self, decision_id: str) -> list[RoundMean]:
        """What a decision's rounds said in guilds, in the order in which they closed."""
        return await self._database.read(lambda connection: means_of(connection, decision_id))

    async def by_id(self, id: str) -> Round | None:
        """The round; None if it is gone."""
        found = await self._database.row(select(rounds).where(rounds.c.id == id))
        return Round(**found._mapping) if found else None

    async def of_comparison(self, comparison_id: str) -> Round | None:
        """The round that a comparison belongs to; None if it is none of a round."""
        wanted = select(rounds).where(rounds.c.comparison_id == comparison_id)
        found = await self._database.row(wanted)
        return Round(**found._mapping) if found else None

    async def in_state(self, *states: RoundState, place: Place | None = None) -> list[Round]:
        """Rounds in any of these states, the oldest first."""
        wanted = select(rounds).where(rounds.c.state.in_(states)).order_by(rounds.c.created_at)
        if place is not None:
            wanted = wanted.where(rounds.c.place == place)
        return [Round(**row._mapping) for row in await self._database.rows(wanted)]

    async def last_in(self, channel_id: int) -> Round | None:
        """The newest round of a channel."""
        here = select(rounds).where(rounds.c.channel_id == channel_id)
        found = await self._database.row(here.order_by(rounds.c.created_at.desc()))
        return Round(**found._mapping) if found else None

    async def ballots(
        self,
        *,
        decision_id: str | None = None,
        round_id: str | None = None,
        member_id: str | None = None,
        states: Sequence[RoundState] = ("closed",),
    ) -> list[Ballots]:
        """Rounds with the votes that count, in the order in which they closed (those still open
        last): of a decision, or one, or those in which a member voted, or all. Whoever wants
        nothing kept casts none."""
        wanted = select(rounds, prompts.c.purpose).join(prompts, prompts.c.id == rounds.c.prompt_id)
        wanted = wanted.where(rounds.c.state.in_(states))
        if decision_id is not None:
            wanted = wanted.where(rounds.c.decision_id == decision_id)
        if round_id is not None:
            wanted = wanted.where(rounds.c.id == round_id)
        if member_id is not None:
            theirs = select(votes.c.comparison_id).where(votes.c.member_id == member_id)
            wanted = wanted.where(rounds.c.comparison_id.in_(theirs))

        def work(connection: Connection) -> list[Ballots]:
            found = [row._asdict() for row in connection.execute(wanted)]
            purposes: list[Purpose] = [row.pop("purpose") for row in found]
            asked = [Round(**row) for row in found]
            ids = [round.comparison_id for round in asked]
            versions = writers(connection, ids)
            cast = newest_votes(connection, ids)
            listed = [
                Ballots(
                    round,
                    purpose,
                    tuple(versions.get(round.comparison_id, ())),
                    tuple(cast.get(round.comparison_id, ())),
                )
                for round, purpose in zip(asked, purposes, strict=True)
            ]
            open_ends = max((one.round.created_at for one in listed), default=self._clock.now())
            return sorted(
                listed,
                key=lambda one: (one.round.closed_at is None, one.round.closed_at or open_ends),
            )

        return await self._database.read(work)


def end_rounds(
    connection: Connection, which: ColumnElement[bool], now: datetime, seen: Seen
) -> None:
    """What these rounds were held in is no more: they are closed with the votes that they have, and
    cancelled without any."""
    ids = connection.scalars(select(rounds.c.id).where(which, rounds.c.state.in_(UNENDED))).all()
    these = among(connection, rounds.c.id, ids)
    cast = exists().where(votes.c.comparison_id == rounds.c.comparison_id)
    state = case((cast, "closed"), else_="cancelled")
    closed_at = func.coalesce(rounds.c.closed_at, now)
    connection.execute(update(rounds).where(these).values(state=state, closed_at=closed_at))
    keep_means(connection, these & (rounds.c.state == "closed"), seen)


_PLAIN: dict[str, object] = {
    "name": None,
    "discord_id": None,
    "rank": None,
    "synthetic": False,
    "deleted": False,
}
_PLAIN |= {"extra": {}, "edited_at": None, "outdated": False}
