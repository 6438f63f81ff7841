"""What the store needs to learn: a pool of prompts, rounds, corrections, releases, decisions.

A migration never changes once it is out, so it names columns itself and imports no schema.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables, and what is to be known of a version."""
    op.add_column("versions", sa.Column("parent_id", sa.String))
    op.add_column("versions", sa.Column("erased_at", sa.DateTime(timezone=True)))
    op.add_column("versions", sa.Column("trouble", sa.Text))
    op.create_table(
        "accounts",
        _key("id"),
        _link("member_id", "accounts", "members", nullable=False),
        _text("kind"),
        _text("name"),
        _text("secret", nullable=True),
        _moment("created_at"),
        sa.UniqueConstraint("member_id", name="uq_accounts_member_id"),
        sa.UniqueConstraint("kind", "name", name="uq_accounts_kind_name"),
    )
    op.create_table(
        "corrections",
        _key("id"),
        _link("message_id", "corrections", "messages", nullable=False),
        _link("member_id", "corrections", "members"),
        sa.Column("text", sa.Text, nullable=False),
        _moment("created_at"),
    )
    _index("corrections", "message_id", "member_id")
    _index("corrections", "member_id")
    op.create_table(
        "prompts",
        _key("id"),
        sa.Column("text", sa.Text, nullable=False),
        _text("sha256"),
        _text("purpose"),
        _text("source"),
        _text("licence"),
        _text("credit"),
        _text("lang"),
        _link("member_id", "prompts", "members"),
        _text("state"),
        _moment("created_at"),
        _moment("decided_at", nullable=True),
        sa.UniqueConstraint("sha256", name="uq_prompts_sha256"),
    )
    _index("prompts", "state")
    _index("prompts", "member_id")
    op.create_table(
        "decisions",
        _key("id"),
        _text("state"),
        _text("candidate_id", nullable=True),
        _text("baseline_id", nullable=True),
        _text("folder", nullable=True),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("result", sa.JSON),
        sa.Column("why", sa.Text),
        _moment("created_at"),
        _moment("updated_at"),
        _moment("erased_at", nullable=True),
    )
    _index("decisions", "state")
    _index("decisions", "candidate_id")
    op.create_table(
        "rounds",
        _key("id"),
        _link("prompt_id", "rounds", "prompts", nullable=False),
        _link("comparison_id", "rounds", "comparisons", nullable=False),
        _link("decision_id", "rounds", "decisions"),
        _text("place"),
        sa.Column("guild_id", sa.BigInteger),
        sa.Column("channel_id", sa.BigInteger),
        sa.Column("discord_id", sa.BigInteger),
        _text("state"),
        _moment("created_at"),
        _moment("closes_at", nullable=True),
        _moment("closed_at", nullable=True),
        sa.UniqueConstraint("comparison_id", name="uq_rounds_comparison_id"),
    )
    for column in ("prompt_id", "decision_id", "state", "channel_id"):
        _index("rounds", column)
    op.create_table(
        "releases",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        _key("version_id"),
        sa.Column("share", sa.Float, nullable=False),
        _text("kind"),
        sa.Column("why", sa.Text, nullable=False),
        _moment("created_at"),
    )


def downgrade() -> None:
    """Older versions of the program know nothing of what is decided here."""
    raise NotImplementedError("restore a backup instead")


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String, primary_key=True)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=nullable)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _link(name: str, table: str, to: str, *, nullable: bool = True) -> sa.Column[str]:
    key = sa.ForeignKey(f"{to}.id", name=f"fk_{table}_{name}_{to}")
    return sa.Column(name, sa.String, key, nullable=nullable)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
