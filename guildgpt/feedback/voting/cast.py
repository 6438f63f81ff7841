"""Votes as the rules on voters see them: what was shown where and when, never who wrote it.

No query here reads a version's id. Of several votes of a member on the same answers it is the first
that is looked at: what was looked at once stays, whoever changes their vote afterwards.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from guildgpt.feedback.storage.rows import among
from guildgpt.feedback.storage.schema import (
    candidates,
    comparisons,
    conversations,
    messages,
    rounds,
    votes,
)
from guildgpt.feedback.voting.rankings import as_ranking
from guildgpt.feedback.voting.seen import Seen


@dataclass(frozen=True, slots=True)
class Cast:
    """A member's first vote on some answers.

    `first` and `last` are the shares that the answers shown first and last have in its top place: 1
    for one that stands there alone, ½ for one of two. Of a tie and of what was skipped both are
    None. `characters` had to be read since `posed_at`.
    """

    comparison_id: str
    at: datetime
    posed_at: datetime
    answers: int
    characters: int
    first: float | None
    last: float | None


def casts(
    connection: Connection, seen: Seen, members: Collection[str] | None = None
) -> dict[str, list[Cast]]:
    """By member, their first votes, the oldest first; of these members, or of all."""
    wanted = _first_words()
    if members is not None:
        wanted = wanted.where(among(connection, votes.c.member_id, members))
    found: dict[str, dict[str, Cast]] = {}
    for row in connection.execute(wanted):
        own = found.setdefault(row.member_id, {})
        if row.answers and row.comparison_id not in own:
            own[row.comparison_id] = _cast(row, seen)
    return {member: list(own.values()) for member, own in found.items()}


def _first_words() -> Select[Any]:
    shown = (
        select(
            candidates.c.comparison_id,
            func.count().label("answers"),
            func.sum(func.length(messages.c.text)).label("characters"),
        )
        .join(messages, messages.c.id == candidates.c.message_id)
        .group_by(candidates.c.comparison_id)
        .subquery()
    )
    # On the web page everybody sees answers in an order of their own. Its rounds have a time at
    # which they close, as those of a terminal have none.
    own_order = or_(
        conversations.c.kind == "web",
        (rounds.c.place != "discord") & rounds.c.closes_at.is_not(None),
    )
    question = messages.alias()
    return (
        select(
            votes.c.member_id,
            votes.c.comparison_id,
            votes.c.verdict,
            votes.c.ranking,
            votes.c.created_at,
            comparisons.c.created_at.label("posed_at"),
            shown.c.answers,
            shown.c.characters,
            func.coalesce(own_order, False).label("own_order"),
        )
        .join(comparisons, comparisons.c.id == votes.c.comparison_id)
        .join(shown, shown.c.comparison_id == comparisons.c.id)
        .join(question, question.c.id == comparisons.c.question_id)
        .join(conversations, conversations.c.id == question.c.conversation_id)
        .outerjoin(rounds, rounds.c.comparison_id == comparisons.c.id)
        .where(votes.c.member_id.is_not(None))
        .order_by(votes.c.created_at, votes.c.id)
    )


def _cast(row: Any, seen: Seen) -> Cast:
    first = last = None
    top = _top(row)
    if top:
        order = list(range(row.answers))
        if row.own_order:
            order = seen.order(row.comparison_id, row.member_id, row.answers)
        first, last = ((order[end] in top) / len(top) for end in (0, -1))
    return Cast(
        comparison_id=row.comparison_id,
        at=row.created_at,
        posed_at=row.posed_at,
        answers=row.answers,
        characters=row.characters or 0,
        first=first,
        last=last,
    )


def _top(row: Any) -> tuple[int, ...]:
    """The positions that a vote puts first; none where it puts none before another."""
    ranking = as_ranking(row.ranking) if row.verdict == "ranked" else ()
    if not ranking:
        return ()
    top = (ranking[0],) if isinstance(ranking[0], int) else ranking[0]
    return top if len(top) < row.answers else ()
