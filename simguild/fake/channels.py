"""The REST routes of channels: messages, typing, reactions, threads."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from simguild.fake import limits, messages, payloads
from simguild.fake.call import Call, Route
from simguild.fake.errors import (
    ApiError,
    Fault,
    invalid_form,
    missing_access,
    missing_permissions,
    unknown,
    unknown_channel,
    unknown_message,
)
from simguild.fake.forms import CREATE_KEYS, EDIT_KEYS, Form
from simguild.fake.permissions import Permission
from simguild.fake.world import (
    DM_REACTIONS,
    EPHEMERAL,
    GUILDS,
    HAS_THREAD,
    NEWS,
    NEWS_THREAD,
    PRIVATE_THREAD,
    PUBLIC_THREAD,
    REACTIONS,
    TEXT,
    Channel,
    FakeMessage,
    User,
    World,
)

Json = dict[str, Any]


class ChannelRoutes:
    """What the bot does in channels, if it may."""

    def __init__(self, world: World):
        self._world = world
        self._nonces: dict[str, tuple[float, FakeMessage]] = {}

    def routes(self) -> list[Route]:
        """Method, path, handler and the rate limit's bucket."""
        channel, one = "/channels/{channel}", "/channels/{channel}/messages/{message}"
        reaction = one + "/reactions/{emoji}/@me"
        return [
            ("GET", channel, self._get_channel, ""),
            ("PATCH", channel, self._edit_channel, ""),
            ("DELETE", channel, self._delete_channel, ""),
            ("POST", channel + "/typing", self._type, ""),
            ("GET", channel + "/messages", self._get_messages, ""),
            ("POST", channel + "/messages", self._create_message, "messages"),
            ("GET", one, self._get_message, ""),
            ("PATCH", one, self._edit_message, "messages"),
            ("DELETE", one, self._delete_message, "messages"),
            ("PUT", reaction, self._add_reaction, ""),
            ("DELETE", reaction, self._remove_reaction, ""),
            ("POST", one + "/threads", self._start_thread, ""),
            ("POST", channel + "/threads", self._start_thread, ""),
            ("PUT", channel + "/thread-members/{user}", self._join_thread, ""),
            ("DELETE", channel + "/thread-members/{user}", self._leave_thread, ""),
        ]

    def _channel(self, call: Call, permission: Permission | int = 0) -> Channel:
        """The channel, if the bot sees it and has `permission` there."""
        channel = self._world.channels.get(call.id("channel"))
        if channel is None:
            raise unknown_channel()
        own, needed = channel.permissions(self._world.bot), int(permission)
        if not own & Permission.VIEW_CHANNEL.value:
            raise missing_access()
        if own & needed != needed:
            raise missing_permissions()
        return channel

    def _message(self, call: Call, permission: Permission | int = 0) -> FakeMessage:
        channel = self._channel(call, permission)
        message = self._world.messages.get(call.id("message"))
        if message is None or message.deleted or message.channel is not channel:
            raise unknown_message()
        return message

    def _writable(self, call: Call) -> Channel:
        """The channel, if the bot may write there."""
        channel = self._channel(call)
        thread = channel.is_thread
        needed = Permission.SEND_MESSAGES_IN_THREADS if thread else Permission.SEND_MESSAGES
        if channel.recipient is not None and channel.recipient.blocks_dms:
            raise ApiError(403, 50007, "Cannot send messages to this user")
        return self._channel(call, needed)

    def _get_channel(self, call: Call) -> Json:
        return payloads.channel(self._channel(call))

    def _edit_channel(self, call: Call) -> Json:
        channel = self._channel(call)
        kind = Permission.MANAGE_THREADS if channel.is_thread else Permission.MANAGE_CHANNELS
        if channel.owner is not self._world.bot:
            self._channel(call, kind)
        channel.name = call.body.get("name", channel.name)
        channel.archived = call.body.get("archived", channel.archived)
        channel.locked = call.body.get("locked", channel.locked)
        channel.tell("THREAD_UPDATE" if channel.is_thread else "CHANNEL_UPDATE")
        return payloads.channel(channel)

    def _delete_channel(self, call: Call) -> Json:
        channel = self._channel(call)
        kind = Permission.MANAGE_THREADS if channel.is_thread else Permission.MANAGE_CHANNELS
        self._channel(call, kind)  # not even who opened a thread may delete it without
        self._world.remove_channel(channel)
        return payloads.channel(channel)

    def _type(self, call: Call) -> None:
        channel = self._writable(call)
        channel.typed += 1
        messages.notice(channel)

    def _get_messages(self, call: Call) -> list[Json]:
        channel = self._channel(call)
        if not channel.can(self._world.bot, Permission.READ_MESSAGE_HISTORY):
            return []
        limit = int(call.query.get("limit", 50))
        if not 1 <= limit <= limits.HISTORY:
            raise invalid_form([Fault("limit", "NUMBER_TYPE_MAX", f"1 to {limits.HISTORY}.")])
        found = [one for one in channel.messages if not one.deleted]
        if "before" in call.query:
            found = [one for one in found if one.id < int(call.query["before"])]
        if "after" in call.query:
            found = [one for one in found if one.id > int(call.query["after"])][:limit]
        content = self._world.message_content
        return [payloads.message(one, content=content) for one in reversed(found[-limit:])]

    def _get_message(self, call: Call) -> Json:
        message = self._message(call, Permission.READ_MESSAGE_HISTORY)
        return payloads.message(message, content=self._world.message_content)

    def _create_message(self, call: Call) -> Json:
        channel, body = self._writable(call), call.body
        again = self._with_same_nonce(body)
        if again is not None:
            return payloads.message(again)
        if call.files and not channel.can(self._world.bot, Permission.ATTACH_FILES):
            raise missing_permissions()
        reference = self._reference(channel, body.get("message_reference"))
        body = {**body, "flags": body.get("flags", 0) & ~EPHEMERAL}
        message = messages.write(
            channel,
            body,
            call.files,
            known=CREATE_KEYS,
            reference=reference,
            kind=19 if reference else 0,
        )
        if channel.archived:
            if channel.locked:
                raise ApiError(400, 50083, "Thread is archived")
            channel.archived = False
            channel.tell("THREAD_UPDATE")
        rule = body.get("allowed_mentions")
        messages.post(
            self._world, message, ping_reply=rule is None or rule.get("replied_user", False)
        )
        if message.nonce is not None and body.get("enforce_nonce"):
            self._nonces[message.nonce] = (self._world.clock(), message)
        return payloads.message(message)

    def _with_same_nonce(self, body: Json) -> FakeMessage | None:
        """The message that the bot made with this nonce within the last minutes."""
        oldest = self._world.clock() - self._world.limits.nonce_seconds
        while self._nonces and next(iter(self._nonces.values()))[0] < oldest:
            del self._nonces[next(iter(self._nonces))]
        if not body.get("enforce_nonce") or str(body.get("nonce")) not in self._nonces:
            return None
        message = self._nonces[str(body["nonce"])][1]
        if message.deleted:
            raise unknown_message()
        return message

    def _reference(self, channel: Channel, told: Json | None) -> FakeMessage | None:
        if told is None:
            return None
        if not channel.can(self._world.bot, Permission.READ_MESSAGE_HISTORY):
            words = "Cannot reply without permission to read message history"
            raise ApiError(400, 160002, words)
        message = self._world.messages.get(int(told["message_id"]))
        if message is not None and not message.deleted and message.channel is channel:
            return message
        if told.get("fail_if_not_exists", True):
            # Discord itself says 50035 with this code inside; 10008 is what the library's users see
            raise unknown_message()
        return None

    def _edit_message(self, call: Call) -> Json:
        message = self._message(call)
        if message.author is not self._world.bot:
            words = "Cannot edit a message authored by another user"
            raise ApiError(403, 50005, words, violation="an edit of another's message")
        if message.channel.archived:
            raise ApiError(400, 50083, "Thread is archived")
        messages.rewrite(message, call.body, call.files, EDIT_KEYS)
        return payloads.message(message)

    def _delete_message(self, call: Call) -> None:
        message = self._message(call)
        if message.author is not self._world.bot:
            self._channel(call, Permission.MANAGE_MESSAGES)
        messages.remove(message)

    def _add_reaction(self, call: Call) -> None:
        message = self._message(call, Permission.ADD_REACTIONS)
        users = message.reactions.setdefault(unquote(call.path["emoji"]), [])
        if self._world.bot not in users:
            users.append(self._world.bot)
            self._tell_reaction(message, call, "ADD")
        messages.notice(message.channel, message)

    def _remove_reaction(self, call: Call) -> None:
        message = self._message(call)
        users = message.reactions.get(unquote(call.path["emoji"]), [])
        if self._world.bot in users:
            users.remove(self._world.bot)
            self._tell_reaction(message, call, "REMOVE")

    def _tell_reaction(self, message: FakeMessage, call: Call, what: str) -> None:
        channel = message.channel
        payload: Json = {
            "user_id": str(self._world.bot.id),
            "channel_id": str(channel.id),
            "message_id": str(message.id),
            "emoji": {"id": None, "name": unquote(call.path["emoji"])},
            "burst": False,
            "type": 0,
        }
        if channel.guild is not None:
            payload["guild_id"] = str(channel.guild.id)
        self._world.publish(
            f"MESSAGE_REACTION_{what}",
            payload,
            guild=channel.guild,
            channel=channel,
            intent=REACTIONS if channel.guild else DM_REACTIONS,
        )

    def _start_thread(self, call: Call) -> Json:
        parent = self._channel(call)
        kind = _kind_of_thread(parent, call)
        private = kind == PRIVATE_THREAD
        self._channel(
            call,
            Permission.CREATE_PRIVATE_THREADS if private else Permission.CREATE_PUBLIC_THREADS,
        )
        assert parent.guild is not None
        if len(parent.guild.threads) >= self._world.limits.active_threads:
            raise ApiError(400, 160006, "Maximum number of active threads reached")
        form = Form()
        form.length("name", call.body.get("name"), limits.THREAD_NAME, 1)
        form.check()
        starter = self._message(call) if "message" in call.path else None
        if starter is not None and starter.thread is not None:
            words = "A thread has already been created for this message"
            raise ApiError(400, 160004, words)
        bot = self._world.bot
        thread = self._world.add_channel(
            call.body["name"],
            guild=parent.guild,
            id=starter.id if starter else None,  # a thread has its first message's id
            kind=kind,
            parent=parent,
            owner=bot,
            members=[bot],
        )
        payload = {**payloads.channel(thread), "newly_created": True}
        self._world.publish("THREAD_CREATE", payload, guild=parent.guild, intent=GUILDS)
        if starter is not None:
            starter.thread, starter.flags = thread, starter.flags | HAS_THREAD
            messages.tell_edit(starter)
            messages.notice(parent, starter)
        return payload

    def _join_thread(self, call: Call) -> None:
        thread, user = self._thread_and_user(call)
        self._writable(call)  # who adds somebody has to be able to write there
        if thread.archived:
            raise ApiError(400, 50083, "Thread is archived")
        if user in thread.members:
            return
        if len(thread.members) >= self._world.limits.thread_members:
            words = "Maximum number of thread participants has been reached"
            raise ApiError(400, 30033, f"{words} ({self._world.limits.thread_members})")
        thread.members.append(user)

    def _leave_thread(self, call: Call) -> None:
        thread, user = self._thread_and_user(call)
        if user in thread.members:
            thread.members.remove(user)

    def _thread_and_user(self, call: Call) -> tuple[Channel, User]:
        thread, id = self._channel(call), call.path["user"]
        user = self._world.bot if id == "@me" else self._world.users.get(int(id))
        if not thread.is_thread:
            raise unknown_channel()
        if user is None:
            raise unknown("User", 10013)
        return thread, user


def _kind_of_thread(parent: Channel, call: Call) -> int:
    """Of the kind that is asked for, if there are such threads in the channel."""
    kinds = {TEXT: (PUBLIC_THREAD, PRIVATE_THREAD), NEWS: (NEWS_THREAD,)}.get(parent.kind, ())
    from_message = "message" in call.path
    kind = kinds[0] if from_message and kinds else call.body.get("type", PRIVATE_THREAD)
    if kind not in kinds:
        raise ApiError(400, 50024, "Cannot execute action on this channel type")
    return int(kind)
