"""`FakeDiscord`: the server, and what tests and simulated members do with it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Self, TypeVar

from aiohttp import web

from simguild.fake.gateway import Gateway
from simguild.fake.limits import Limits
from simguild.fake.people import People
from simguild.fake.permissions import EVERYONE, Permission
from simguild.fake.rest import BASE, Rest
from simguild.fake.trouble import Answer, Trouble
from simguild.fake.world import Channel, Guild, User, World

T = TypeVar("T")
PATIENCE = 120.0  # seconds until something counts as hung, however busy the machine is


class FakeDiscord(People):
    """Discord with one bot. Enter it (`async with`) to start the server.

    `message_content`, `members_intent`: the privileged intents as switched on in the developer
    portal. `clock` measures durations (rate limits, three seconds, 15 minutes), in seconds; a
    test may pass one that it moves itself.
    """

    def __init__(
        self,
        *,
        message_content: bool = True,
        members_intent: bool = False,
        token: str = "simguild.fake.token",
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__(World(clock))
        self.world.message_content = message_content
        self.world.members_intent = members_intent
        self.token = token
        self.rest = ""
        self.gateway_server = Gateway(self.world, token)
        self._rest = Rest(
            self.world, token, self.commands, self.interactions, self.gateway_server.info
        )
        self._runner: web.AppRunner | None = None
        self.world.publish = self.gateway_server.publish
        self.world.tell = self.gateway_server.tell

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        self._rest.add_routes(app)
        app.on_response_prepare.append(self._date)
        app.router.add_get("/gateway", self.gateway_server.connect)
        app.router.add_get("/gateway/", self.gateway_server.connect)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.world.cdn = f"http://127.0.0.1:{port}"
        self.rest = self.world.cdn + BASE
        self.gateway_server.url = f"ws://127.0.0.1:{port}/gateway"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.gateway_server.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _date(self, _: web.Request, response: web.StreamResponse) -> None:
        """Discord's own time is on every answer, to the second."""
        response.headers["Date"] = formatdate(self.world.time(), usegmt=True)

    # What is there

    @property
    def gateway(self) -> str:
        """The gateway's address."""
        return self.gateway_server.url

    @property
    def bot(self) -> User:
        """The bot's account."""
        return self.world.bot

    @property
    def application_id(self) -> int:
        """The bot's application."""
        return self.world.application_id

    @property
    def limits(self) -> Limits:
        """The numbers that are enforced; a test may set them otherwise."""
        return self.world.limits

    @property
    def interaction_seconds(self) -> float:
        """How long the bot has to acknowledge an interaction."""
        return self.limits.interaction_seconds

    @interaction_seconds.setter
    def interaction_seconds(self, seconds: float) -> None:
        self.limits.interaction_seconds = seconds

    @property
    def message_content(self) -> bool:
        """The message content intent, as switched in the portal."""
        return self.world.message_content

    @message_content.setter
    def message_content(self, on: bool) -> None:
        self.world.message_content = on

    @property
    def violations(self) -> list[str]:
        """Every limit that the bot broke, in words."""
        return self.world.violations

    @property
    def rate_limited(self) -> int:
        """How many 429 were given."""
        return self._rest.limited.total()

    @property
    def limited(self) -> Counter[str]:
        """The same, by what was asked for."""
        return self._rest.limited.copy()

    @property
    def connected(self) -> int:
        """How many gateway sessions (one a shard and client) have an open socket."""
        return len(self.gateway_server.connected)

    # Where a client finds it

    @contextlib.contextmanager
    def redirected(self) -> Iterator[None]:
        """Send discord.py here, and afterwards where it went before."""
        from simguild.launch import redirect

        undo = redirect(self.rest, self.gateway)
        try:
            yield
        finally:
            undo()

    def environment(self) -> dict[str, str]:
        """What `python -m simguild.launch` needs to find this server."""
        return {
            "SIMGUILD_REST": self.rest,
            "SIMGUILD_GATEWAY": self.gateway,
            "DISCORD_TOKEN": self.token,
        }

    # Setting the scene

    def add_guild(self, name: str, *, bot_permissions: Permission | int = EVERYONE) -> Guild:
        """A server that the bot is in, with the permissions of the bot's own role."""
        return self.world.add_guild(name, bot_permissions=int(bot_permissions))

    def add_user(self, name: str) -> User:
        """A person, in no guild yet."""
        return self.world.add_user(name)

    def open_dm(self, user: User) -> Channel:
        """The direct conversation of `user` with the bot."""
        return self.world.open_dm(user)

    # What goes wrong

    def drop(
        self,
        code: int | None = None,
        *,
        op: int | None = None,
        resume: bool = True,
        invalid: bool | None = None,
        duplicate: int = 0,
        shard: int | None = None,
    ) -> int:
        """Lose every connected gateway session, or those of one shard; returns how many.

        By default the connection is cut without a word; with `code` it is closed with it; with
        `op=7` the client is asked to reconnect; with `invalid` (op 9) it is told that its session
        is invalid and whether it may resume. Without `resume` the session is forgotten: what
        happens until the client identifies anew is never told to it. With `duplicate` the next
        resume also replays that many messages and interactions that had arrived (True: ten).
        """
        self.interactions.lost_connection()
        repeat = 10 if duplicate is True else int(duplicate)
        return self.gateway_server.drop(
            code, op=op, resume=resume, invalid=invalid, duplicate=repeat, shard=shard
        )

    def trouble(self, route: str, answer: Answer, *, times: int | None = None) -> Trouble:
        """Answer otherwise on a route (`PATCH /channels/{channel}`; `*`: everywhere), so often, or
        until it is over; see `simguild.fake.trouble`."""
        made = Trouble(route, answer, times)
        self._rest.troubles.append(made)
        return made

    # Waiting

    async def until(self, condition: Callable[[], T], timeout: float = PATIENCE) -> T:
        """Wait until `condition` holds, and return what it gave.

        A condition that does not find something yet (`IndexError`, `KeyError`, `AttributeError`)
        does not hold. Raises `AssertionError` with the last messages after `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        cause: Exception | None = None
        while True:
            try:
                found, cause = condition(), None
                if found:
                    return found
            except (LookupError, AttributeError) as error:
                cause = error
            waited = loop.time() - started
            if waited >= timeout:
                raise AssertionError(self._what_was_last(timeout)) from cause
            # Hundreds wait at once: the longer it takes, the more rarely each of them looks.
            await asyncio.sleep(min(0.01 + waited / 10, 0.1))

    def _what_was_last(self, timeout: float) -> str:
        last = sorted(self.world.messages.values(), key=lambda message: message.id)[-10:]
        lines = [
            f"  #{one.channel.name} {one.author.name}: {one.content!r}"
            f"{' (deleted)' if one.deleted else ''}"
            for one in last
        ]
        words = [f"not within {timeout} s; {self.connected} clients connected; last messages:"]
        return "\n".join([*words, *lines, *(f"  violation: {one}" for one in self.violations)])
