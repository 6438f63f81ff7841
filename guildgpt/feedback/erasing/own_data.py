"""Everything that is kept under one member: theirs to read and to take along."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from guildgpt.feedback.records import NOT_THEIRS
from guildgpt.feedback.storage.rows import among, write_whole
from guildgpt.feedback.storage.schema import (
    accounts,
    chats,
    comparisons,
    conversations,
    corrections,
    deliveries,
    invitations,
    lineage,
    members,
    messages,
    parts,
    prompts,
    ratings,
    reports,
    sessions,
    votes,
)
from guildgpt.feedback.versions.decisions import current_in, secret_of
from guildgpt.feedback.voting.cast import casts
from guildgpt.feedback.voting.seen import Seen
from guildgpt.feedback.voting.voters import found_at
from guildgpt.feedback.voting.votes import comparisons_where

Rows = list[dict[str, Any]]
SECTIONS = (
    "messages",
    "ratings",
    "votes",
    "comparisons",
    "reports",
    "corrections",
    "prompts",
    "accounts",
    "sessions",
    "invitations",
    "chats",
    "events",
)
"""The parts of a member's data that are lists, in this order."""


def kept_of(connection: Connection, hashed: str, seen: Seen) -> dict[str, Any] | None:
    """All rows under the member with this hash, ready for JSON; None if there are none.

    Their messages with the model's answers to them, their ratings, votes and reports, the
    comparisons they asked for, their account, where it is signed in and their conversations on the
    web page, the events of Discord's that were theirs, and the versions that learned from any of
    it. Other people's words are not in it: what they only forwarded is there without its text. Nor
    is who wrote an answer while a candidate is tried: they may be about to vote on it. `voter` is
    worked out of their votes: the code by which the operator is shown them, and since when their
    votes do not count because they vote by position. Ids of Discord's are texts: as numbers they
    are larger than some programs read.
    """
    member = connection.execute(select(members).where(members.c.hash == hashed)).one_or_none()
    if member is None:
        return None
    id = member.id
    said = _messages(connection, id)
    asked = among(connection, comparisons.c.question_id, [one["id"] for one in said])
    named = _under(connection, accounts, id)
    record: dict[str, Any] = {
        "member": {
            "id": id,
            "consent": member.consent,
            "first_seen": _moment(member.created_at),
            "last_seen": _moment(member.seen_at),
        },
        "voter": {
            "code": seen.code(id),
            "by_position_since": _moment(found_at(casts(connection, seen, [id]).get(id, ()))),
        },
        "messages": said,
        "ratings": [
            {"id": row.id, "answer": row.message_id, "value": row.value, "reason": row.reason}
            | {"given_at": _moment(row.created_at)}
            for row in _under(connection, ratings, id)
        ],
        "votes": [
            {"id": row.id, "comparison": row.comparison_id, "verdict": row.verdict}
            | {"ranking": row.ranking, "given_at": _moment(row.created_at)}
            for row in _under(connection, votes, id)
        ],
        "comparisons": [
            {"id": one.id, "question": one.question_id, "answers": list(one.candidates)}
            | {"asked_at": _moment(one.created_at)}
            for one in comparisons_where(connection, asked)
        ],
        "reports": [
            {"id": row.id, "answer": row.message_id, "reason": row.reason}
            | {"given_at": _moment(row.created_at), "resolved_at": _moment(row.resolved_at)}
            for row in _under(connection, reports, id)
        ],
        "corrections": [
            {"id": row.id, "answer": row.message_id, "text": row.text}
            | {"licence": row.licence, "state": row.state}
            | {"given_at": _moment(row.created_at), "decided_at": _moment(row.decided_at)}
            for row in _under(connection, corrections, id)
        ],
        "prompts": [
            {"id": row.id, "text": row.text, "licence": row.licence, "state": row.state}
            | {"submitted_at": _moment(row.created_at)}
            for row in _under(connection, prompts, id)
        ],
        "accounts": [
            {"id": row.id, "kind": row.kind, "name": row.name, "role": row.role}
            | {"made_at": _moment(row.created_at), "ended_at": _moment(row.ended_at)}
            for row in named
        ],
        "sessions": [
            {"id": row.id, "device": row.device, "begun_at": _moment(row.created_at)}
            | {"seen_at": _moment(row.seen_at), "expires_at": _moment(row.expires_at)}
            for row in _of(connection, sessions, named)
        ],
        "invitations": [
            {"id": row.id, "made_at": _moment(row.created_at), "used_at": _moment(row.used_at)}
            | {"expires_at": _moment(row.expires_at)}
            for row in _of(connection, invitations, named)
        ],
        "chats": _chats(connection, id),
        "events": _events(connection, id),
    }
    return {**record, "learned": _learned(connection, record)}


