"""The tables that the store begins with.

A migration never changes once it is out, so it names columns itself and imports no schema.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "members",
        _key("id"),
        sa.Column("hash", sa.String, nullable=False, unique=True),
        _text("consent"),
        _moment("created_at"),
        _moment("seen_at"),
    )
    op.create_table(
        "guild_settings", _number_key("guild_id"), _json("settings"), _moment("updated_at")
    )
    op.create_table(
        "versions",
        _key("id"),
        _text("name"),
        _text("path"),
        _text("sha256"),
        _moment("registered_at"),
    )
    op.create_table(
        "conversations",
        _key("id"),
        _text("kind"),
        _snowflake("guild_id"),
        _snowflake("channel_id"),
        _text("source"),
        _text("lang"),
        _moment("created_at"),
    )
    _index("conversations", "guild_id")
    _index("conversations", "channel_id")
    op.create_table(
        "messages",
        _key("id"),
        _link("conversation_id", "conversations.id"),
        _link("parent_id", "messages.id", nullable=True),
        _text("role"),
        sa.Column("text", sa.Text, nullable=False),
        _text("name", nullable=True),
        _link("member_id", "members.id", nullable=True),
        _text("version_id", nullable=True),
        _json("sampling", nullable=True),
        _text("stop", nullable=True),
        _snowflake("discord_id"),
        sa.Column("rank", sa.Integer),
        sa.Column("synthetic", sa.Boolean, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        _json("extra"),
        _moment("created_at"),
    )
    _index("messages", "conversation_id", "created_at")
    _index("messages", "parent_id")
    _index("messages", "member_id")
    _index("messages", "discord_id")
    op.create_table(
        "deliveries",
        _key("id"),
        sa.Column("event_id", sa.BigInteger, nullable=False, unique=True),
        _text("kind"),
        _snowflake("guild_id"),
        _snowflake("channel_id"),
        _link("member_id", "members.id", nullable=True),
        _link("question_id", "messages.id", nullable=True),
        _text("answer_id", nullable=True),
        _text("state"),
        _json("extra"),
        _moment("created_at"),
        _moment("updated_at"),
    )
    _index("deliveries", "member_id")
    _index("deliveries", "question_id")
    _index("deliveries", "answer_id")
    _index("deliveries", "state")
    op.create_table(
        "parts",
        _key("delivery_id", "deliveries.id"),
        _number_key("position", sa.Integer),
        _snowflake("discord_id", nullable=False),
    )
    _index("parts", "discord_id")
    op.create_table(
        "comparisons",
        _key("id"),
        _link("question_id", "messages.id"),
        _snowflake("discord_id"),
        _moment("created_at"),
    )
    _index("comparisons", "question_id")
    op.create_table(
        "candidates",
        _key("comparison_id", "comparisons.id"),
        _number_key("position", sa.Integer),
        _link("message_id", "messages.id"),
    )
    _index("candidates", "message_id")
    op.create_table(
        "votes",
        _key("id"),
        _link("comparison_id", "comparisons.id"),
        _link("member_id", "members.id", nullable=True),
        _text("verdict"),
        _json("ranking"),
        _moment("created_at"),
    )
    _index("votes", "comparison_id", "member_id")
    _index("votes", "member_id")
    op.create_table(
        "ratings",
        _key("id"),
        _link("message_id", "messages.id"),
        _link("member_id", "members.id", nullable=True),
        sa.Column("value", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text),
        _moment("created_at"),
    )
    _index("ratings", "message_id", "member_id")
    _index("ratings", "member_id")
    op.create_table(
        "reports",
        _key("id"),
        _link("message_id", "messages.id"),
        _link("member_id", "members.id", nullable=True),
        sa.Column("reason", sa.Text),
        _moment("created_at"),
    )
    _index("reports", "message_id")
    _index("reports", "member_id")
    op.create_table("lineage", _key("version_id"), _key("kind"), _key("event_id"))
    _index("lineage", "event_id")
    op.create_table(
        "erasures", _key("id"), _moment("created_at"), _json("counts"), _json("versions")
    )
    op.create_table("leases", _key("name"), _text("holder"), _moment("expires_at"))
    op.create_table(
        "channel_marks",
        _number_key("channel_id"),
        _snowflake("guild_id"),
        _snowflake("last_seen", nullable=False),
    )
    op.create_table("facts", _key("name"), _text("value"))


def downgrade() -> None:
    """There is nothing before the beginning."""
    raise NotImplementedError("delete the database instead")


def _key(name: str, target: str | None = None) -> sa.Column[Any]:
    links = [sa.ForeignKey(target)] if target else []
    return sa.Column(name, sa.String, *links, primary_key=True)


def _number_key(name: str, kind: type[sa.Integer] = sa.BigInteger) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


def _link(name: str, target: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String, sa.ForeignKey(target), nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String, nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON, nullable=nullable)


def _moment(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _snowflake(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)
