"""Where an answer goes: what the service asks of Discord, in words that are not Discord's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from guildgpt.bot.answers.buttons import Action

Why = Literal["gone", "forbidden", "withheld", "refused", "unreachable"]


class Undeliverable(Exception):
    """What was to be written is not there, and `why`.

    `gone`: the channel, the message or the interaction no longer exists. `forbidden`: a permission
    lacks, or the thread is closed. `withheld`: the guild's AutoMod did not let the text pass.
    `refused`: anything else that Discord says no to. `unreachable`: Discord could not be reached;
    whether it was written, nobody knows. `code` is Discord's own, 0 for none.
    """

    def __init__(self, reason: str, why: Why, code: int = 0):
        super().__init__(reason)
        self.why = why
        self.code = code


class Outlet(Protocol):
    """One place to answer one event at. Every method raises `Undeliverable` when it cannot.

    It uses the budget of writes of `channel_id`; where it `is_private`, a whisper is for the asker
    alone, and costs the channel no write. While Discord cannot be reached, it is tried again for
    minutes; only once if not `patient`.
    """

    channel_id: int
    is_private: bool

    @property
    def is_typing(self) -> bool:
        """Whether people see that an answer is on its way."""

    async def typing(self) -> None:
        """Show that an answer is on its way."""

    async def send(
        self, text: str, buttons: Sequence[Action], nonce: str, *, patient: bool = True
    ) -> int:
        """Write a new message, and return its id. With a nonce of the last minutes nothing is
        written: the id is that of the message it was used for, whatever that says."""

    async def edit(
        self, message_id: int, text: str, buttons: Sequence[Action], *, patient: bool = True
    ) -> None:
        """Write a message anew."""

    async def delete(self, message_id: int) -> None:
        """Take a message back."""

    async def whisper(self, text: str) -> int | None:
        """A short sentence for the asker alone where Discord can do that, else a plain reply; the
        id of that."""
