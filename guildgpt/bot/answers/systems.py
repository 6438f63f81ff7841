"""`/system`: which instructions hold where, and whether they leave room for questions.

Each method returns the sentence to tell. Raises `StoreError`.
"""

from __future__ import annotations

from dataclasses import dataclass

from guildgpt.bot.answers.generating import Generator
from guildgpt.bot.operating.guilds import Guilds
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.operating.settings import SettingsError
from guildgpt.bot.text import sentences as say
from guildgpt.errors import EngineError, ModelError
from guildgpt.talk.fitting import Room
from guildgpt.text.visible import clean

log = EventLog(__name__)


@dataclass
class Systems:
    """The system texts of guilds and of single channels in them."""

    guilds: Guilds
    generator: Generator

    async def put(self, guild_id: int, channel_id: int | None, text: str) -> str:
        """Follow a text in a guild or a channel, if questions fit beside it."""
        text = clean(text)
        if not text:
            return say.SYSTEM_BLANK
        room = await self._room(text, guild_id)
        if room is None:  # nobody knows whether it fits
            return say.SYSTEM_UNCHECKED
        if not room.fits:
            return say.system_too_long(room)
        await self.guilds.change(guild_id, system_of=(channel_id, text))
        return say.system_set(channel_id)

    async def reset(self, guild_id: int, channel_id: int | None) -> str:
        """Take a text back: what is more general holds again."""
        await self.guilds.change(guild_id, system_of=(channel_id, None))
        return say.system_cleared(channel_id)

    async def show(self, guild_id: int, channel_id: int | None) -> str:
        """The text that was set, what is wrong with it, and which channels have their own."""
        rules = await self.guilds.rules(guild_id)
        text = rules.channel_systems.get(channel_id) if channel_id else rules.own_system
        room = await self._room(text or "", guild_id)
        others = [id for id in rules.channel_systems if id != channel_id] if not channel_id else []
        return say.system_now(text, channel_id, others, None if room is None or room.fits else room)

    async def _room(self, text: str, guild_id: int) -> Room | None:
        try:
            return await self.generator.room(text)
        except (EngineError, ModelError) as error:
            log("engine_failed", error=error, guild=guild_id)
            return None


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
