"""databricks-dolly-15k: one question, perhaps a passage it is about, one answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guildgpt.chat import Conversation, Message, Source
from guildgpt.data.lines import read_json_lines
from guildgpt.data.rows import Row, is_content, problem, question, text_of
from guildgpt.errors import DataError


def read(path: str | Path, *, name: str, skipped: Counter[str]) -> Iterator[Conversation]:
    """The rows of a file with the fields `instruction`, `context` (may be empty) and `response`.

    The context stands below the instruction in the user turn, a blank line between them. Rows
    that cannot be trained on are counted in `skipped` by reason.
    """
    file = Path(path).name
    for number, row in read_json_lines(path):
        where = f"{path}:{number}"
        missing = [key for key in ("instruction", "response") if key not in row]
        if missing:
            raise DataError(
                f"the row has no {' and no '.join(f'`{key}`' for key in missing)}, "
                f"only {', '.join(row) or 'nothing'}",
                where=where,
                remedy="Dolly's rows have instruction, context and response; is this a `jsonl:` "
                "source?",
            )
        context = text_of(row, "context", where)
        messages = (
            Message("user", question(text_of(row, "instruction", where), context)),
            Message("assistant", text_of(row, "response", where)),
        )
        _refuse_more(row, where)
        if reason := problem(messages):
            skipped[reason] += 1
        else:
            yield Conversation(messages, Source(name, file, number))


def _refuse_more(values: dict[str, Any], where: str) -> None:
    """DataError for a row that says more than Dolly's three fields take."""
    row = Row(values, where)
    row.read = dict.fromkeys(("instruction", "context", "response"))
    told = [text_of(values, key, where) for key in row.read]
    if more := [column for column in row.unread(told) if is_content(column)]:
        raise DataError(
            f"`{more[0]}` holds text that a row of Dolly's has no place for",
            where=where,
            remedy="Delete the column, or read the file as a `jsonl:` source.",
        )
