"""What all readers share: clean texts, roles, what makes a row unusable; a row's columns.

Which column means what, which were read, and what would be lost unread: the names are data, and a
column that other sets call otherwise is one more word in a table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from guildgpt.chat import Message, Role
from guildgpt.errors import DataError

# What sets call those who speak, in whatever case.
ROLES: dict[Role, tuple[str, ...]] = {
    "system": ("system", "developer"),
    "user": ("user", "prompter", "human"),
    "assistant": ("assistant", "bot", "model", "gpt", "chatgpt", "bing", "bard", "ai"),
}
ROLE_NAMES: dict[str, Role] = {name: role for role, names in ROLES.items() for name in names}
ROLE_KEYS = ("role", "from", "speaker")
CONTENT_KEYS = ("content", "value", "text")

# JSON can spell half of a surrogate pair, which is no character and which no tokenizer takes.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """The text with LF line ends and nothing blank around it; broken characters become U+FFFD."""
    return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").strip())


def printable(text: str) -> str:
    r"""The text with what no file or screen in UTF-8 takes spelled out: a name on an old disk that
    is not written in UTF-8, half of a surrogate pair in a key: `gr\udcfc`."""
    return text.encode("utf-8", "backslashreplace").decode()


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


def role_of(value: object, where: str, roles: Mapping[str, Role] | None = None) -> Role:
    """The role by any of its names, or by those in `roles`; an unknown one is an error."""
    name = value if isinstance(value, str) else ""
    role = (roles or {}).get(name) or ROLE_NAMES.get(name.strip().lower())
    if role is None:
        known = ", ".join(f"{role} (also {', '.join(n[1:])})" for role, n in ROLES.items())
        raise DataError(
            f"{value!r} is no role",
            where=where,
            remedy=f"The roles are {known}. For another name say in the source of the recipe who "
            f'it is: roles = {{ {json.dumps(name)} = "user" }}',
        )
    return role


def is_message(value: object) -> bool:
    """Whether an object is one message of a talk, and not a row (as Open-Assistant's are)."""
    return (
        isinstance(value, dict)
        and any(isinstance(value.get(key), str) for key in ROLE_KEYS)
        and any(key in value for key in CONTENT_KEYS)
        and not {"message_id", "parent_id"} & value.keys()
    )


def problem(messages: Iterable[Message], *, answered: bool = True) -> str | None:
    """Why a conversation, or a prompt if not `answered`, cannot be used; None if it can."""
    turns = list(messages)
    asked = [turn.content for turn in turns if turn.role == "user"]
    answers = [turn for turn in turns if turn.role == "assistant"]
    problems = {
        "empty conversation": not any(turn.content for turn in turns),
        "no assistant turn": answered and not answers,
        "empty answer": not all(turn.content for turn in answers),
        "empty prompt": not all(asked),
        "every answer has the weight 0": answers and not any(turn.trained for turn in answers),
    }
    return next((problem for problem, holds in problems.items() if holds), None)


def type_name(value: object) -> str:
    """JSON's name of the value's type, with its article; a column file knows more types."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    names |= {int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), f"of the type {type(value).__name__}")


# Of each, the first name that says something in a row is the one that is read.
TURNS = ("messages", "conversations", "conversation")
SYSTEM = ("system", "system_prompt")
QUESTION = ("prompt", "instruction", "question", "query", "input")
PASSAGE = ("input", "context")  # stand below the question, unless one of them is the question
HISTORY = ("history",)
ANSWER = ("completion", "output", "response", "answer")
BETTER = ("chosen",)
WORSE = ("rejected",)

CALLS = ("tools", "functions", "tool_calls", "function_call")  # no row that has them is trained

# What was said or told, by name: a row is refused rather than read without it.
CONTENT = frozenset(
    (*TURNS, *SYSTEM, *QUESTION, *PASSAGE, *HISTORY, *ANSWER, *BETTER, *WORSE, *CALLS)
)
RULES = ("tests", "format", "constraints")  # what an answer must keep: read by the rewards
APART = frozenset(("group", "label", "origin", *RULES))  # about the row, and read elsewhere

GOOD = frozenset(("true", "1", "1.0", "yes", "good", "up", "positive", "chosen"))
BAD = frozenset(("false", "0", "0.0", "-1", "-1.0", "no", "bad", "down", "negative", "rejected"))


class Row:
    """A row's columns, those that are null left out, and which of them were read.

    `columns` says under which name of the file one of ours stands, `roles` who its speakers are.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        where: str,
        columns: Mapping[str, str] | None = None,
        roles: Mapping[str, Role] | None = None,
    ):
        self.absent = {name: [*values] for name in (columns or {}).values() if lacks(values, name)}
        values = renamed(values, columns) if columns else values
        self.values = {key: value for key, value in values.items() if value is not None}
        self.null = [key for key, value in values.items() if value is None]
        self.inside: dict[str, list[Any]] = {}  # what its messages say besides, by their keys
        self.where = where
        self.roles = roles
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
        return [column for column, is_text in self.left(told) if is_text]

    def left(self, told: Iterable[str]) -> Iterator[tuple[str, bool]]:
        """Each column that was not read and repeats nothing of `told`; whether its text would be
        lost, or it holds none: ids, dates, categories."""
        known = set(told)
        for column, value in chain(self.values.items(), self.inside.items()):
            if column in self.read or column in APART or value in ("", [], {}):
                continue
            texts = list(_texts(value))
            if not texts or any(text not in known for text in texts):
                yield column, bool(texts) and (is_content(column) or _is_said(texts))


def renamed(values: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """A row under our names: `columns` says where each of ours stands, `a.b` being the key `b` of
    the object `a`. What the file has under that name itself is kept under another."""
    theirs = set(columns.values())
    own = {
        f"{key} (the file's own)" if key in columns else key: value
        for key, value in values.items()
        if key not in theirs
    }
    return own | {ours: found(values, name) for ours, name in columns.items()}


def found(values: Mapping[str, Any], name: str) -> Any:
    """The value under a name, or under a path of them; None where there is none."""
    if name in values:
        return values[name]
    first, _, rest = name.partition(".")
    inner = values.get(first) if rest else None
    return found(inner, rest) if isinstance(inner, dict) else None


def lacks(values: Mapping[str, Any], name: str) -> bool:
    """Whether neither the name nor the path that it may be is there, be it null."""
    return name.partition(".")[0] not in values and name not in values


def is_no(value: object) -> bool | None:
    """Whether a value says no (false, 0, "bad"), or yes; None where it says neither."""
    said = str(value).strip().lower() if isinstance(value, (str, bool, int, float)) else None
    return True if said in BAD else False if said in GOOD else None


def label_of(value: object, key: str, where: str) -> bool | None:
    """What a label says of its row: whether it is good; None where it is not labelled.

    DataError for a value that says neither.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    bad = is_no(value)
    if bad is None:
        shown = repr(value) if isinstance(value, (str, int, float)) else type_name(value)
        raise DataError(
            f"`{key}` is {shown}, which says neither good nor bad",
            where=where,
            remedy="Write true or false (1 or 0), or give the column another name if it is none.",
        )
    return not bad


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


def _is_said(texts: Iterable[str]) -> bool:
    """Whether these are sentences, rather than ids, dates and categories."""
    return any(
        len(text.split()) > 3 or text.endswith(("?", "？")) or any(c >= "\u2e80" for c in text)
        for text in texts
    )
