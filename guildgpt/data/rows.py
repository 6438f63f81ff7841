"""What all readers share: clean texts, roles, what makes a row unusable; a row's columns.

Which column means what, which were read, and what would be lost unread: the names are data, and a
column that other sets call otherwise is one more word in a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from guildgpt.chat import Message, Role
from guildgpt.errors import DataError

ROLE_NAMES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "prompter": "user",
    "human": "user",
    "assistant": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "gpt": "assistant",
}

# JSON can spell half of a surrogate pair, which is no character and which no tokenizer takes.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """The text with LF line ends and nothing blank around it; broken characters become U+FFFD."""
    return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").strip())


def text_of(row: Mapping[str, Any], key: str, where: str) -> str:
    """The clean text under `key`; nothing or null counts as '', any other type is an error."""
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"`{key}` is {type_name(value)}, not text",
            where=where,
            remedy=f'Write it as a string: "{key}": "…".',
        )
    return clean(value)


def question(instruction: str, context: str) -> str:
    """The user turn: the instruction and, a blank line below it, the context if there is one."""
    return "\n\n".join(part for part in (instruction, context) if part)


def role_of(value: object, where: str) -> Role:
    """The role by any of its names; an unknown one is an error."""
    role = ROLE_NAMES.get(value) if isinstance(value, str) else None
    if role is None:
        raise DataError(
            f"{value!r} is no role",
            where=where,
            remedy="The roles are system, user (also prompter, human) and assistant (also bot, "
            "model, gpt).",
        )
    return role


def problem(messages: Iterable[Message], *, answered: bool = True) -> str | None:
    """Why a conversation, or a prompt if not `answered`, cannot be used; None if it can."""
    turns = list(messages)
    asked = [turn.content for turn in turns if turn.role == "user"]
    answers = [turn.content for turn in turns if turn.role == "assistant"]
    problems = {
        "empty conversation": not any(turn.content for turn in turns),
        "no assistant turn": answered and not answers,
        "empty answer": not all(answers),
        "empty prompt": not all(asked),
    }
    return next((problem for problem, holds in problems.items() if holds), None)


def type_name(value: object) -> str:
    """JSON's name of the value's type, with its article."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


# Of each, the first name that says something in a row is the one that is read.
TURNS = ("messages", "conversations")
SYSTEM = ("system", "system_prompt")
QUESTION = ("prompt", "instruction", "question", "query", "input")
PASSAGE = ("input", "context")  # stand below the question, unless one of them is the question
HISTORY = ("history",)
ANSWER = ("completion", "output", "response", "answer")
BETTER = ("chosen",)
WORSE = ("rejected",)

CALLS = ("tools", "functions", "tool_calls", "function_call")  # never read: no template has them

# What was said or told, by name: a row is refused rather than read without it.
CONTENT = frozenset(
    (*TURNS, *SYSTEM, *QUESTION, *PASSAGE, *HISTORY, *ANSWER, *BETTER, *WORSE, *CALLS)
)
RULES = ("tests", "format", "constraints")  # what an answer must keep: read by the rewards
APART = frozenset(("group", "label", "origin", *RULES))  # about the row, and read elsewhere

GOOD = frozenset(("true", "1", "1.0", "yes", "good", "up", "positive", "chosen"))
BAD = frozenset(("false", "0", "0.0", "-1", "-1.0", "no", "bad", "down", "negative", "rejected"))


class Row:
    """A row's columns, those that are null left out, and which of them were read."""

    def __init__(self, values: Mapping[str, Any], where: str):
        self.values = {key: value for key, value in values.items() if value is not None}
        self.null = [key for key, value in values.items() if value is None]
        self.where = where
        self.read: dict[str, None] = {}  # in the order of reading
        self.fault: str | None = None  # why it cannot be used, where its messages say so

    def find(self, names: Iterable[str]) -> str | None:
        """The first of `names` that says something, else the first that is there at all."""
        there = [name for name in names if name in self.values]
        return next((name for name in there if self.says(name)), there[0] if there else None)

    def says(self, name: str | None) -> bool:
        """Whether the column is there and neither blank nor an empty list."""
        value = self.values.get(name) if name is not None else None
        return bool(value.strip() if isinstance(value, str) else value)

    def take(self, name: str) -> Any:
        """The column's value, which counts as read from here on."""
        self.read[name] = None
        return self.values[name]

    def text(self, names: Iterable[str]) -> str:
        """The clean text in the first of these columns; '' where there is none."""
        name = self.find(names)
        if name is None:
            return ""
        self.read[name] = None
        return text_of(self.values, name, self.where)

    def unread(self, told: Iterable[str]) -> list[str]:
        """The columns whose text would be lost: neither read, nor among the texts `told`."""
        known = set(told)
        return [
            key
            for key, value in self.values.items()
            if key not in self.read
            and key not in APART
            and (is_content(key) or _reads_like_content(value))
            and any(text not in known for text in _texts(value))
        ]


def is_bad(value: object, key: str, where: str) -> bool:
    """What a label says of its row: true where it is bad, false where it is good or not labelled.

    DataError for a value that is neither.
    """
    said = str(value).strip().lower() if isinstance(value, (str, bool, int, float)) else None
    if value is None or said == "" or said in GOOD:
        return False
    if said in BAD:
        return True
    shown = repr(value) if said is not None else type_name(value)
    raise DataError(
        f"`{key}` is {shown}, which says neither good nor bad",
        where=where,
        remedy="Write true or false (1 or 0), or give the column another name if it is none.",
    )


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, clean; of a message its content alone."""
    if isinstance(value, dict):
        content = [value[key] for key in ("content", "value") if key in value]
        value = content or list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, str) and (text := clean(value)):
        yield text


def is_content(column: str) -> bool:
    """Whether a column's name, or its message's key, is one that holds what was said."""
    return column.rpartition(".")[2] in CONTENT


def _reads_like_content(value: Any) -> bool:
    """Whether a column of no known name holds sentences, rather than ids, dates and categories."""
    return any(
        len(text.split()) > 3 or text.endswith(("?", "？")) or any(c >= "\u2e80" for c in text)
        for text in _texts(value)
    )
