"""What the circle needs to go round by itself: what its gate measured, what it did night by night,
pairs that a reward model is unsure of, and whose votes were excluded.

A migration never changes once it is out, so it names columns itself and imports no schema.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables, and what is to be known of decisions and rounds."""
    op.add_column("decisions", sa.Column("gate", sa.JSON, nullable=True))
    op.create_table(
        "circle_log",
        sa.Column("id", sa.String, primary_key=True),
        _link("decision_id", "circle_log", "decisions", nullable=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        _moment("created_at"),
    )
    _index("circle_log", "decision_id")
    _index("circle_log", "created_at")
    op.add_column("rounds", sa.Column("drawn", sa.String, nullable=False, server_default="random"))
    op.add_column(
        "round_means", sa.Column("excluded", sa.Integer, nullable=False, server_default="0")
    )
    op.create_table(
        "proposals",
        sa.Column("id", sa.String, primary_key=True),
        _link("prompt_id", "proposals", "prompts"),
        sa.Column("answers", sa.JSON, nullable=False),
        sa.Column("unsure", sa.Float, nullable=False),
        _moment("created_at"),
        _moment("taken_at", nullable=True),
    )
    _index("proposals", "prompt_id")
    _index("proposals", "taken_at")


def downgrade() -> None:
    """Older versions of the program would take a candidate at its gate for one that waits."""
    raise NotImplementedError("restore a backup instead")


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _link(name: str, table: str, to: str, *, nullable: bool = False) -> sa.Column[str]:
    key = sa.ForeignKey(f"{to}.id", name=f"fk_{table}_{name}_{to}")
    return sa.Column(name, sa.String, key, nullable=nullable)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
