"""Where the rows of a feedback export come from: the votes, ratings and messages behind each.

`guildgpt feedback export` gives every row an `origin`, a list of `kind:id`; in trees the messages
name themselves, and `origin` holds the votes and ratings. It comes along with the row, through any
mixture and every stage, into the model folder, so that an erasure can name the version.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guildgpt.data.files import read_records
from guildgpt.data.rows import type_name
from guildgpt.errors import DataError

KEY = "origin"
Events = set[tuple[str, str]]
"""Pairs of a kind (message, vote, rating, comparison) and an id of the feedback store's."""


@dataclass(slots=True)
class Origin:
    """What the rows of a file rest on; `unknown` of its `rows` do not say."""

    events: Events = field(default_factory=set)
    rows: int = 0
    unknown: int = 0


def written(events: Iterable[tuple[str, str]]) -> list[str]:
    """Events as a row carries them, in an order that does not change."""
    return sorted(f"{kind}:{id}" for kind, id in events)


def read_origin(path: str | Path) -> Origin:
    """What the rows of a file rest on; raises DataError at `file:line` where it cannot be read."""
    found = Origin()
    for number, row in read_records(path):
        events = events_of(row, f"{path}:{number}") | messages_of(row.get("prompt"))
        found.rows += 1
        found.unknown += not events
        found.events |= events
    return found


def events_of(row: dict[str, Any], where: str) -> Events:
    """What a row says that it rests on; DataError where that cannot be read."""
    value = row.get(KEY, [])
    if not isinstance(value, list):
        raise DataError(f"`{KEY}` is {type_name(value)}", where=where, remedy=_REMEDY)
    pairs = [item.partition(":") if isinstance(item, str) else ("", "", "") for item in value]
    if not all(kind and id for kind, _, id in pairs):
        raise DataError(f"`{KEY}` holds something else than ids", where=where, remedy=_REMEDY)
    return {(kind, id) for kind, _, id in pairs}


_REMEDY = 'It is a list of "kind:id", as `guildgpt feedback export` writes it.'


def messages_of(prompt: object) -> Events:
    """The messages of an Open-Assistant tree."""
    found: Events = set()
    waiting = [prompt]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict) and isinstance(node.get("message_id"), str):
            found.add(("message", node["message_id"]))
            replies = node.get("replies")
            waiting += replies if isinstance(replies, list) else []
    return found
