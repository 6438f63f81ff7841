"""A conversation is fitted into a model's context: what the model is told of it.

The rule: the system text and the question always stay. Exchanges (what was said to the model, and
its answer) are left out whole, the oldest first, until the rest fits. If the question alone is too
long, its middle is cut out and a mark put there.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from guildgpt.chat import Message, Role
from guildgpt.errors import GuildError
from guildgpt.talk.fleet import OpenedModel
from guildgpt.text.visible import clean

MARK = "\n[… a part is left out here …]\n"
LEAST_QUESTION = 32  # characters of a cut question; with less it would say nothing
QUESTION = 256  # tokens that a question may take at least; in a small context a quarter of a prompt
LONGEST_NAME = 32
NOBODY = "member"

_ROLES = re.compile(
    "ai|assistant|bot|developer|function|gpt|human|instructions?|model|prompter|response|system"
    "|tool|user"
)
_TOKENS = (
    ["im", "start"],
    ["im", "end"],
    ["endoftext"],
)  # what is left of a control token without its signs
_NOT_IN_NAMES = re.compile(r"[<>|:\[\]{}#`\\*\s\x00-\x1f]+")

Count = Callable[[Sequence[Message]], int]


class NoRoom(GuildError):
    """A system text leaves no room for a question."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What goes to the template, and how many of the earliest messages were left out."""

    messages: list[Message]
    dropped: int


def fit(
    path: Sequence[Message], question: Message, *, system: str, count: Count, room: int
) -> Fitted:
    """The messages for `question`, asked at the end of `path` (root first), in `room` tokens.

    As `keep_latest` does it; a question that is too long on its own loses its middle. Raises
    `NoRoom` if the system text leaves no room for a question.
    """
    fitted = keep_latest(path, question, system=system, count=count, room=room)
    if count(fitted.messages) <= room:
        return fitted
    *head, asked = fitted.messages
    text = question.content
    prefix = asked.content.removesuffix(text)

    def shortened(kept: int) -> list[Message]:
        """As many characters of both ends of the question as are kept."""
        front, back = text[: (kept + 1) // 2].rstrip(), text[len(text) - kept // 2 :].lstrip()
        return [*head, Message("user", f"{prefix}{front}{MARK}{back}")]

    lengths = range(len(text))
    kept = bisect_left(lengths, True, key=lambda kept: count(shortened(kept)) > room) - 1
    if kept < LEAST_QUESTION:
        raise NoRoom(
            f"the system text leaves no room for a question in {room} tokens",
            remedy="Shorten the system text, or open the model with a larger context.",
        )
    return Fitted(shortened(kept), fitted.dropped)


def keep_latest(
    path: Sequence[Message], question: Message, *, system: str, count: Count, room: int
) -> Fitted:
    """The system text (if any), as many of the latest exchanges as fit, and the question: that
    stays whole, though it may be too long for `room` tokens on its own.

    `count` gives the tokens of a list of messages. Messages without text are left out, consecutive
    ones of one side are joined. If more than one person speaks in the whole conversation, users'
    messages begin with `name: ` (`name_for`).
    """
    users = [one for one in path if one.role == "user" and one.content.strip()]
    several = len({one.name for one in (*users, question)}) > 1
    head = [Message("system", system)] if system.strip() else []

    def messages(start: int) -> list[Message]:
        said = [one for one in path[start:] if one.content.strip()]
        told = [_told(one, several) for one in (*said, question)]
        return [*head, *_joined(told)]

    starts = [*_exchanges(path), len(path)]
    # The fewest exchanges dropped such that the rest fits: counts only shrink with each of them.
    dropped = starts[
        bisect_left(
            starts, True, hi=len(starts) - 1, key=lambda start: count(messages(start)) <= room
        )
    ]
    return Fitted(messages(dropped), dropped)


def name_for(speaker: str | None) -> str:
    """A speaker's name as the model reads it: at most 32 characters on one line, without colons,
    and nothing that looks like a control token or a role ('member' stands for those)."""
    folded = unicodedata.normalize("NFKC", clean(speaker or ""))
    name = _NOT_IN_NAMES.sub(" ", folded).strip()[:LONGEST_NAME].strip()
    words = re.findall(r"[^\W_]+", name.casefold())
    if not words or _ROLES.fullmatch(words[0]) or words[:2] in _TOKENS:
        return NOBODY
    return name


def _told(message: Message, several: bool) -> Message:
    prefix = f"{name_for(message.name)}: " if several and message.role == "user" else ""
    return Message(message.role, prefix + message.content)


def _exchanges(path: Sequence[Message]) -> list[int]:
    """Where each exchange begins: with a person's first word after an answer."""
    starts = [0]
    before: Role | None = None
    for place, message in enumerate(path):
        if message.content.strip():
            if message.role == "user" and before == "assistant":
                starts.append(place)
            before = message.role
    return starts


def _joined(messages: Sequence[Message]) -> list[Message]:
    groups = groupby(messages, key=lambda message: message.role)
    return [Message(role, "\n".join(one.content for one in said)) for role, said in groups]


# How much room a system text leaves


@dataclass(frozen=True, slots=True)
class Room:
    """What a system text takes of a model's `context`, and what an answer and a question need, in
    tokens."""

    takes: int
    context: int
    answer: int
    question: int

    @property
    def may_take(self) -> int:
        """Tokens of a system text at most."""
        return self.context - self.answer - self.question

    @property
    def fits(self) -> bool:
        """Whether questions can be asked beside it."""
        return self.takes <= self.may_take


def room_beside(model: OpenedModel, system: str, max_tokens: int) -> Room:
    """What is left beside a system text, or beside the one that the template has where that is
    empty; blocks for a moment, raises what the tokenizer raises."""
    context = model.engine.context
    room = model.room(max_tokens)
    asked = [Message("user", "?")]
    head = [Message("system", system)] if system.strip() else []
    bare = replace(model.template, system="", without_system="")
    takes = model.count([*head, *asked]) - len(bare.prompt(asked, model.engine.tokenizer))
    return Room(takes, context, context - room, min(QUESTION, room // 4))


def first_that_fits(model: OpenedModel, systems: Sequence[str], max_tokens: int) -> str:
    """The first of the texts beside which questions can be asked; '' if it is none of them."""
    return next((one for one in systems if room_beside(model, one, max_tokens).fits), "")
