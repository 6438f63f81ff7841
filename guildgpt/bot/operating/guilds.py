"""What the admins of each guild have set, over what the operator chose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from guildgpt.bot.operating.settings import BotSettings, GuildSettings, RoundPlan
from guildgpt.feedback.store import Store


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds in one guild, or in direct messages. Without `channels` it is answered in all;
    `channels_deleted`: because those that were chosen are no more."""

    channels: tuple[int, ...]
    usual_system: str
    own_system: str | None
    channel_systems: Mapping[int, str]
    feedback: bool
    channels_deleted: bool
    reports_channel: int | None = None
    rounds: Mapping[int, RoundPlan] = field(default_factory=dict)
    rounds_deleted: bool = False

    def systems(self, *places: int | None) -> list[str]:
        """The system texts for a channel and the one that its thread is in, the one that holds
        first; behind it what holds where it leaves no room for questions."""
        found = [self.channel_systems.get(place or 0) for place in places]
        found += [self.own_system, self.usual_system]
        return [text for text in found if text is not None]

    def allow(self, *places: int | None) -> bool:
        """Whether it is answered in one of these: a channel, and the one that its thread is in."""
        return not self.channels or any(place in self.channels for place in places)


@dataclass(eq=False)
class Guilds:
    """The rules of every guild. What has been read is kept: nobody else changes it."""

    _store: Store
    _settings: BotSettings
    _known: dict[int, GuildSettings] = field(default_factory=dict)
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)  # of two changes none is lost

    async def rules(self, guild_id: int | None) -> Rules:
        """Those of a guild; None: of direct messages."""
        return self._over_defaults(await self._of(guild_id) if guild_id else GuildSettings())

    async def change(
        self,
        guild_id: int,
        *,
        add_channel: int | None = None,
        remove_channel: int | None = None,
        system_of: tuple[int | None, str | None] | None = None,
        **changes: Any,
    ) -> Rules:
        """Set some of a guild's settings anew, by their names in `GuildSettings`.

        `system_of` is a channel (None: the whole guild) and the system text that it gets, or None
        for none of its own.
        """
        async with self._changing:
            now = await self._of(guild_id)
            channels = {*changes.get("channels", now.channels), add_channel}
            channels -= {remove_channel, None}
            if channels != set(now.channels):
                changes |= {"channels": sorted(channels), "channels_deleted": False}
            if system_of is not None:
                changes |= _with_system(now, *system_of)
            return await self._changed(guild_id, now, changes)

    async def plan_rounds(
        self,
        guild_id: int,
        channel_id: int,
        change: Callable[[RoundPlan], RoundPlan | None],
        *,
        seen: bool = False,
    ) -> None:
        """Plan the rounds of a channel anew, by its plan so far; None: there is none any more.
        `seen`: an admin does it, and knows which channels were deleted."""
        async with self._changing:
            now = await self._of(guild_id)
            before = now.rounds.get(channel_id)
            after = change(before or RoundPlan())
            if after != before:
                plans = {id: plan for id, plan in now.rounds.items() if id != channel_id}
                plans |= {channel_id: after} if after is not None else {}
                deleted = now.rounds_deleted and not seen
                await self._changed(guild_id, now, {"rounds": plans, "rounds_deleted": deleted})

    async def forget_channels(self, guild_id: int, deleted: Collection[int]) -> None:
        """Channels were deleted in Discord: they leave the list, and their system texts go. An
        empty list names every channel, for a bot that is silent everywhere looks broken."""
        async with self._changing:
            now = await self._of(guild_id)
            changes: dict[str, Any] = {}
            if left := set(now.channels) & set(deleted):
                channels = [id for id in now.channels if id not in left]
                changes = {"channels": channels, "channels_deleted": not channels}
            if now.reports_channel in deleted:
                changes["reports_channel"] = None
            if now.rounds.keys() & set(deleted):
                plans = {id: plan for id, plan in now.rounds.items() if id not in deleted}
                changes |= {"rounds": plans, "rounds_deleted": True}
            for channel_id in now.channel_systems.keys() & set(deleted):
                now = now.model_copy(update=changes)
                changes |= _with_system(now, channel_id, None)
            await self._changed(guild_id, now, changes)

    def forget(self, guild_id: int) -> None:
        """What was read of a guild may be gone from the store when it comes back."""
        self._known.pop(guild_id, None)

    async def _changed(self, guild_id: int, now: GuildSettings, changes: dict[str, Any]) -> Rules:
        if changes:
            now = now.model_copy(update=changes)
            await self._store.places.save_settings(guild_id, now.model_dump(exclude_defaults=True))
            self._known[guild_id] = now
        return self._over_defaults(now)

    async def _of(self, guild_id: int) -> GuildSettings:
        if guild_id not in self._known:
            found = await self._store.places.settings(guild_id)
            # Meanwhile somebody may have changed them.
            return self._known.setdefault(guild_id, GuildSettings.from_dict(found))
        return self._known[guild_id]

    def _over_defaults(self, guild: GuildSettings) -> Rules:
        ours = self._settings
        return Rules(
            channels=tuple(guild.channels),
            usual_system=ours.system,
            own_system=guild.system,
            channel_systems=guild.channel_systems,
            feedback=ours.feedback if guild.feedback is None else guild.feedback,
            channels_deleted=guild.channels_deleted,
            reports_channel=guild.reports_channel,
            rounds=guild.rounds,
            rounds_deleted=guild.rounds_deleted,
        )


def _with_system(now: GuildSettings, channel_id: int | None, text: str | None) -> dict[str, Any]:
    """What changes where a system text is set or taken away."""
    if channel_id is None:
        return {"system": text}
    others = {id: one for id, one in now.channel_systems.items() if id != channel_id}
    return {"channel_systems": others if text is None else {**others, channel_id: text}}
