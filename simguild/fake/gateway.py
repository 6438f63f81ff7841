"""The gateway: who is connected, what they are told, and what they missed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from simguild.fake import payloads
from simguild.fake.limits import GATEWAY_SENDS
from simguild.fake.permissions import Permission
from simguild.fake.world import CONTENT, GUILDS, MEMBERS, PRESENCES, Channel, Guild, World

Json = dict[str, Any]

DISPATCH, HEARTBEAT, IDENTIFY, PRESENCE, VOICE, RESUME, RECONNECT = 0, 1, 2, 3, 4, 6, 7
REQUEST_MEMBERS, INVALID_SESSION, HELLO, HEARTBEAT_ACK = 8, 9, 10, 11

_FATAL = {4004, 4010, 4011, 4012, 4013, 4014}
_ENDS_SESSION = _FATAL | {1000, 1001, 4007, 4009}
_BUFFER = 5000  # events kept for a client that may come back
_REPEATABLE = {"MESSAGE_CREATE", "INTERACTION_CREATE"}


def _encode(op: int, data: object = None) -> str:
    return json.dumps({"op": op, "d": data, "s": None, "t": None}, separators=(",", ":"))


@dataclass(eq=False)
class Line:
    """One open socket. What is said is queued, so that nobody waits for a slow client."""

    socket: web.WebSocketResponse
    request: web.Request
    session: Session | None = None
    queue: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    heartbeat: asyncio.TimerHandle | None = None
    received: deque[float] = field(default_factory=lambda: deque(maxlen=GATEWAY_SENDS))

    async def write(self) -> None:
        """Send what is queued until cancelled."""
        while True:
            frame = await self.queue.get()
            with contextlib.suppress(ConnectionError):
                await self.socket.send_str(frame)

    def cut(self) -> None:
        """Tear the connection without a word."""
        if self.request.transport is not None:
            self.request.transport.abort()


@dataclass(eq=False)
class Session:
    """One shard of one client, connected or about to come back."""

    id: str
    intents: int
    shard: tuple[int, int]
    line: Line | None
    sequence: int = 0
    sent: deque[tuple[int, str, str]] = field(default_factory=lambda: deque(maxlen=_BUFFER))
    lost_at: float = 0.0
    repeat: int = 0  # events that the next resume replays although they had arrived

    def dispatch(self, name: str, data: str) -> bool:
        """Number an event, keep it, and send it if there is a line; whether there was."""
        self.sequence += 1
        frame = f'{{"op":0,"s":{self.sequence},"t":"{name}","d":{data}}}'
        self.sent.append((self.sequence, name, frame))
        if self.line is None:
            return False
        self.line.queue.put_nowait(frame)
        return True

    def holds(self, guild: Guild | None) -> bool:
        """Whether this shard is told of `guild`; direct messages go to the first."""
        index, count = self.shard
        return (guild.id >> 22) % count == index if guild is not None else index == 0


class Gateway:
    """All clients of the bot's token."""

    def __init__(self, world: World, token: str):
        self._world = world
        self._token = token
        self._lines: set[Line] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.url = ""
        self.refused_shards: set[int] = set()  # that may not connect
        self.shards = 1  # what GET /gateway/bot recommends
        self.sessions: dict[str, Session] = {}
        self.identified = 0  # sessions begun; Discord allows 1000 a day
        self.resumed = 0

    def info(self) -> Json:
        """The answer of GET /gateway/bot."""
        return {
            "url": self.url,
            "shards": self.shards,
            "session_start_limit": {
                "total": 1000,
                "remaining": max(0, 1000 - self.identified),
                "reset_after": 86_400_000,
                "max_concurrency": 1,
            },
        }

    @property
    def connected(self) -> list[Session]:
        """The sessions that have an open socket."""
        return [one for one in self.sessions.values() if one.line is not None]

    def publish(
        self,
        name: str,
        payload: Json,
        *,
        guild: Guild | None = None,
        channel: Channel | None = None,
        intent: int = 0,
        bare: Json | None = None,
    ) -> int:
        """Tell every session that may know; `bare` is for those without message content.

        Encodes the payload once, whoever hears it. Returns how many sessions with an open socket
        were told.
        """
        world = self._world
        if guild is not None and not guild.has_bot:
            return 0
        if channel is not None and not channel.can(world.bot, Permission.VIEW_CHANNEL):
            return 0
        self._forget_lost()
        full = thin = ""
        told = 0
        for session in self.sessions.values():
            if intent & ~session.intents or not session.holds(guild):
                continue
            if bare is not None and not session.intents & CONTENT:
                data = thin = thin or json.dumps(bare, separators=(",", ":"))
            else:
                data = full = full or json.dumps(payload, separators=(",", ":"))
            told += session.dispatch(name, data)
        return told

    def tell(self, event: str, about: Any, guild: Guild, **more: Any) -> None:
        """Publish that a guild changed, or a channel, a role or a member of it."""
        payload = payloads.change(event, about, guild) | more
        intent = MEMBERS if event.startswith("GUILD_MEMBER") else GUILDS
        self.publish(event, payload, guild=guild, intent=intent)

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one socket until it closes."""
        socket = web.WebSocketResponse(compress=False, timeout=1.0)
        await socket.prepare(request)
        line = Line(socket, request)
        self._lines.add(line)
        writer = asyncio.create_task(line.write())
        interval = self._world.limits.heartbeat_seconds
        line.queue.put_nowait(_encode(HELLO, {"heartbeat_interval": int(interval * 1000)}))
        self._expect_heartbeat(line)
        try:
            async for frame in socket:
                if frame.type is WSMsgType.TEXT:
                    code = self._receive(line, frame.data)
                    if code is not None:
                        self._detach(line, keep=code not in _ENDS_SESSION)
                        await socket.close(code=code)
                        break
        finally:
            writer.cancel()
            self._lines.discard(line)
            if line.heartbeat is not None:
                line.heartbeat.cancel()
            self._detach(line, keep=socket.close_code not in (1000, 1001))
        return socket

    def drop(
        self,
        code: int | None,
        *,
        op: int | None,
        resume: bool,
        invalid: bool | None,
        duplicate: int,
        shard: int | None,
    ) -> int:
        """Lose every connected session (of `shard`); see `FakeDiscord.drop`."""
        lost = [one for one in self.connected if shard in (None, one.shard[0])]
        for session in lost:
            line = session.line
            assert line is not None
            session.repeat = duplicate
            if op == RECONNECT or invalid is not None:
                frame = _encode(RECONNECT) if invalid is None else _encode(INVALID_SESSION, invalid)
                line.queue.put_nowait(frame)
                self._detach(line, keep=resume and invalid is not False)
            elif code is None:
                self._detach(line, keep=resume)
                line.cut()
            else:
                self._detach(line, keep=resume and code not in _ENDS_SESSION)
                self._later(line.socket.close(code=code))
        return len(lost)

    async def close(self) -> None:
        """Hang up on everyone."""
        self.sessions.clear()
        for line in list(self._lines):
            line.session = None
            line.cut()
        for task in list(self._tasks):
            task.cancel()

    def _receive(self, line: Line, text: str) -> int | None:
        """Follow one frame of a client; returns the code to close with, if it broke a rule."""
        now = self._world.clock()
        if len(line.received) == GATEWAY_SENDS and now - line.received[0] < 60:
            self._world.violations.append("more than 120 gateway frames in a minute")
            return 4008
        line.received.append(now)
        try:
            frame = json.loads(text)
            op, data = frame["op"], frame.get("d")
        except (ValueError, KeyError, TypeError):
            return 4002
        if op == HEARTBEAT:
            line.queue.put_nowait(_encode(HEARTBEAT_ACK))
            self._expect_heartbeat(line)
        elif op == IDENTIFY:
            return self._identify(line, data)
        elif op == RESUME:
            return self._resume(line, data)
        elif op in (PRESENCE, VOICE, REQUEST_MEMBERS):
            if line.session is None:
                return 4003
            if op == REQUEST_MEMBERS:
                self._members(line.session, data)
        else:
            return 4001
        return None

    def _identify(self, line: Line, data: Json) -> int | None:
        world = self._world
        if line.session is not None:
            return 4005
        if data.get("token") != self._token:
            return 4004
        index, count = data.get("shard") or (0, 1)
        if not 0 <= index < count:
            return 4010
        if index in self.refused_shards:
            return 4000
        intents = data.get("intents")
        if not isinstance(intents, int):
            return 4013
        switched_on = (
            MEMBERS * world.members_intent
            | PRESENCES * world.presences_intent
            | CONTENT * world.message_content
        )
        if intents & (MEMBERS | PRESENCES | CONTENT) & ~switched_on:
            return 4014
        self.identified += 1
        session = Session(secrets.token_hex(16), intents, (index, count), line)
        line.session = self.sessions[session.id] = session
        guilds = [one for one in world.guilds.values() if one.has_bot and session.holds(one)]
        ready = {
            "v": 10,
            "user": payloads.user(world.bot),
            "guilds": [{"id": str(one.id), "unavailable": True} for one in guilds],
            "private_channels": [],
            "session_id": session.id,
            "resume_gateway_url": self.url,
            "shard": [index, count],
            "application": {
                "id": str(world.application_id),
                "flags": payloads.application(world)["flags"],
            },
        }
        session.dispatch("READY", json.dumps(ready))
        for guild in [one for one in guilds if one.available]:
            told = {**payloads.guild(guild), "unavailable": False}
            session.dispatch("GUILD_CREATE", json.dumps(told))
        return None

    def _resume(self, line: Line, data: Json) -> int | None:
        if data.get("token") != self._token:
            return 4004
        self._forget_lost()
        session = self.sessions.get(data.get("session_id") or "")
        if session is None:
            line.queue.put_nowait(_encode(INVALID_SESSION, False))
            return None
        seen = data.get("seq") or 0
        if seen > session.sequence:
            return 4007
        if session.line is not None:
            old = session.line
            self._detach(old, keep=True)
            self._later(old.socket.close(code=4000))
        session.line, line.session = line, session
        again = [one for one in session.sent if one[0] <= seen and one[1] in _REPEATABLE]
        missed = [one for one in session.sent if one[0] > seen]
        repeated = again[len(again) - min(session.repeat, len(again)) :]
        session.repeat = 0
        for _, _, frame in [*repeated, *missed]:
            line.queue.put_nowait(frame)
        session.dispatch("RESUMED", "{}")
        self.resumed += 1
        return None

    def _members(self, session: Session, data: Json) -> None:
        guild = self._world.guilds.get(int(data["guild_id"]))
        if guild is None:
            return
        ids, query = data.get("user_ids"), (data.get("query") or "").lower()
        wanted = {int(id) for id in ids} if ids else None
        found = [
            payloads.member(one)
            for one in guild.members.values()
            if (one.user.id in wanted if wanted else one.user.name.lower().startswith(query))
        ]
        chunk = {"guild_id": str(guild.id), "members": found, "chunk_index": 0, "chunk_count": 1}
        session.dispatch("GUILD_MEMBERS_CHUNK", json.dumps(chunk | {"nonce": data.get("nonce")}))

    def _expect_heartbeat(self, line: Line) -> None:
        if line.heartbeat is not None:
            line.heartbeat.cancel()
        wait = 2 * self._world.limits.heartbeat_seconds
        line.heartbeat = asyncio.get_running_loop().call_later(wait, line.cut)

    def _detach(self, line: Line, *, keep: bool) -> None:
        """Part a session from its socket; it waits for a resume only if it is kept."""
        session, line.session = line.session, None
        if session is None:
            return
        session.line, session.lost_at = None, self._world.clock()
        if not keep:
            self.sessions.pop(session.id, None)

    def _forget_lost(self) -> None:
        oldest = self._world.clock() - self._world.limits.session_seconds
        for session in list(self.sessions.values()):
            if session.line is None and session.lost_at < oldest:
                del self.sessions[session.id]

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
