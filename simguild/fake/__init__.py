"""A Discord of our own on 127.0.0.1, REST and gateway, that enforces Discord's limits.

discord.py runs against it unmodified:

    async with FakeDiscord() as fake:
        channel = fake.add_guild("rustaceans").add_channel("general")
        newcomer = fake.add_user("newcomer")
        channel.guild.join(newcomer)
        with fake.redirected():
            ...  # start the client with fake.token
        await fake.say(newcomer, channel, f"{fake.bot.mention} hello")
        await fake.until(lambda: channel.by(fake.bot))
        assert fake.violations == []
"""

from simguild.fake.errors import Refused
from simguild.fake.permissions import Permission
from simguild.fake.server import FakeDiscord
from simguild.fake.world import (
    Attachment,
    Channel,
    FakeMessage,
    Guild,
    Interaction,
    Member,
    Role,
    User,
)

__all__ = [
    "Attachment",
    "Channel",
    "FakeDiscord",
    "FakeMessage",
    "Guild",
    "Interaction",
    "Member",
    "Permission",
    "Refused",
    "Role",
    "User",
]
