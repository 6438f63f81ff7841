"""Nothing stays for ever: what is too old goes, and what has expired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, exists, or_, select, true

from guildgpt.feedback.erasing.removal import IS_HUSK, Removal, remove_messages
from guildgpt.feedback.records import ConversationKind
from guildgpt.feedback.storage.schema import (
    accounts,
    api_usage,
    chats,
    conversations,
    corrections,
    deliveries,
    invitations,
    members,
    messages,
    prompts,
    ratings,
    reports,
    responses,
    sessions,
    votes,
)

STORED = timedelta(days=30)  # a response that a program asked to have stored
COUNTED = timedelta(days=32)  # what keys asked


def drop_old(
    connection: Connection, before: datetime, kinds: Sequence[ConversationKind] = ()
) -> Counter[str]:
    """Everything that is older, or only conversations of these kinds; how many rows of each."""
    removal = Removal(connection)
    kept = select(conversations.c.id).where(conversations.c.kind == "import")
    old = (messages.c.created_at < before) & messages.c.conversation_id.not_in(kept)
    meant = conversations.c.kind.in_(kinds) if kinds else true()
    if kinds:
        old &= messages.c.conversation_id.in_(select(conversations.c.id).where(meant))
    doomed = connection.scalars(select(messages.c.id).where(old, ~IS_HUSK))
    remove_messages(removal, set(doomed))
    silent = conversations.c.id.not_in(select(messages.c.conversation_id))
    removal.delete(conversations, silent & meant & (conversations.c.created_at < before))
    if kinds:
        return +removal.counts
    removal.delete(deliveries, deliveries.c.updated_at < before)
    silent_members = ~or_(
        *(
            exists().where(table.c.member_id == members.c.id)
            for table in (
                messages,
                votes,
                ratings,
                reports,
                deliveries,
                corrections,
                prompts,
                chats,
            )
        )
    )
    ended = accounts.c.ended_at < before
    of_nobody = accounts.c.member_id.in_(select(members.c.id).where(silent_members))
    removal.delete(accounts, ended & of_nobody)
    idle = silent_members & (members.c.consent == "chat") & (members.c.seen_at < before)
    nameless = ~exists().where(accounts.c.member_id == members.c.id)
    removal.delete(members, idle & nameless)
    return +removal.counts


def drop_expired(connection: Connection, now: datetime) -> Counter[str]:
    """What has an end of its own, and is past it."""
    removal = Removal(connection)
    for table in (sessions, invitations):
        removal.delete(table, table.c.expires_at <= now)
    removal.delete(responses, responses.c.created_at <= now - STORED)
    span = (now - COUNTED).date().isoformat()  # days and minutes are in the order of their names
    counted = connection.execute(delete(api_usage).where(api_usage.c.span < span)).rowcount
    removal.counts["api_usage"] = counted
    return +removal.counts
