"""`template.json`: a chat template as it lies in a model folder, or inside a GGUF.

ChatML is written as older versions wrote it, so that they read it: `name`, `start`, `end` and
`system`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from guildgpt.chat.template import CHATML, ChatTemplate, Trim, Turn
from guildgpt.errors import ModelError, refuse_newer

TEMPLATE_KEY = "guildgpt.template"  # of a GGUF's metadata

_CHATML_KEYS = {"name", "start", "end", "system"}
_TURNS = {"system_turn", "later_system", "user", "after_system", "assistant"}
_OPTIONAL = {"system_turn", "later_system", "after_system", "earlier", "last"}


def chatml(
    start: str, end: str, *, name: str = "chatml", system: str = "", begin: str = ""
) -> ChatTemplate:
    """ChatML with control tokens of these names; `begin` opens every conversation."""

    def turn(role: str) -> Turn:
        return Turn(f"{start}{role}\n", f"{end}\n")

    return ChatTemplate(
        name=name,
        system=system,
        end=end,
        control_tokens=(*([begin] if begin else []), start, end),
        begin=begin,
        system_turn=turn("system"),
        later_system=turn("system"),
        user=turn("user"),
        assistant=turn("assistant"),
    )


def to_json(template: ChatTemplate) -> str:
    """The file's text."""
    record: dict[str, Any] = asdict(template)
    start = template.control_tokens[0]
    if template == chatml(start, template.end, name=template.name, system=template.system):
        record = {
            "name": template.name,
            "start": start,
            "end": template.end,
            "system": template.system,
        }
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def read_file(path: Path) -> str:
    """The text of a template.json."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _unreadable(error, path) from error


def from_json(text: str, where: Path) -> ChatTemplate:
    """The template that a file's text holds; ModelError where it holds none."""
    try:
        record = json.loads(text)
        refuse_newer(record, where)
        if not isinstance(record, dict):
            raise TypeError("it holds no object")
        if record.keys() <= _CHATML_KEYS:
            _check_texts(record)
            start, end = CHATML.control_tokens
            return chatml(**{"start": start, "end": end, **record})
        return _whole(record)
    except (ValueError, TypeError, KeyError) as error:
        raise _unreadable(error, where) from error


def _whole(record: dict[str, Any]) -> ChatTemplate:
    names = {field.name for field in fields(ChatTemplate)}
    if different := sorted(record.keys() ^ names):
        raise TypeError(f"it lacks `{different[0]}`, or has one that is not known")
    values: dict[str, Any] = {}
    for name, value in record.items():
        if value is None and name in _OPTIONAL:
            values[name] = None
        elif name in _TURNS:
            values[name] = _turn(value)
        elif name == "control_tokens":
            _check_texts(dict(enumerate(value)))
            values[name] = tuple(value)
        else:
            _check_texts({name: value})
            values[name] = value
    template = ChatTemplate(**values)
    if (
        template.end not in template.control_tokens
        or template.end not in template.assistant.closing
    ):
        raise ValueError("its `end` ends no answer")
    return template


def _turn(record: Any) -> Turn:
    turn = Turn(**record)
    _check_texts(asdict(turn))
    if not {turn.left, turn.right} <= set(get_args(Trim)):
        raise ValueError(f"`{turn.left}`, `{turn.right}`: not known")
    return turn


def _check_texts(record: dict[Any, Any]) -> None:
    if not all(isinstance(value, str) for value in record.values()):
        raise TypeError("all its values are texts")


def _unreadable(error: Exception, where: Path) -> ModelError:
    return ModelError(
        f"the chat template cannot be read ({error})",
        where=where,
        remedy="Model folders made by `guildgpt train` carry one; was it copied whole?",
    )
