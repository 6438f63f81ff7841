"""What the store has to know to follow deletions, edits and reports.

A migration never changes once it is out, so it names columns itself and imports no schema.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and the guilds that were left."""
    op.add_column("conversations", sa.Column("home_id", sa.BigInteger))
    op.create_index("ix_conversations_home_id", "conversations", ["home_id"])
    op.add_column("messages", sa.Column("edited_at", sa.DateTime(timezone=True)))
    never = sa.Column("outdated", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("messages", never)
    op.add_column("deliveries", sa.Column("comparison_id", sa.String))
    op.create_index("ix_deliveries_comparison_id", "deliveries", ["comparison_id"])
    # Until now only the question led from a comparison's messages to it.
    op.execute(
        "UPDATE deliveries SET comparison_id = (SELECT min(comparisons.id) FROM comparisons "
        "WHERE comparisons.question_id = deliveries.question_id) WHERE kind = 'compare'"
    )
    op.add_column("reports", sa.Column("resolved_at", sa.DateTime(timezone=True)))
    op.create_table(
        "left_guilds",
        sa.Column("guild_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """Older versions of the program cannot follow what was taken back."""
    raise NotImplementedError("restore a backup instead")
