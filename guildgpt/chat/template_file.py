"""`template.json`: a chat template as it lies in a model folder, or inside a GGUF.

ChatML has the four keys that older versions know; every other template has all of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from guildgpt.chat.turn import Trim, Turn
from guildgpt.errors import ModelError, refuse_newer

TEMPLATE_KEY = "guildgpt.template"  # of a GGUF's metadata
CHATML_KEYS = {"name", "start", "end", "system"}
_TURNS = {"system_turn", "later_system", "user", "after_system", "assistant"}
_OPTIONAL = {"system_turn", "later_system", "after_system", "earlier", "last"}


def json_text(record: Mapping[str, Any]) -> str:
    """A file's text."""
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def read_values(text: str, where: Path, names: Sequence[str]) -> dict[str, Any]:
    """What a file's text says: ChatML's keys, or all of the `names` of a template's fields.

    Raises ModelError for a file of a newer version, ValueError, TypeError and KeyError for what is
    no such text.
    """
    record = json.loads(text)
    refuse_newer(record, where)
    if not isinstance(record, dict):
        raise TypeError("it holds no object")
    if record.keys() <= CHATML_KEYS:
        _check_texts(record)
        return record
    if different := sorted(record.keys() ^ set(names)):
        raise TypeError(f"it lacks `{different[0]}`, or has it and nobody knows it")
    values = {name: _value(name, value) for name, value in record.items()}
    if values["end"] not in values["control_tokens"]:
        raise ValueError("its `end` is no control token")
    if values["end"] not in values["assistant"].closing:
        raise ValueError("its `end` ends no answer")
    return values


def _value(name: str, value: Any) -> Any:
    if value is None and name in _OPTIONAL:
        return None
    if name in _TURNS:
        return _turn(value)
    if name == "control_tokens":
        _check_texts(dict(enumerate(value)))
        return tuple(value)
    _check_texts({name: value})
    return value


def _turn(record: Any) -> Turn:
    turn = Turn(**record)
    _check_texts(asdict(turn))
    if not {turn.left, turn.right} <= set(get_args(Trim)):
        raise ValueError(f"`{turn.left}`, `{turn.right}`: not known")
    return turn


def _check_texts(record: Mapping[Any, Any]) -> None:
    if not all(isinstance(value, str) for value in record.values()):
        raise TypeError("all its values are texts")


@contextmanager
def refusing_what_cannot_be_read(where: Path) -> Iterator[None]:
    """ModelError in words for whatever a file that is no template raises."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"the chat template cannot be read ({error})",
            where=where,
            remedy="Model folders made by `guildgpt train` carry one; was it copied whole?",
        ) from error
