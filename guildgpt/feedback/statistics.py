"""Counts of what is in the store."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    Subquery,
    Table,
    func,
    select,
    true,
)

from guildgpt.feedback.records import Consent, Stats, Verdict, VersionStats
from guildgpt.feedback.storage.schema import (
    comparisons,
    conversations,
    members,
    messages,
    ratings,
    reports,
    votes,
)


class Counting:
    """One reading of the figures, over everything, or over one guild's conversations and who spoke
    in them."""

    def __init__(self, connection: Connection, guild_id: int | None):
        self._connection = connection
        self._guild_id = guild_id
        self._of_guild: ColumnElement[bool] = true()
        self._said: ColumnElement[bool] = true()
        if guild_id is not None:
            self._of_guild = conversations.c.guild_id == guild_id
            places = select(conversations.c.id).where(self._of_guild)
            self._said = messages.c.conversation_id.in_(places)

    def stats(self) -> Stats:
        """All of them."""
        answers = self._answers()
        ups, downs = self._ratings(1), self._ratings(-1)
        verdicts = self._votes()
        consents = self._consents()
        named = sorted({*answers, *ups, *downs} - {None})
        return Stats(
            members=sum(consents.values()),
            conversations=self._count(select(conversations.c.id).where(self._of_guild)),
            messages=self._count(select(messages.c.id).where(self._said, ~messages.c.deleted)),
            answers=answers.total(),
            up=ups.total(),
            down=downs.total(),
            comparisons=self._count(self._about(comparisons, comparisons.c.question_id)),
            votes={verdict: verdicts[verdict] for verdict in get_args(Verdict)},
            reports=self._count(self._about(reports, reports.c.message_id)),
            consents={consent: consents[consent] for consent in get_args(Consent)},
            versions={name: VersionStats(answers[name], ups[name], downs[name]) for name in named},
        )

    def _count(self, rows: Select[Any]) -> int:
        return self._connection.scalar(select(func.count()).select_from(rows.subquery())) or 0

    def _by_key(self, counted: Select[Any]) -> Counter[Any]:
        """Rows of a key and its count."""
        return Counter({row[0]: row[1] for row in self._connection.execute(counted)})

    def _about(self, table: Table, message: ColumnElement[str]) -> Select[Any]:
        """The rows of a table that are about one of the messages counted."""
        return select(table.c.id).join(messages, messages.c.id == message).where(self._said)

    def _answers(self) -> Counter[Any]:
        return self._by_key(
            select(messages.c.version_id, func.count())
            .where(self._said, messages.c.role == "assistant", ~messages.c.deleted)
            .group_by(messages.c.version_id)
        )

    def _ratings(self, value: int) -> Counter[Any]:
        """How often each version was rated so."""
        newest = _newest(ratings, ratings.c.message_id, ratings.c.value)
        return self._by_key(
            select(messages.c.version_id, func.count())
            .join(newest, newest.c.message_id == messages.c.id)
            .where(self._said, newest.c.age == 1, newest.c.value == value)
            .group_by(messages.c.version_id)
        )

    def _votes(self) -> Counter[str]:
        """How often each verdict was given."""
        newest = _newest(votes, votes.c.comparison_id, votes.c.verdict)
        return self._by_key(
            select(newest.c.verdict, func.count())
            .join(comparisons, comparisons.c.id == newest.c.comparison_id)
            .join(messages, messages.c.id == comparisons.c.question_id)
            .where(self._said, newest.c.age == 1)
            .group_by(newest.c.verdict)
        )

    def _consents(self) -> Counter[str]:
        counted = select(members.c.consent, func.count()).group_by(members.c.consent)
        if self._guild_id is not None:
            counted = counted.where(members.c.id.in_(self._heard()))
        return self._by_key(counted)

    def _heard(self) -> CompoundSelect[Any]:
        """Who has spoken, voted or rated where we count."""
        spoke = select(messages.c.member_id).where(self._said)
        rated = (
            select(ratings.c.member_id)
            .join(messages, messages.c.id == ratings.c.message_id)
            .where(self._said)
        )
        voted = (
            select(votes.c.member_id)
            .join(comparisons, comparisons.c.id == votes.c.comparison_id)
            .join(messages, messages.c.id == comparisons.c.question_id)
            .where(self._said)
        )
        return spoke.union(rated, voted)


def _newest(table: Table, about: ColumnElement[str], *columns: ColumnElement[Any]) -> Subquery:
    """The events with their `age`: 1 is the member's newest on the same thing.

    An event without a member replaces none.
    """
    age = func.row_number().over(
        partition_by=(about, func.coalesce(table.c.member_id, table.c.id)),
        order_by=(table.c.created_at.desc(), table.c.id.desc()),
    )
    return select(about, *columns, age.label("age")).subquery()
