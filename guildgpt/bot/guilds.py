"""What the admins of each guild have set, over what the operator chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guildgpt.bot.settings import BotSettings, GuildSettings
from guildgpt.feedback.store import Store


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds in one guild, or in direct messages. Without `channels` it is answered in all."""

    channels: tuple[int, ...]
    system: str
    feedback: bool

    def allow(self, *places: int | None) -> bool:
        """Whether it is answered in one of these: a channel, and the one that its thread is in."""
        return not self.channels or any(place in self.channels for place in places)


class Guilds:
    """The rules of every guild. What has been read is kept: nobody else changes it."""

    def __init__(self, store: Store, settings: BotSettings):
        self._store = store
        self._settings = settings
        self._known: dict[int, GuildSettings] = {}

    async def rules(self, guild_id: int | None) -> Rules:
        """Those of a guild; None: of direct messages."""
        return self._over_defaults(await self._of(guild_id) if guild_id else GuildSettings())

    async def change(
        self, guild_id: int, *, add_channel: int | None = None, **changes: Any
    ) -> Rules:
        """Set some of a guild's settings anew, by their names in `GuildSettings`."""
        now = await self._of(guild_id)
        if add_channel is not None:
            changes["channels"] = sorted({*changes.get("channels", now.channels), add_channel})
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
        )
