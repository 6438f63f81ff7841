"""Discord's marks in words: what people read as emoji, roles, channels, times, and it writes `<…>`.

People stay `<@id>`: their names go when they go.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from guildgpt.text.visible import clean

Name = Callable[[int], str | None]
"""What something with this id is called, if that is known."""

_ID = "[0-9]{1,20}"
_MARK = re.compile(
    rf"<(?:a?:(?P<emoji>\w{{1,32}}):{_ID}"
    rf"|@&(?P<role>{_ID})"
    rf"|#(?P<channel>{_ID})"
    r"|t:(?P<moment>-?[0-9]{1,13})(?::\w)?"
    rf"|/(?P<command>[^:<>\n]{{1,100}}):{_ID}"
    rf"|id:(?P<page>[\w-]{{1,32}})(?::{_ID})?)>"
)


def in_words(text: str, *, role: Name, channel: Name) -> str:
    """The text with `:emoji:`, `@role`, `#channel`, `/command` and times in UTC."""

    def worded(found: re.Match[str]) -> str:
        match found.lastgroup:
            case "emoji":
                return f":{found['emoji']}:"
            case "role":
                return f"@{_named(role, found['role'], 'unknown role')}"
            case "channel":
                return f"#{_named(channel, found['channel'], 'unknown')}"
            case "moment":
                return _moment(int(found["moment"])) or found[0]
            case "command":
                return f"/{found['command']}"
        return f"#{found['page']}"  # a page of the server, such as its guide

    return _MARK.sub(worded, text)


def _named(name: Name, id: str, unknown: str) -> str:
    return clean(name(int(id)) or "") or unknown


def _moment(seconds: int) -> str | None:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):  # nobody's calendar has it
        return None
    return f"{moment:%H:%M UTC} on {moment.date().isoformat()}"
