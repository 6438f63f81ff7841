"""Where an answer goes: what the service asks of Discord, in words that are not Discord's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from guildgpt.bot.buttons import Action


class Undeliverable(Exception):
    """What was to be written has no place any more, or none that the bot may write to.

    `gone`: the channel, the message or the interaction no longer exists; else a permission lacks,
    or Discord could not be reached for a long time. `code` is Discord's own, 0 for none.
    """

    def __init__(self, reason: str, *, gone: bool, code: int = 0):
        super().__init__(reason)
        self.gone = gone
        self.code = code


class Outlet(Protocol):
    """One place to answer one event at. Every method raises `Undeliverable` when it cannot."""

    @property
    def channel_id(self) -> int:
        """The channel whose budget of writes it uses."""

    @property
    def is_typing(self) -> bool:
        """Whether people see that an answer is on its way."""

    async def typing(self) -> None:
        """Show that an answer is on its way."""

    async def send(self, text: str, buttons: Sequence[Action], nonce: str) -> int:
        """Write a new message, and return its id. With a nonce of the last minutes nothing is
        written: the id is that of the message it was used for, whatever that says."""

    async def edit(self, message_id: int, text: str, buttons: Sequence[Action]) -> None:
        """Write a message anew."""

    async def delete(self, message_id: int) -> None:
        """Take a message back."""

    async def whisper(self, text: str) -> None:
        """A short sentence for the asker alone where Discord can do that, else a plain reply."""
