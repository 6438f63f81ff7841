"""What the admins of each guild have set, over what the operator chose."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from guildgpt.bot.settings import BotSettings, GuildSettings
from guildgpt.feedback.store import Store


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds in one guild, or in direct messages. Without `channels` it is answered in all;
    `channels_deleted`: because those that were chosen are no more."""

    channels: tuple[int, ...]
    system: str
    feedback: bool
    channels_deleted: bool = False

    def allow(self, *places: int | None) -> bool:
        """Whether it is answered in one of these: a channel, and the one that its thread is in."""
        return not self.channels or any(place in self.channels for place in places)


class Guilds:
    """The rules of every guild. What has been read is kept: nobody else changes it."""

    def __init__(self, store: Store, settings: BotSettings):
        self._store = store
        self._settings = settings
        self._known: dict[int, GuildSettings] = {}
        self._changing = asyncio.Lock()  # of two changes at once neither is lost

    async def rules(self, guild_id: int | None) -> Rules:
        """Those of a guild; None: of direct messages."""
        return self._over_defaults(await self._of(guild_id) if guild_id else GuildSettings())

    async def change(
        self,
        guild_id: int,
        *,
        add_channel: int | None = None,
        remove_channel: int | None = None,
        **changes: Any,
    ) -> Rules:
        """Set some of a guild's settings anew, by their names in `GuildSettings`."""
        async with self._changing:
            now = await self._of(guild_id)
            channels = set(changes.get("channels", now.channels))
            if add_channel is not None:
                channels.add(add_channel)
            channels.discard(remove_channel or 0)
            if channels != set(now.channels):
                changes |= {"channels": sorted(channels), "channels_deleted": False}
            return await self._changed(guild_id, now, changes)

    async def forget_channels(self, guild_id: int, deleted: Collection[int]) -> None:
        """Channels were deleted in Discord: they leave the list. An empty list names every channel,
        for a bot that is silent everywhere looks broken."""
        async with self._changing:
            now = await self._of(guild_id)
            left = [id for id in now.channels if id not in deleted]
            if left != now.channels:
                changes = {"channels": left, "channels_deleted": not left}
                await self._changed(guild_id, now, changes)

    async def _changed(self, guild_id: int, now: GuildSettings, changes: dict[str, Any]) -> Rules:
        if changes:
            now = now.model_copy(update=changes)
            await self._store.save_guild_settings(guild_id, now.as_dict())
            self._known[guild_id] = now
        return self._over_defaults(now)

    async def _of(self, guild_id: int) -> GuildSettings:
        if guild_id not in self._known:
            found = await self._store.guild_settings(guild_id)
            self._known[guild_id] = GuildSettings.from_dict(found)
        return self._known[guild_id]

    def _over_defaults(self, guild: GuildSettings) -> Rules:
        ours = self._settings
        return Rules(
            tuple(guild.channels),
            ours.system if guild.system is None else guild.system,
            ours.feedback if guild.feedback is None else guild.feedback,
            guild.channels_deleted,
        )
