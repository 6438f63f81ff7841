"""What the model is told of a conversation: the path to the question, as far as it fits.

The rule: the system text and the question always stay. Exchanges (what was said to the bot, and
its answer) are left out whole, the oldest first, until the rest fits. If the question alone is too
long, its middle is cut out and a mark put there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from guildgpt.bot.text.text import clean
from guildgpt.chat import Message, Role
from guildgpt.errors import GuildError

MARK = "\n[… a part is left out here …]\n"
LEAST_QUESTION = 32  # characters of a cut question; with less it would say nothing
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


class NoRoom(GuildError):
    """A system text leaves no room for a question."""


Count = Callable[[Sequence[Message]], int]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation; `speaker` is the name of the person who wrote it."""

    role: Literal["user", "assistant"]
    text: str
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What goes to the template; how many exchanges were left out; whether the question was cut."""

    messages: list[Message]
    dropped: int
    cut: bool


def build_prompt(
    path: Sequence[Turn], question: Turn, *, system: str, count: Count, room: int
) -> Prompt:
    """The messages for `question`, asked at the end of `path` (root first), in `room` tokens.

    `count` gives the tokens of a list of messages. The system text (if any) and the question stay;
    the oldest exchanges are left out first, whole; a question that is too long on its own loses
    its middle. Turns without text are left out, consecutive ones of one side are joined. If more
    than one person speaks in the whole conversation, user turns begin with `name: ` (`name_for`).

    Raises `NoRoom` if the system text leaves no room for a question.
    """
    turns = [turn for turn in path if turn.text.strip()]
    several = len({turn.speaker for turn in (*turns, question) if turn.role == "user"}) > 1
    exchanges = _exchanges(turns, several)
    head = [Message("system", system)] if system.strip() else []
    asked = _message(question, several)

    def messages(dropped: int) -> list[Message]:
        kept = [message for exchange in exchanges[dropped:] for message in exchange]
        return [*head, *_joined([*kept, asked])]

    # The fewest exchanges dropped such that the rest fits: counts only shrink with each of them.
    low, high = 0, len(exchanges)
    while low < high:
        middle = (low + high) // 2
        if count(messages(middle)) <= room:
            high = middle
        else:
            low = middle + 1
    found = messages(low)
    if low < len(exchanges) or count(found) <= room:
        return Prompt(found, low, cut=False)
    prefix = asked.content[: len(asked.content) - len(question.text)]
    cut = _cut_middle(head, prefix, question.text, count, room)
    return Prompt([*head, cut], len(exchanges), cut=True)


def name_for(speaker: str | None) -> str:
    """A speaker's name as the model reads it: at most 32 characters on one line, without colons,
    and nothing that looks like a control token or a role ('member' stands for those)."""
    folded = unicodedata.normalize("NFKC", clean(speaker or ""))
    name = _NOT_IN_NAMES.sub(" ", folded).strip()[:LONGEST_NAME].strip()
    words = re.findall(r"[^\W_]+", name.casefold())
    if not words or _ROLES.fullmatch(words[0]) or words[:2] in _TOKENS:
        return NOBODY
    return name


def _message(turn: Turn, several: bool) -> Message:
    prefix = f"{name_for(turn.speaker)}: " if several and turn.role == "user" else ""
    return Message(turn.role, prefix + turn.text)


def _exchanges(turns: Sequence[Turn], several: bool) -> list[list[Message]]:
    """Each from a person's first word to the last word of the answer to it."""
    exchanges: list[list[Message]] = []
    before: Role | None = None
    for turn in turns:
        if not exchanges or (turn.role == "user" and before == "assistant"):
            exchanges.append([])
        exchanges[-1].append(_message(turn, several))
        before = turn.role
    return exchanges


def _joined(messages: Sequence[Message]) -> list[Message]:
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role:
            text = f"{joined.pop().content}\n{message.content}"
            joined.append(Message(message.role, text))
        else:
            joined.append(message)
    return joined


def _cut_middle(
    head: Sequence[Message], prefix: str, text: str, count: Count, room: int
) -> Message:
    """As much of both ends of the question as fits."""

    def shortened(kept: int) -> Message:
        front, back = text[: (kept + 1) // 2].rstrip(), text[len(text) - kept // 2 :].lstrip()
        return Message("user", f"{prefix}{front}{MARK}{back}")

    low, high = 0, len(text) - 1  # characters kept; all of them are known not to fit
    while low < high:
        middle = (low + high + 1) // 2
        if count([*head, shortened(middle)]) <= room:
            low = middle
        else:
            high = middle - 1
    if low < LEAST_QUESTION:
        raise NoRoom(
            f"the system text leaves no room for a question in {room} tokens",
            remedy="Shorten the system text, or give the bot a larger `context`.",
        )
    return shortened(low)
