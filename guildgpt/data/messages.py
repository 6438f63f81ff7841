"""The turns in a row's columns: messages in every dialect, parts of a message, a written talk."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from guildgpt.chat import Message, Role
from guildgpt.data.rows import (
    CALLS,
    CONTENT_KEYS,
    HISTORY,
    PASSAGE,
    ROLE_KEYS,
    SYSTEM,
    TURNS,
    Row,
    clean,
    is_no,
    question,
    role_of,
    text_of,
    type_name,
)
from guildgpt.errors import DataError

HUMAN_ASSISTANT = re.compile(r"(?:^|\n\n)(Human|Assistant):")  # how HH-RLHF writes turns

# Turns and parts of turns that nothing here is trained on: a row that has one is left out.
TOOLS, PICTURES = "calls tools", "has pictures or sound"
TOOL_ROLES = frozenset(
    (
        *("tool", "tool_call", "tool_response", "tool_result"),
        *("function", "function_call", "function_response"),
        *("observation", "ipython", "environment"),
    )
)
TEXT_PARTS = frozenset(("text", "input_text", "output_text"))
OTHER_PARTS = {
    **dict.fromkeys(("tool_use", "tool_result", "tool_call", "python", "python_output"), TOOLS),
    **dict.fromkeys(("image", "image_url", "input_image", "video", "video_url"), PICTURES),
    **dict.fromkeys(("audio", "audio_url", "input_audio"), PICTURES),
}
WEIGHTS = ("weight", "train", "loss")  # of a message: 0 or false, and it is not trained

Turns = tuple[Message, ...]


def asked(row: Row, name: str) -> Turns:
    """The earlier turns, and the question in the column `name` with a passage below it."""
    turns = turns_in(row, name, "user")
    if len(turns) == 1 and not _speaks(row.values[name]):
        text = turns[0].content
        for passage in PASSAGE:
            if passage != name:
                text = question(text, row.text((passage,)))
        turns = (Message("user", text),)
    return _history(row) + turns


def with_system(row: Row, turns: Turns) -> Turns:
    """The turns, opened by the row's own system text if it has one and they have not."""
    if turns and turns[0].role == "system":
        return turns
    system = row.text(SYSTEM)
    return (Message("system", system), *turns) if system else turns


def turns_in(row: Row, name: str, role: Role) -> Turns:
    """The turns in a column: a list of messages, one message, or a text, spoken by `role` unless
    it names the speakers itself."""
    value = row.take(name)
    if name in (*TURNS, *HISTORY):
        value = _from_json(value)
    elif isinstance(value, str):
        text = clean(value)
        return _transcript(text) or (Message(role, text),)
    elif _is_parts(value):
        return (Message(role, _content(value, name, row)),)
    if _speaks(value) and isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError(
            f"`{name}` is {type_name(value)}"
            + (" of other things than objects" if isinstance(value, list) else ""),
            where=row.where,
            remedy=f'Write a list of messages: "{name}": [{{"role": "user", "content": "…"}}, …].',
        )
    found = (_message(item, row) for item in value)
    return tuple(message for message in found if message)


def _history(row: Row) -> Turns:
    """The turns before the question: messages, or pairs of a question and its answer."""
    name = row.find(HISTORY)
    if name is None or not row.says(name):
        return ()
    value = _from_json(row.values[name])
    if isinstance(value, list) and all(_is_pair(item) for item in value):
        row.take(name)
        texts = [clean(text) for pair in value for text in pair]
        roles: list[Role] = ["user", "assistant"]
        return tuple(Message(roles[at % 2], text) for at, text in enumerate(texts))
    return turns_in(row, name, "user")


def _is_pair(item: object) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(isinstance(t, str) for t in item)


def _from_json(value: Any) -> Any:
    """The list in a text, as a table has it; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            pass
    return value


def _speaks(value: Any) -> bool:
    """Whether a value names who speaks, as a message does, or a list of them."""
    if isinstance(value, list):
        return any(map(_speaks, value))
    return isinstance(value, dict) and any(key in value for key in ROLE_KEYS)


def _transcript(text: str) -> Turns:
    """The turns of a text that writes a talk as HH-RLHF does, from "Human: …" on; else none.

    An "Assistant:" with nothing behind it asks for the answer, and is no turn.
    """
    if not text.startswith("Human:"):
        return ()
    parts = HUMAN_ASSISTANT.split(text)
    if len(parts) < 5 or parts[0] or parts[1] != "Human" or "Assistant" not in parts[1::2]:
        return ()
    turns = [
        Message(role_of(who, ""), clean(said))
        for who, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
    return tuple(turns if turns[-1].content else turns[:-1])


def _message(item: dict[str, Any], row: Row) -> Message | None:
    """A turn; None for a tool's, which the row's fault then tells."""
    has_content = any(key in item for key in CONTENT_KEYS)
    item = {key: value for key, value in item.items() if value is not None}
    speaker = next((key for key in ROLE_KEYS if key in item), None)
    said = next((key for key in CONTENT_KEYS if key in item), None)
    calls = [key for key in CALLS if item.get(key)]
    is_tool = speaker and str(item[speaker]).strip().lower().replace("-", "_") in TOOL_ROLES
    if calls or is_tool:
        row.fault = TOOLS
        return None
    if speaker is None or not has_content:
        raise DataError(
            f"a message has only the keys {', '.join(item) or '(none)'}",
            where=row.where,
            remedy='Write a message as {"role": "user", "content": "…"}.',
        )
    role = role_of(item[speaker], row.where, row.roles)
    trained = True
    for key in item:
        if key in (speaker, said):
            continue
        if key in WEIGHTS and (no := is_no(item[key])) is not None:
            trained = trained and not no
        else:
            row.inside.setdefault(f"messages.{key}", []).append(item[key])
    content = _content(item[said], said, row) if said else ""
    return Message(role, content, trained=trained or role != "assistant")


def _is_parts(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(part, dict) and "type" in part for part in value)
        and not _speaks(value)
    )


def _content(value: Any, key: str, row: Row) -> str:
    """What a message says: a text, or parts of it, which then stand below one another."""
    if not _is_parts(value):
        return text_of({key: value}, key, row.where)
    return clean("\n".join(_part(part, row) for part in value))


def _part(part: Mapping[str, Any], row: Row) -> str:
    kind = part["type"]
    if kind in TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(kind, str) and kind in OTHER_PARTS:
        row.fault = OTHER_PARTS[kind]
        return ""
    raise DataError(
        f"a part of a message is of the type {kind!r}, and has no text that is known",
        where=row.where,
        remedy='Write a part as {"type": "text", "text": "…"}.',
    )
