"""databricks-dolly-15k: one question, perhaps a passage it is about, one answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from guildgpt.chat import Conversation, Message, Source
from guildgpt.data.files import read_records
from guildgpt.data.rows import Row, is_content, problem, question
from guildgpt.errors import DataError


def read(
    path: str | Path, *, name: str, skipped: Counter[str], notices: list[str] | None = None
) -> Iterator[Conversation]:
    """The rows of a file with the fields `instruction`, `context` (may be empty) and `response`.

    The context stands below the instruction in the user turn, a blank line between them. Rows
    that cannot be trained on are counted in `skipped` by reason. DataError for a row that says
    more than the three fields take.
    """
    for number, values in read_records(path, notices):
        where = f"{path}:{number}"
        missing = [key for key in ("instruction", "response") if key not in values]
        if missing:
            raise DataError(
                f"the row has no {' and no '.join(f'`{key}`' for key in missing)}, "
                f"only {', '.join(values) or 'nothing'}",
                where=where,
                remedy="Dolly's rows have instruction, context and response; is this "
                "another form? Then name the file without `dolly:`.",
            )
        row = Row(values, where)
        asked, context, answer = (
            row.text((key,)) for key in ("instruction", "context", "response")
        )
        if more := [key for key in row.unread((asked, context, answer)) if is_content(key)]:
            raise DataError(
                f"`{more[0]}` holds text that a row of Dolly's has no place for",
                where=where,
                remedy="Delete the column, or name the file without `dolly:`.",
            )
        messages = (Message("user", question(asked, context)), Message("assistant", answer))
        if reason := problem(messages):
            skipped[reason] += 1
        else:
            yield Conversation(messages, Source(name, Path(path).name, number))
