"""The REST API: token, rate limits, and the routes of users, guilds, commands, interactions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from simguild.fake import payloads
from simguild.fake.call import Call, Handler, Route, read, reply
from simguild.fake.channels import ChannelRoutes
from simguild.fake.commands import Commands
from simguild.fake.errors import ApiError, missing_access, unknown
from simguild.fake.interactions import Interactions
from simguild.fake.limits import RateLimiter, Taken
from simguild.fake.trouble import Trouble
from simguild.fake.world import Guild, User, World

Json = dict[str, Any]
BASE = "/api/v10"
_UNAUTHORIZED = ("interaction", "webhook")  # the token in their path is all they need


class Rest:
    """Answers the bot's requests, and counts those that come too fast."""

    def __init__(
        self,
        world: World,
        token: str,
        commands: Commands,
        interactions: Interactions,
        gateway_info: Callable[[], Json],
    ):
        self._world = world
        self._token = token
        self._commands = commands
        self._interactions = interactions
        self._gateway_info = gateway_info
        self._limiter = RateLimiter(world.clock)
        self.limited: Counter[str] = Counter()  # answers of 429, by what was asked for
        self.troubles: list[Trouble] = []

    def add_routes(self, app: web.Application) -> None:
        """Hang all routes into the server."""
        for method, path, handler, bucket in [
            *self._routes(),
            *ChannelRoutes(self._world).routes(),
        ]:
            app.router.add_route(method, BASE + path, self._wrapped(handler, bucket))
        app.router.add_route("GET", "/attachments/{channel}/{file}/{name}", self._attachment)
        app.router.add_route("*", BASE + "/{rest:.*}", self._no_such_route)

    def _routes(self) -> list[Route]:
        commands, hook = "/applications/{app}", "/webhooks/{app}/{token}"
        return [
            ("GET", "/users/{user}", self._get_user, ""),
            ("GET", "/users/@me/guilds", self._get_guilds, ""),
            ("POST", "/users/@me/channels", self._open_dm, ""),
            ("GET", "/oauth2/applications/@me", self._get_application, ""),
            ("GET", "/applications/@me", self._get_application, ""),
            ("GET", "/gateway/bot", lambda _: self._gateway_info(), ""),
            ("GET", "/guilds/{guild}", self._get_guild, ""),
            ("GET", "/guilds/{guild}/channels", self._get_channels, ""),
            ("GET", "/guilds/{guild}/threads/active", self._get_threads, ""),
            ("GET", "/guilds/{guild}/members/{user}", self._get_member, ""),
            ("GET", commands + "/commands", self._get_commands, ""),
            ("PUT", commands + "/commands", self._put_commands, ""),
            ("GET", commands + "/guilds/{guild}/commands", self._get_commands, ""),
            ("PUT", commands + "/guilds/{guild}/commands", self._put_commands, ""),
            ("POST", "/interactions/{id}/{token}/callback", self._respond, "interaction"),
            ("POST", hook, self._follow_up, "webhook"),
            ("GET", hook + "/messages/{message}", self._get_response, "interaction"),
            ("PATCH", hook + "/messages/{message}", self._edit_response, "webhook"),
            ("DELETE", hook + "/messages/{message}", self._delete_response, "webhook"),
        ]

    def _wrapped(
        self, handler: Handler, bucket: str
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """`handler` behind what goes wrong, the token, the rate limits and the reading of the
        body."""

        async def answer(request: web.Request) -> web.Response:
            route = _route(request)
            trouble = next((one for one in self.troubles if one.meets(route)), None)
            if trouble is None:
                return await right(request)
            if trouble.answer.done:
                await right(request)
            if not trouble.answer.status and request.transport is not None:
                request.transport.abort()
            return trouble.answer.response()

        async def right(request: web.Request) -> web.Response:
            headers: dict[str, str] = {}
            try:
                if bucket not in _UNAUTHORIZED:
                    self._authorize(request)
                for taken in self._take(request, bucket):
                    headers |= taken.headers()
                    if taken.refused:
                        self.limited[_asked_for(request, taken)] += 1
                        return reply(429, taken.body(), headers)
                result = handler(await read(request))
            except ApiError as error:
                if error.violation:
                    self._world.violations.append(
                        f"{error.violation} ({request.method} {request.path}: {error})"
                    )
                return reply(error.status, error.body, headers)
            if result is None:
                return web.Response(status=204, headers=headers)
            return reply(200, result, headers)

        return answer

    def _authorize(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bot {self._token}":
            raise ApiError(401, 0, "401: Unauthorized")

    def _take(self, request: web.Request, bucket: str) -> list[Taken]:
        """What a request costs; interactions do not count against the global limit."""
        rules, taken = self._world.limits, []
        if bucket not in _UNAUTHORIZED:
            most = rules.global_requests
            taken.append(self._limiter.take("global", "", most, 1.0, is_global=True))
        if bucket in ("messages", "webhook") and not any(one.refused for one in taken):
            major = request.match_info["channel" if bucket == "messages" else "token"]
            taken.append(self._limiter.take(bucket, major, rules.messages, rules.window))
        return taken

    async def _attachment(self, request: web.Request) -> web.Response:
        file = self._world.files.get(int(request.match_info["file"]))
        if file is None or str(file.channel_id) != request.match_info["channel"]:
            return web.Response(status=404)
        return web.Response(body=file.content, headers={"Content-Type": file.content_type})

    async def _no_such_route(self, request: web.Request) -> web.Response:
        self._world.violations.append(f"the fake has no route {request.method} {request.path}")
        return reply(404, {"message": "404: Not Found", "code": 0}, {})

    # Users and guilds

    def _user(self, id: str) -> User:
        user = self._world.bot if id == "@me" else self._world.users.get(int(id))
        if user is None:
            raise unknown("User", 10013)
        return user

    def _get_user(self, call: Call) -> Json:
        return payloads.user(self._user(call.path["user"]))

    def _open_dm(self, call: Call) -> Json:
        return payloads.channel(self._world.open_dm(self._user(str(call.body["recipient_id"]))))

    def _get_application(self, call: Call) -> Json:
        return payloads.application(self._world)

    def _guild(self, call: Call) -> Guild:
        guild = self._world.guilds.get(call.id("guild"))
        if guild is None or not guild.has_bot:
            raise missing_access()
        return guild

    def _get_guild(self, call: Call) -> Json:
        return payloads.guild(self._guild(call))

    def _get_guilds(self, call: Call) -> list[Json]:
        bot = self._world.bot
        return [
            {
                "id": str(one.id),
                "name": one.name,
                "icon": None,
                "owner": False,
                "permissions": str(one.permissions(bot)),
                "features": [],
            }
            for one in self._world.guilds.values()
            if one.has_bot
        ]

    def _get_channels(self, call: Call) -> list[Json]:
        channels = self._guild(call).channels
        return [payloads.channel(one) for one in channels if not one.is_thread]

    def _get_threads(self, call: Call) -> Json:
        threads = [payloads.channel(one) for one in self._guild(call).threads]
        return {"threads": threads, "members": []}

    def _get_member(self, call: Call) -> Json:
        member = self._guild(call).members.get(self._user(call.path["user"]).id)
        if member is None:
            raise unknown("Member", 10007)
        return payloads.member(member)

    # Commands and interactions

    def _get_commands(self, call: Call) -> list[Json]:
        return self._commands.registered(call.id("guild") if "guild" in call.path else None)

    def _put_commands(self, call: Call) -> list[Json]:
        guild_id = self._guild(call).id if "guild" in call.path else None
        return self._commands.replace(guild_id, call.body)

    def _respond(self, call: Call) -> Json | None:
        told = self._interactions.respond(call.id("id"), call.path["token"], call.body, call.files)
        wanted = call.query.get("with_response") in ("1", "true")
        return told if wanted else None

    def _follow_up(self, call: Call) -> Json | None:
        message = self._interactions.follow_up(call.path["token"], call.body, call.files)
        return payloads.message(message)  # with or without wait=1: an interaction's always does

    def _get_response(self, call: Call) -> Json:
        return payloads.message(self._interactions.find(call.path["token"], call.path["message"]))

    def _edit_response(self, call: Call) -> Json:
        token, id = call.path["token"], call.path["message"]
        return payloads.message(self._interactions.edit(token, id, call.body, call.files))

    def _delete_response(self, call: Call) -> None:
        self._interactions.delete(call.path["token"], call.path["message"])


def _asked_for(request: web.Request, taken: Taken) -> str:
    return f"{_route(request)}{' (global)' * taken.is_global}"


def _route(request: web.Request) -> str:
    """`PATCH /channels/{channel}`."""
    resource = request.match_info.route.resource
    path = resource.canonical.removeprefix(BASE) if resource else request.path
    return f"{request.method} {path}"
