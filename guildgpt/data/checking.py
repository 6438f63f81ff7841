"""What must hold of every row before it is trained on."""

from __future__ import annotations

from guildgpt.chat import Conversation, Rendered, Source
from guildgpt.constraints import reading
from guildgpt.errors import DataError


def check_row(rendered: Rendered, end_id: int, conversation: Conversation) -> None:
    """DataError, with file and row, for a conversation that trains nothing, or whose last trained
    token is not the end of turn, or whose answer breaks a constraint of its own."""
    last = next((i for i in reversed(range(len(rendered.mask))) if rendered.mask[i]), None)
    if last is None:
        raise DataError(
            "nothing in this conversation is trained",
            where=str(conversation.source),
            remedy="It needs an assistant turn; add one or delete the row.",
        )
    if rendered.ids[last] != end_id:
        raise DataError(
            "the last trained token is not the end of turn",
            where=str(conversation.source),
            remedy="The template must train the token that ends an answer; check its `end`.",
        )
    check_constraints(conversation.source, conversation.messages[-1].content)


def check_constraints(source: Source, answer: str) -> None:
    """DataError where a row's constraints cannot be read, or its own answer breaks one."""
    given = source.rules.get("constraints")
    # Another set may have a column of that name which means something else.
    if isinstance(given, list) and any(isinstance(one, dict) and "kind" in one for one in given):
        reading.check(reading.read(given, str(source)), answer, str(source))
