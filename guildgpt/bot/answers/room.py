"""How much room a system text leaves in a model's context, for a question and an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guildgpt.bot.operating.settings import SettingsError
from guildgpt.chat import Message
from guildgpt.talk.opened import OpenedModel

QUESTION = 256  # tokens that a question may take at least; in a small context a quarter of a prompt


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


def prompt_room(context: int, max_tokens: int) -> int:
    """Tokens of a prompt at most: an answer may be long, but not longer than a quarter of all."""
    return context - min(max_tokens, context // 4)


def room_beside(model: OpenedModel, system: str, max_tokens: int) -> Room:
    """What is left beside a system text; blocks for a moment, raises what the tokenizer raises."""
    context = model.engine.context
    room = prompt_room(context, max_tokens)
    asked = [Message("user", "?")]
    head = [Message("system", system)] if system.strip() else []
    takes = len(model.prompt([*head, *asked])) - len(model.prompt(asked))
    return Room(takes, context, context - room, min(QUESTION, room // 4))


def first_that_fits(model: OpenedModel, systems: Sequence[str], max_tokens: int) -> str:
    """The first of the texts beside which questions can be asked; '' if it is none of them."""
    fitting = (one for one in systems if room_beside(model, one, max_tokens).fits)
    return next(fitting, "")


def check_operators(room: Room) -> None:
    """Raise `SettingsError` if the operator's own text leaves no room."""
    if not room.fits:
        raise SettingsError(
            f"`system` takes {room.takes:,} of the {room.context:,} tokens that the model holds; "
            f"an answer needs {room.answer:,} of them and a question {room.question:,}",
            where="system",
            remedy=f"Shorten it to {room.may_take:,} tokens, which is about "
            f"{room.may_take / room.takes:.0%} of it, or raise `context`.",
        )
