"""Buttons under the bot's messages, and forms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import discord

from guildgpt.bot.answers.buttons import PATTERN, Action, decode, encode
from guildgpt.text.visible import clean

FORM_SECONDS = 14 * 60.0  # that a form may stay open
_GREY, _BLUE = discord.ButtonStyle.secondary, discord.ButtonStyle.primary
FACES: dict[str, tuple[str | None, str | None, discord.ButtonStyle]] = {
    "up": ("👍", None, _GREY),
    "down": ("👎", None, _GREY),
    "again": ("🔁", None, _GREY),
    "report": ("🚩", None, _GREY),
    "stop": ("⏹️", "Stop", _GREY),
    "left": ("⬅️", "Left", _BLUE),
    "right": ("➡️", "Right", _BLUE),
    "a": (None, "A", _BLUE),
    "b": (None, "B", _BLUE),
    "tie": (None, "Both good", _GREY),
    "both_bad": (None, "Both bad", _GREY),
    "forget": (None, "Delete everything", discord.ButtonStyle.danger),
    "keep": (None, "Keep it", _GREY),
    "resolve": ("✅", None, _GREY),
    "seen": ("✅", "Looked at", _GREY),
    "older": (None, "Older", _GREY),
    "newest": (None, "Newest", _GREY),
    "download": ("📄", "Download what I keep", _GREY),
}


class ActionButton(discord.ui.DynamicItem[discord.ui.Button[Any]], template=PATTERN):
    """A button that works for as long as its message stands: all it needs is in its id."""

    def __init__(self, action: Action):
        emoji, label, style = FACES[action.kind]
        super().__init__(
            discord.ui.Button(
                emoji=emoji, label=action.label or label, style=style, custom_id=encode(action)
            )
        )
        self.action = action

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: Any, match: Any
    ) -> ActionButton:
        """Made anew from a click."""
        action = decode(match.string)
        assert action
        return cls(action)

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """The click itself."""
        await interaction.client.interactions.clicked(interaction, self.action)


def view(buttons: Sequence[Action]) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    for action in buttons:
        view.add_item(ActionButton(action))
    view.stop()  # discord.py need not remember it: clicks are told by their ids
    return view


class Form(discord.ui.Modal):
    """A form of one text, given to `submitted` in words that can be seen; it may stay empty."""

    def __init__(
        self,
        title: str,
        field: discord.ui.TextInput[Any],
        submitted: Callable[[discord.Interaction, str], Awaitable[None]],
    ):
        super().__init__(title=title, timeout=FORM_SECONDS)
        self._field = field
        self._submitted = submitted
        self.add_item(field)

    async def interaction_check(self, interaction: discord.Interaction[Any]) -> bool:
        """Each only once."""
        return bool(interaction.client.interactions.is_new(interaction))

    async def on_submit(self, interaction: discord.Interaction[Any]) -> None:
        """See the class."""
        await self._submitted(interaction, clean(self._field.value))
