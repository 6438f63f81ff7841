"""Counts of what is in the store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, get_args

from sqlalchemy import ColumnElement, Select, Subquery, Table, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from guildgpt.feedback.part import Part
from guildgpt.feedback.records import Consent, Stats, Verdict, VersionStats
from guildgpt.feedback.schema import (
    candidates,
    comparisons,
    conversations,
    members,
    messages,
    ratings,
    reports,
    votes,
)


class Statistics(Part):
    """Counting."""

    async def stats(self, guild_id: int | None = None) -> Stats:
        """Counts over everything, or over one guild's conversations and who spoke in them."""
        return await self._database.read(lambda connection: _Counting(connection, guild_id).stats())


class _Counting:
    """One reading of the figures."""

    def __init__(self, connection: AsyncConnection, guild_id: int | None):
        self._connection = connection
        self._guild_id = guild_id
        there: ColumnElement[bool] = true()
        if guild_id is not None:
            there = conversations.c.guild_id == guild_id
        places = select(conversations.c.id).where(there)
        everything = guild_id is None
        self._of_guild = there
        self._said = true() if everything else messages.c.conversation_id.in_(places)

    async def stats(self) -> Stats:
        answers = await self._answers()
        ups, downs = await self._ratings()
        verdicts, wins, losses = await self._votes()
        consents = await self._consents()
        named = sorted({*answers, *ups, *downs, *wins, *losses} - {None})
        return Stats(
            members=sum(consents.values()),
            conversations=await self._count(select(conversations.c.id).where(self._of_guild)),
            messages=await self._count(
                select(messages.c.id).where(self._said, ~messages.c.deleted)
            ),
            answers=answers.total(),
            up=ups.total(),
            down=downs.total(),
            comparisons=await self._count(self._about(comparisons, comparisons.c.question_id)),
            votes={verdict: verdicts[verdict] for verdict in get_args(Verdict)},
            reports=await self._count(self._about(reports, reports.c.message_id)),
            consents={consent: consents[consent] for consent in get_args(Consent)},
            versions={
                name: VersionStats(answers[name], ups[name], downs[name], wins[name], losses[name])
                for name in named
            },
        )

    async def _count(self, rows: Select[Any]) -> int:
        return await self._connection.scalar(select(func.count()).select_from(rows.subquery())) or 0

    def _about(self, table: Table, message: ColumnElement[str]) -> Select[Any]:
        """The rows of a table that are about one of the messages counted."""
        return select(table.c.id).join(messages, messages.c.id == message).where(self._said)

    async def _answers(self) -> Counter[Any]:
        counted = select(messages.c.version_id, func.count()).where(
            self._said, messages.c.role == "assistant", ~messages.c.deleted
        )
        found = await self._connection.execute(counted.group_by(messages.c.version_id))
        return Counter({row[0]: row[1] for row in found})

    async def _ratings(self) -> tuple[Counter[Any], Counter[Any]]:
        """How often each version was rated up, and down."""
        newest = _newest(ratings, ratings.c.message_id, ratings.c.value)
        counted = (
            select(messages.c.version_id, newest.c.value, func.count())
            .join(messages, messages.c.id == newest.c.message_id)
            .where(self._said, newest.c.age == 1, newest.c.value != 0)
            .group_by(messages.c.version_id, newest.c.value)
        )
        ups: Counter[Any] = Counter()
        downs: Counter[Any] = Counter()
        for version, value, count in await self._connection.execute(counted):
            (ups if value > 0 else downs)[version] += count
        return ups, downs

    async def _votes(self) -> tuple[Counter[str], Counter[Any], Counter[Any]]:
        """Verdicts; and for each version how often it beat another one, and was beaten."""
        newest = _newest(votes, votes.c.comparison_id, votes.c.verdict, votes.c.ranking)
        cast = (
            select(newest.c.comparison_id, newest.c.verdict, newest.c.ranking)
            .join(comparisons, comparisons.c.id == newest.c.comparison_id)
            .join(messages, messages.c.id == comparisons.c.question_id)
            .where(self._said, newest.c.age == 1)
        )
        shown = select(
            candidates.c.comparison_id, candidates.c.position, messages.c.version_id
        ).join(messages, messages.c.id == candidates.c.message_id)
        authors: dict[str, dict[int, Any]] = defaultdict(dict)
        for comparison, position, version in await self._connection.execute(
            shown.where(self._said)
        ):
            authors[comparison][position] = version
        verdicts: Counter[str] = Counter()
        wins: Counter[Any] = Counter()
        losses: Counter[Any] = Counter()
        for comparison, verdict, ranking in await self._connection.execute(cast):
            verdicts[verdict] += 1
            if verdict == "ranked":
                best = authors[comparison][ranking[0]]
                beaten = [v for v in authors[comparison].values() if v != best]
                wins[best] += len(beaten)
                losses.update(beaten)
        return verdicts, wins, losses

    async def _consents(self) -> Counter[str]:
        counted = select(members.c.consent, func.count()).group_by(members.c.consent)
        if self._guild_id is not None:
            counted = counted.where(_any_of(self._heard()))
        found = await self._connection.execute(counted)
        return Counter({row[0]: row[1] for row in found})

    def _heard(self) -> Iterable[Select[Any]]:
        """Who has spoken, voted or rated where we count."""
        yield select(messages.c.member_id).where(self._said)
        yield (
            select(ratings.c.member_id)
            .join(messages, messages.c.id == ratings.c.message_id)
            .where(self._said)
        )
        yield (
            select(votes.c.member_id)
            .join(comparisons, comparisons.c.id == votes.c.comparison_id)
            .join(messages, messages.c.id == comparisons.c.question_id)
            .where(self._said)
        )


def _newest(table: Table, about: ColumnElement[str], *columns: ColumnElement[Any]) -> Subquery:
    """The events with their `age`: 1 is the member's newest on the same thing.

    An event without a member replaces none.
    """
    age = func.row_number().over(
        partition_by=(about, func.coalesce(table.c.member_id, table.c.id)),
        order_by=(table.c.created_at.desc(), table.c.id.desc()),
    )
    return select(about, *columns, age.label("age")).subquery()


def _any_of(queries: Iterable[Select[Any]]) -> ColumnElement[bool]:
    first, *rest = queries
    return members.c.id.in_(first.union(*rest))
