"""What a reviewer should know of a correction before they accept it: that it may be pasted.

A model that imitates what another model wrote learns nothing of this guild, and what was copied is
not its giver's to give. Nobody can be sure by the words alone, so nothing is refused for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, func, select

from guildgpt.feedback.records import Correction
from guildgpt.feedback.storage.rows import among
from guildgpt.feedback.storage.schema import corrections, messages

CHARACTERS_A_SECOND = 15.0  # some 180 words a minute: few type so fast, and nobody thinks so fast

A_MODELS = "a model has given this very answer"


def suspicions(connection: Connection, waiting: Sequence[Correction]) -> dict[str, tuple[str, ...]]:
    """By the id of each correction that waits, what speaks for its having been pasted, in words."""
    given = select(corrections).where(corrections.c.text != "")
    rows = connection.execute(given.order_by(corrections.c.created_at, corrections.c.id)).all()
    words = {row.id: _words(row.text) for row in rows}
    # Somebody may word the same answer anew, and say the same again.
    on = {(words[row.id], row.message_id, row.member_id or row.id) for row in rows}
    under = Counter(said for said, message in {(said, message) for said, message, _ in on})
    people = Counter(said for said, person in {(said, person) for said, _, person in on})
    theirs = {one.text.strip() for one in waiting}
    answers = select(func.trim(messages.c.text)).where(
        messages.c.role == "assistant",
        ~messages.c.deleted,
        among(connection, func.trim(messages.c.text), theirs),
    )
    by_models = set(connection.scalars(answers))
    last: dict[str | None, datetime] = {}
    fast = set()
    for row in rows:
        if (before := last.get(row.member_id)) is not None and row.member_id:
            seconds = (row.created_at - before).total_seconds()
            if 0 <= seconds * CHARACTERS_A_SECOND < len(row.text):
                fast.add(row.id)
        last[row.member_id] = row.created_at

    def said_of(one: Correction) -> tuple[str, ...]:
        said = words[one.id]
        others = under[said] - 1
        flags = [
            (
                others > 0,
                f"the same words stand under {others:,} other answer{'s' * (others != 1)}",
            ),
            (people[said] > 1, "somebody else has offered the same words"),
            (one.text.strip() in by_models, A_MODELS),
            (one.id in fast, "it came faster after their last one than people write"),
        ]
        return tuple(text for holds, text in flags if holds)

    return {one.id: said_of(one) for one in waiting}


def _words(text: str) -> str:
    return " ".join(text.split()).casefold()