def as_json(record: Mapping[str, Any]) -> bytes:
    """The record as people read it."""
    return json.dumps(record, indent=2, ensure_ascii=False).encode()


def write_record(out: Path, record: Mapping[str, Any]) -> None:
    """The record as a file that only its owner may read, whole or not at all."""
    write_whole(out, as_json(record), mode=0o600)


def _under(connection: Connection, table: Any, member_id: str) -> list[Any]:
    """The rows of a table that name the member, oldest first."""
    wanted = select(table).where(table.c.member_id == member_id)
    return list(connection.execute(wanted.order_by(table.c.created_at)))


def _of(connection: Connection, table: Any, named: list[Any]) -> list[Any]:
    """The rows of a table that name one of these accounts, oldest first."""
    wanted = select(table).where(table.c.account_id.in_([row.id for row in named]))
    return list(connection.execute(wanted.order_by(table.c.created_at)))


def _chats(connection: Connection, member_id: str) -> Rows:
    """Their conversations on the web page; what is said in them is among their messages."""
    wanted = (
        select(chats, conversations.c.created_at)
        .join(conversations, conversations.c.id == chats.c.conversation_id)
        .where(chats.c.member_id == member_id)
        .order_by(conversations.c.created_at)
    )
    return [
        {"id": row.conversation_id, "title": row.title}
        | {"begun_at": _moment(row.created_at), "changed_at": _moment(row.changed_at)}
        for row in connection.execute(wanted)
    ]


def _messages(connection: Connection, member_id: str) -> Rows:
    """What they said and where, and what they were answered."""
    place = (conversations.c.kind, conversations.c.guild_id, conversations.c.channel_id)
    wanted = (
        select(messages, *place)
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .where(messages.c.member_id == member_id)
        .order_by(messages.c.created_at)
    )
    rows = list(connection.execute(wanted))
    secret = secret_of(current_in(connection))
    answers = defaultdict(list)
    below = select(messages).where(
        among(connection, messages.c.parent_id, [row.id for row in rows]),
        messages.c.role == "assistant",
    )
    for answer in connection.execute(below.order_by(messages.c.created_at)):
        answers[answer.parent_id].append(answer)
    return [
        {
            "id": row.id,
            "kind": row.kind,
            "server": _snowflake(row.guild_id),
            "channel": _snowflake(row.channel_id),
            "message": _snowflake(row.discord_id),
            "name": row.name,
            "text": "" if row.extra.get(NOT_THEIRS) == "wholly" else row.text,
            "forwarded": row.extra.get(NOT_THEIRS) == "wholly",
            "deleted": row.deleted,
            "written_at": _moment(row.created_at),
            "edited_at": _moment(row.edited_at),
            "answers": [
                {
                    "id": answer.id,
                    "text": answer.text,
                    "version": None if answer.version_id in secret else answer.version_id,
                    "deleted": answer.deleted,
                    "written_at": _moment(answer.created_at),
                }
                for answer in answers[row.id]
            ],
        }
        for row in rows
    ]


def _events(connection: Connection, member_id: str) -> Rows:
    """What came from Discord of theirs, and the ids of the messages with which it was answered.
    Their words are in it only until they have a row of their own."""
    rows = _under(connection, deliveries, member_id)
    written = defaultdict(list)
    theirs = among(connection, parts.c.delivery_id, [row.id for row in rows])
    for part in connection.execute(select(parts).where(theirs).order_by(parts.c.position)):
        written[part.delivery_id].append(_snowflake(part.discord_id))
    return [
        {
            "id": _snowflake(row.event_id),
            "kind": row.kind,
            "server": _snowflake(row.guild_id),
            "channel": _snowflake(row.channel_id),
            "state": row.state,
            "question": row.question_id,
            "answer": row.answer_id,
            "answered_in": written[row.id],
            "name": row.extra.get("name", ""),
            "text": row.extra.get("text", ""),
            "received_at": _moment(row.created_at),
        }
        for row in rows
    ]


def _learned(connection: Connection, record: dict[str, Any]) -> list[str]:
    """The versions that learned from any of it."""
    ids = [row["id"] for section in SECTIONS for row in record[section]]
    ids += [answer["id"] for row in record["messages"] for answer in row["answers"]]
    wanted = select(lineage.c.version_id).where(among(connection, lineage.c.event_id, ids))
    return sorted(set(connection.scalars(wanted)))


def _moment(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _snowflake(id: int | None) -> str | None:
    return None if id is None else str(id)
