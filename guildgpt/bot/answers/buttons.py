"""What a button carries: custom_ids that are read for years, and the actions they stand for.

A button outlives the process that sent it, so everything that a click needs is in its custom_id:
`guildgpt:1:up:<the id of the answer or comparison, 22 characters>`. The digit is the version of
the form; a form once sent is never taken out of `PATTERN`, a new one gets the next digit.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "up",
    "down",
    "again",
    "stop",
    "left",
    "right",
    "tie",
    "both_bad",
    "a",
    "b",
    "report",
    "forget",
    "keep",
    "download",
    "resolve",
    "seen",
    "older",
    "newest",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

# 16 bytes are 22 characters of base64url, of which the last carries 2 bits.
PATTERN = re.compile(
    rf"guildgpt:(?P<version>1):(?P<kind>{'|'.join(KINDS)}):(?P<id>[A-Za-z0-9_-]{{21}}[AQgw])"
)
"""For `discord.ui.DynamicItem(template=PATTERN)`; the whole custom_id has to match."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a click asks for, and the id (a UUID) of the answer, comparison or report it is about;
    for `forget`, `keep` and `download` it is about nobody but who clicks, and any id does. `label`
    is what stands on the button where its kind does not say it all."""

    kind: Kind
    id: str
    label: str = ""


Page = tuple[str, Sequence[Action]]
"""A text, and the buttons under it."""


def encode(action: Action) -> str:
    """The custom_id (at most 45 characters) of an action; ValueError for an id that is no UUID."""
    packed = base64.urlsafe_b64encode(uuid.UUID(action.id).bytes).decode().rstrip("=")
    return f"guildgpt:1:{action.kind}:{packed}"


def decode(custom_id: str) -> Action | None:
    """The action of a custom_id; None for one that is not ours."""
    found = PATTERN.fullmatch(custom_id)
    if found is None:
        return None
    packed = base64.urlsafe_b64decode(found["id"] + "==")
    kind: Kind = found["kind"]  # type: ignore[assignment]
    return Action(kind, str(uuid.UUID(bytes=packed)))
