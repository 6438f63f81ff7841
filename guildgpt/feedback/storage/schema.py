"""The tables, the same in SQLite and PostgreSQL. Whoever changes them adds a migration."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)

HEAD = "0006"  # the newest migration: a store that has it is opened without loading Alembic
VERSION_TABLE = "guildgpt_version"  # Alembic's mark of the migration that a database has


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, aware on both databases; SQLite knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; a naive time raises, for nobody knows when it is."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    }
)


def _json(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, JSON(none_as_null=True), nullable=nullable)


def _moment(name: str, *, nullable: bool = False) -> Column[datetime]:
    return Column(name, UtcDateTime, nullable=nullable)


def _snowflake(name: str, *, nullable: bool = True) -> Column[int]:
    """An id of Discord's."""
    return Column(name, BigInteger, nullable=nullable)


members = Table(
    "members",
    metadata,
    Column("id", String, primary_key=True),
    Column("hash", String, nullable=False, unique=True),
    Column("consent", String, nullable=False),
    _moment("created_at"),
    _moment("seen_at"),
)

guild_settings = Table(
    "guild_settings",
    metadata,
    Column("guild_id", BigInteger, primary_key=True, autoincrement=False),
    _json("settings"),
    _moment("updated_at"),
)

# Guilds that the bot was taken out of: what is theirs goes when their time is over.
left_guilds = Table(
    "left_guilds",
    metadata,
    Column("guild_id", BigInteger, primary_key=True, autoincrement=False),
    _moment("left_at"),
)

# Not referred to by foreign keys: a message may name a version that was never registered here.
# `erased_at`: when something was erased that it, or the version it was trained from, learned from.
# `trouble`: why it did not start when it was to answer.
versions = Table(
    "versions",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("path", String, nullable=False),
    Column("sha256", String, nullable=False),
    _moment("registered_at"),
    Column("parent_id", String),
    _moment("erased_at", nullable=True),
    Column("trouble", Text),
)

# Who votes at a terminal or on the web page: a member under a name, without Discord. Of one that
# `ended_at`, no session counts.
accounts = Table(
    "accounts",
    metadata,
    Column("id", String, primary_key=True),
    Column("member_id", ForeignKey("members.id"), nullable=False, unique=True),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    _moment("created_at"),
    Column("role", String, nullable=False, server_default="voter"),
    _moment("ended_at", nullable=True),
    UniqueConstraint("kind", "name"),
)

# Links that make an account, or sign one in again (`account_id`), once. Of a link, a session and a
# key the store has the hash alone.
invitations = Table(
    "invitations",
    metadata,
    Column("id", String, primary_key=True),
    Column("sha256", String, nullable=False, unique=True),
    Column("role", String, nullable=False),
    Column("name", String),
    Column("account_id", ForeignKey("accounts.id")),
    _moment("created_at"),
    _moment("expires_at"),
    _moment("used_at", nullable=True),
    Index(None, "account_id"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String, primary_key=True),
    Column("sha256", String, nullable=False, unique=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("device", String, nullable=False),
    _moment("created_at"),
    _moment("seen_at"),
    _moment("expires_at"),
    Index(None, "account_id"),
)

# Who may ask the API, and how much.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("sha256", String, nullable=False, unique=True),
    Column("requests_per_minute", Integer),
    Column("tokens_per_day", BigInteger),
    _moment("created_at"),
    _moment("seen_at", nullable=True),
    _moment("ended_at", nullable=True),
)

