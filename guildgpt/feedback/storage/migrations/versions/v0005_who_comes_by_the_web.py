"""What the server needs: keys, accounts with roles, sessions, stored responses, conversations that
are one person's, and the review of corrections.

A migration never changes once it is out, so it names columns itself and imports no schema.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables, and what is to be known of accounts and corrections."""
    op.drop_column("accounts", "secret")  # nothing ever wrote it
    op.add_column("accounts", _text("role", server_default="voter"))
    op.add_column("accounts", _moment("ended_at", nullable=True))
    op.create_table(
        "invitations",
        _key("id"),
        _text("sha256"),
        _text("role"),
        _text("name", nullable=True),
        _link("account_id", "invitations", "accounts"),
        _moment("created_at"),
        _moment("expires_at"),
        _moment("used_at", nullable=True),
        sa.UniqueConstraint("sha256", name="uq_invitations_sha256"),
    )
    _index("invitations", "account_id")
    op.create_table(
        "sessions",
        _key("id"),
        _text("sha256"),
        _link("account_id", "sessions", "accounts", nullable=False),
        _text("device"),
        _moment("created_at"),
        _moment("seen_at"),
        _moment("expires_at"),
        sa.UniqueConstraint("sha256", name="uq_sessions_sha256"),
    )
    _index("sessions", "account_id")
    op.create_table(
        "api_keys",
        _key("id"),
        _text("name"),
        _text("sha256"),
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("tokens_per_day", sa.BigInteger),
        _moment("created_at"),
        _moment("seen_at", nullable=True),
        _moment("ended_at", nullable=True),
        sa.UniqueConstraint("name", name="uq_api_keys_name"),
        sa.UniqueConstraint("sha256", name="uq_api_keys_sha256"),
    )
    op.create_table(
        "api_usage",
        sa.Column(
            "key_id",
            sa.String,
            sa.ForeignKey("api_keys.id", name="fk_api_usage_key_id_api_keys"),
            primary_key=True,
        ),
        _key("span"),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "responses",
        _key("id"),
        _text("owner"),
        _text("previous_id", nullable=True),
        sa.Column("body", sa.JSON, nullable=False),
        _moment("created_at"),
    )
    _index("responses", "owner")
    _index("responses", "created_at")
    op.create_table(
        "chats",
        sa.Column(
            "conversation_id",
            sa.String,
            sa.ForeignKey("conversations.id", name="fk_chats_conversation_id_conversations"),
            primary_key=True,
        ),
        _link("member_id", "chats", "members", nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        _moment("changed_at"),
    )
    _index("chats", "member_id", "changed_at")
    op.add_column("corrections", _text("licence", server_default=""))
    op.add_column("corrections", _text("state", server_default="accepted"))
    op.add_column("corrections", _moment("decided_at", nullable=True))
    _index("corrections", "state")


def downgrade() -> None:
    """Older versions of the program would train on corrections that nobody has reviewed."""
    raise NotImplementedError("restore a backup instead")


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String, primary_key=True)


def _text(
    name: str, *, nullable: bool = False, server_default: str | None = None
) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=nullable, server_default=server_default)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _link(name: str, table: str, to: str, *, nullable: bool = True) -> sa.Column[str]:
    key = sa.ForeignKey(f"{to}.id", name=f"fk_{table}_{name}_{to}")
    return sa.Column(name, sa.String, key, nullable=nullable)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
