"""What was said and voted in guilds that the bot was taken out of.

Their rounds end, and what these said of a candidate by then stays: it was looked at. But whoever
sent the bot away need not have their votes teach a model any more, though they are kept until the
guild's time is over (`left_guild_days`).
"""

from __future__ import annotations

from guildgpt.feedback.records import Snapshot


def conversations_left(snapshot: Snapshot) -> set[str]:
    """The conversations, those of rounds among them, of guilds that were left."""
    return {one.id for one in snapshot.conversations if one.guild_id in snapshot.left_guilds}


def rounds_left(snapshot: Snapshot) -> set[str]:
    """The rounds of guilds that were left."""
    return {one.id for one in snapshot.rounds if one.guild_id in snapshot.left_guilds}
