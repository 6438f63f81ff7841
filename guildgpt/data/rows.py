"""What all readers share: clean text, the roles' names, and what makes a row unusable."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
