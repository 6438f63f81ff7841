"""What the rounds of a decision said when they closed, which no erasure changes any more.

A migration never changes once it is out, so it names columns itself and imports no schema.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, and what rounds that are closed already say by the votes that stand."""
    op.create_table(
        "round_means",
        sa.Column(
            "decision_id",
            sa.String,
            sa.ForeignKey("decisions.id", name="fk_round_means_decision_id_decisions"),
            primary_key=True,
        ),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column(
            "round_id",
            sa.String,
            sa.ForeignKey("rounds.id", name="fk_round_means_round_id_rounds"),
        ),
        sa.Column("mean", sa.Float),
        sa.Column("voters", sa.Integer, nullable=False),
        sa.Column("people", sa.Integer, nullable=False),
        sa.UniqueConstraint("round_id", name="uq_round_means_round_id"),
    )
    if rows := _rows():
        means = sa.table("round_means", *map(sa.column, rows[0]))
        op.get_bind().execute(means.insert(), rows)


def downgrade() -> None:
    """Older versions of the program would let an erasure change what was decided by."""
    raise NotImplementedError("restore a backup instead")


def _rows() -> list[dict[str, Any]]:
    """Of each round in a guild, in the order in which they closed, if it was between a candidate
    and who serves."""
    closed = op.get_bind().execute(
        sa.text(
            "SELECT r.id, r.decision_id, r.comparison_id, d.candidate_id, d.baseline_id "
            "FROM rounds r JOIN decisions d ON d.id = r.decision_id "
            "WHERE r.state IN ('closing', 'closed') AND r.place <> 'terminal' "
            "AND d.candidate_id IS NOT NULL ORDER BY r.closed_at, r.id"
        )
    )
    numbers: dict[str, int] = {}
    people: dict[str, set[str]] = {}
    rows = []
    for round_id, decision, comparison, candidate, baseline in closed.all():
        wrote = _wrote(comparison)
        if sorted(map(str, wrote)) != sorted([candidate, str(baseline)]):
            continue
        said = _said(comparison, wrote.index(candidate))
        numbers[decision] = numbers.get(decision, 0) + 1
        people.setdefault(decision, set()).update(said)
        values = [value for each in said.values() for value in each]
        rows.append(
            {
                "decision_id": decision,
                "number": numbers[decision],
                "round_id": round_id,
                "mean": sum(values) / len(values) if values else None,
                "voters": len(values),
                "people": len(people[decision]),
            }
        )
    return rows


def _wrote(comparison: str) -> list[str | None]:
    """The versions that wrote its answers, in the order shown."""
    wanted = sa.text(
        "SELECT m.version_id FROM candidates c JOIN messages m ON m.id = c.message_id "
        "WHERE c.comparison_id = :comparison ORDER BY c.position"
    )
    return list(op.get_bind().scalars(wanted, {"comparison": comparison}))


def _said(comparison: str, position: int) -> dict[str, list[float]]:
    """By voter, what they said of the answer at that position; those without a name as one."""
    names = ("id", "comparison_id", "member_id", "verdict", "created_at")
    cast = sa.table("votes", *map(sa.column, names), sa.column("ranking", sa.JSON))
    wanted = sa.select(cast.c.member_id, cast.c.verdict, cast.c.ranking)
    wanted = wanted.where(cast.c.comparison_id == comparison)
    said: dict[str, list[float]] = {}
    ordered = wanted.order_by(cast.c.created_at, cast.c.id)
    for member, verdict, ranking in op.get_bind().execute(ordered):
        value = list(_values(verdict, ranking, position))
        said[member or ""] = value if member else said.get("", []) + value
    return {member: values for member, values in said.items() if values}


def _values(verdict: str, ranking: list[int], position: int) -> Iterable[float]:
    if verdict == "ranked":
        yield float(ranking[0] == position)
    elif verdict != "skip":
        yield 0.5
