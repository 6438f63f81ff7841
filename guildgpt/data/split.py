"""Which side of the split a row falls on: decided by the row's own content, by nothing else.

A row keeps its side when other rows, sources, seeds or file formats change, and all rows that
begin with the same question (a tree's threads and comparisons, flat or nested) land together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

from guildgpt.chat import Comparison, Conversation, Message, Rejected, Task
from guildgpt.errors import DataError

Side = Literal["train", "held_out"]
AnyRow = TypeVar("AnyRow", Conversation, Rejected, Comparison, Task)


def split_side(item: Conversation | Rejected | Comparison | Task, held_out: float) -> Side:
    """The side of a row, where `held_out` is the held-out share, 0 to 1.

    What is hashed: the group the source gives, or else the first user turn without regard to case
    and spacing. Raising `held_out` only ever moves rows from train to held out.
    """
    return side_of(tree_of(item), held_out)


def tree_of(item: Conversation | Rejected | Comparison | Task) -> str:
    """What decides a row's side: its group, or else its first user turn, normalised."""
    return item.source.group or normalised(_opening(item.messages))


def unseen(rows: Sequence[AnyRow], shares: Sequence[float]) -> list[AnyRow]:
    """The rows that are on the held-out side for each of these shares; all where there is none."""
    return [row for row in rows if all(split_side(row, one) == "held_out" for one in shares)]


def in_first_half(item: Comparison) -> bool:
    """Which of two disjoint halves a comparison falls into, whole trees together.

    One half trains the reward model, the other its judge, so that a policy which found the faults
    of the first is not praised for them by the second.
    """
    return fraction("half", tree_of(item)) < 0.5


def side_of(text: str, held_out: float) -> Side:
    """The side of anything that a text stands for."""
    if not 0.0 <= held_out < 1.0:
        raise DataError(
            f"the held-out share is {held_out}, which leaves nothing to train on"
            if held_out >= 1.0
            else f"the held-out share is {held_out}, below nothing",
            remedy="Set `held_out` to a share from 0 up to, but not including, 1; 0.05 is usual.",
        )
    return "held_out" if fraction("split", text) < held_out else "train"


def fraction(*parts: str) -> float:
    """A fixed number in [0, 1) for these texts, uniform over texts (48 bits of their SHA-256)."""
    return int(digest(*parts)[:12], 16) / 2**48


def digest(*parts: str) -> str:
    """The SHA-256 of the texts, kept apart by a byte that UTF-8 does not use."""
    joined = b"\xff".join(part.encode("utf-8", "surrogatepass") for part in parts)
    return hashlib.sha256(joined).hexdigest()


def normalised(text: str) -> str:
    """The text without regard to case and spacing."""
    return " ".join(text.split()).casefold()


def wording(messages: Iterable[Message]) -> str:
    """What tells two prompts apart: who speaks, and the words without regard to case, spacing."""
    return "\n".join(f"{m.role}: {normalised(m.content)}" for m in messages)


def _opening(messages: Sequence[Message]) -> str:
    asked = (message.content for message in messages if message.role == "user")
    return next(asked, messages[0].content if messages else "")