# What was asked with a key: by minute (requests) and by day (tokens), in UTC.
api_usage = Table(
    "api_usage",
    metadata,
    Column("key_id", ForeignKey("api_keys.id"), primary_key=True),
    Column("span", String, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
)

# Answers of /v1/responses that were to be stored. `owner` stands for the key that asked.
responses = Table(
    "responses",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("previous_id", String),
    _json("body"),
    _moment("created_at"),
    Index(None, "owner"),
    Index(None, "created_at"),
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    _snowflake("guild_id"),
    _snowflake("channel_id"),
    Column("source", String, nullable=False),
    Column("lang", String, nullable=False),
    _moment("created_at"),
    _snowflake("home_id"),
    Index(None, "guild_id"),
    Index(None, "channel_id"),
    Index(None, "home_id"),
)

# Conversations of the web page: each is its member's alone.
chats = Table(
    "chats",
    metadata,
    Column("conversation_id", ForeignKey("conversations.id"), primary_key=True),
    Column("member_id", ForeignKey("members.id"), nullable=False),
    Column("title", Text, nullable=False),
    _moment("changed_at"),
    Index(None, "member_id", "changed_at"),
)

messages = Table(
    "messages",
    metadata,
    Column("id", String, primary_key=True),
    Column("conversation_id", ForeignKey("conversations.id"), nullable=False),
    Column("parent_id", ForeignKey("messages.id")),
    Column("role", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("name", String),
    Column("member_id", ForeignKey("members.id")),
    Column("version_id", String),
    _json("sampling", nullable=True),
    Column("stop", String),
    _snowflake("discord_id"),
    Column("rank", Integer),
    Column("synthetic", Boolean, nullable=False),
    Column("deleted", Boolean, nullable=False),
    _json("extra"),
    _moment("created_at"),
    _moment("edited_at", nullable=True),
    Column("outdated", Boolean, nullable=False, server_default=false()),
    Index(None, "conversation_id", "created_at"),
    Index(None, "parent_id"),
    Index(None, "member_id"),
    Index(None, "discord_id"),
)

# Ids of answers and comparisons are chosen before they are written, so they are no foreign keys.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String, primary_key=True),
    Column("event_id", BigInteger, nullable=False, unique=True),
    Column("kind", String, nullable=False),
    _snowflake("guild_id"),
    _snowflake("channel_id"),
    Column("member_id", ForeignKey("members.id")),
    Column("question_id", ForeignKey("messages.id")),
    Column("answer_id", String),
    Column("state", String, nullable=False),
    _json("extra"),
    _moment("created_at"),
    _moment("updated_at"),
    Column("comparison_id", String),
    Index(None, "member_id"),
    Index(None, "question_id"),
    Index(None, "answer_id"),
    Index(None, "comparison_id"),
    Index(None, "state"),
)

# The Discord messages that an answer was split into: a table, so that any of them finds it fast.
parts = Table(
    "parts",
    metadata,
    Column("delivery_id", ForeignKey("deliveries.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    _snowflake("discord_id", nullable=False),
    Index(None, "discord_id"),
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("id", String, primary_key=True),
    Column("question_id", ForeignKey("messages.id"), nullable=False),
    _snowflake("discord_id"),
    _moment("created_at"),
    Index(None, "question_id"),
)

candidates = Table(
    "candidates",
    metadata,
    Column("comparison_id", ForeignKey("comparisons.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("message_id", ForeignKey("messages.id"), nullable=False),
    Index(None, "message_id"),
)

votes = Table(
    "votes",
    metadata,
    Column("id", String, primary_key=True),
    Column("comparison_id", ForeignKey("comparisons.id"), nullable=False),
    Column("member_id", ForeignKey("members.id")),
    Column("verdict", String, nullable=False),
    _json("ranking"),
    _moment("created_at"),
    Index(None, "comparison_id", "member_id"),
    Index(None, "member_id"),
)

ratings = Table(
    "ratings",
    metadata,
    Column("id", String, primary_key=True),
    Column("message_id", ForeignKey("messages.id"), nullable=False),
    Column("member_id", ForeignKey("members.id")),
    Column("value", Integer, nullable=False),
    Column("reason", Text),
    _moment("created_at"),
    Index(None, "message_id", "member_id"),
    Index(None, "member_id"),
)

reports = Table(
    "reports",
    metadata,
    Column("id", String, primary_key=True),
    Column("message_id", ForeignKey("messages.id"), nullable=False),
    Column("member_id", ForeignKey("members.id")),
    Column("reason", Text),
    _moment("created_at"),
    _moment("resolved_at", nullable=True),
    Index(None, "message_id"),
    Index(None, "member_id"),
)

# A person's own wording of an answer: `licence` is what they gave it under, and the operator
# reviews what comes from the web page.
corrections = Table(
    "corrections",
    metadata,
    Column("id", String, primary_key=True),
    Column("message_id", ForeignKey("messages.id"), nullable=False),
    Column("member_id", ForeignKey("members.id")),
    Column("text", Text, nullable=False),
    _moment("created_at"),
    Column("licence", String, nullable=False, server_default=""),
    Column("state", String, nullable=False, server_default="accepted"),
    _moment("decided_at", nullable=True),
    Index(None, "message_id", "member_id"),
    Index(None, "member_id"),
    Index(None, "state"),
)

# The prompt pool. `sha256` is that of the text as it is compared; `purpose` follows from it.
prompts = Table(
    "prompts",
    metadata,
    Column("id", String, primary_key=True),
    Column("text", Text, nullable=False),
    Column("sha256", String, nullable=False, unique=True),
    Column("purpose", String, nullable=False),
    Column("source", String, nullable=False),
    Column("licence", String, nullable=False),
    Column("credit", String, nullable=False),
    Column("lang", String, nullable=False),
    Column("member_id", ForeignKey("members.id")),
    Column("state", String, nullable=False),
    _moment("created_at"),
    _moment("decided_at", nullable=True),
    Index(None, "state"),
    Index(None, "member_id"),
)

# What becomes of a candidate, from its training to its promotion. Its lineage is noted under the
# decision's id until it has a version's.
decisions = Table(
    "decisions",
    metadata,
    Column("id", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("candidate_id", String),
    Column("baseline_id", String),
    Column("folder", String),
    _json("settings"),
    _json("result", nullable=True),
    Column("why", Text),
    _moment("created_at"),
    _moment("updated_at"),
    _moment("erased_at", nullable=True),
    _json("gate", nullable=True),
    Index(None, "state"),
    Index(None, "candidate_id"),
)

# What the circle did, night by night: only ever added to. What happened between two turns belongs
# to no decision.
circle_log = Table(
    "circle_log",
    metadata,
    Column("id", String, primary_key=True),
    Column("decision_id", ForeignKey("decisions.id")),
    Column("kind", String, nullable=False),
    _json("detail"),
    _moment("created_at"),
    Index(None, "decision_id"),
    Index(None, "created_at"),
)

# A prompt of the pool with two blind answers. One without a decision gathers votes to learn from.
# `drawn`: at random, or because a reward model was unsure (never one that decides).
rounds = Table(
    "rounds",
    metadata,
    Column("id", String, primary_key=True),
    Column("prompt_id", ForeignKey("prompts.id"), nullable=False),
    Column("comparison_id", ForeignKey("comparisons.id"), nullable=False, unique=True),
    Column("decision_id", ForeignKey("decisions.id")),
    Column("place", String, nullable=False),
    _snowflake("guild_id"),
    _snowflake("channel_id"),
    _snowflake("discord_id"),
    Column("state", String, nullable=False),
    _moment("created_at"),
    _moment("closes_at", nullable=True),
    _moment("closed_at", nullable=True),
    Column("drawn", String, nullable=False, server_default="random"),
    Index(None, "prompt_id"),
    Index(None, "decision_id"),
    Index(None, "state"),
    Index(None, "channel_id"),
)

# What a guild's rounds said of a candidate when they closed: it stays when the round goes.
round_means = Table(
    "round_means",
    metadata,
    Column("decision_id", ForeignKey("decisions.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("round_id", ForeignKey("rounds.id"), unique=True),
    Column("mean", Float),
    Column("voters", Integer, nullable=False),
    Column("people", Integer, nullable=False),
    Column("excluded", Integer, nullable=False, server_default="0"),
)

# Pairs of answers of which a reward model cannot say which people like better: rounds to learn from
# take some of theirs from here. `unsure` is how far its heads disagree.
proposals = Table(
    "proposals",
    metadata,
    Column("id", String, primary_key=True),
    Column("prompt_id", ForeignKey("prompts.id"), nullable=False),
    _json("answers"),
    Column("unsure", Float, nullable=False),
    _moment("created_at"),
    _moment("taken_at", nullable=True),
    Index(None, "prompt_id"),
    Index(None, "taken_at"),
)

# Who answers how much: only ever added to; the rows with the highest number are in force.
releases = Table(
    "releases",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("version_id", String, primary_key=True),
    Column("share", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("why", Text, nullable=False),
    _moment("created_at"),
)

lineage = Table(
    "lineage",
    metadata,
    Column("version_id", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("event_id", String, primary_key=True),
    Index(None, "event_id"),
)

erasures = Table(
    "erasures",
    metadata,
    Column("id", String, primary_key=True),
    _moment("created_at"),
    _json("counts"),
    _json("versions"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    _moment("expires_at"),
)

channel_marks = Table(
    "channel_marks",
    metadata,
    Column("channel_id", BigInteger, primary_key=True, autoincrement=False),
    _snowflake("guild_id"),
    _snowflake("last_seen", nullable=False),
)

facts = Table(
    "facts",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)
