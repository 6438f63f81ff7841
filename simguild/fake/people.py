"""What simulated people do: they write, reply, call commands, press buttons, fill in forms."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from simguild.fake import forms, limits, messages, payloads
from simguild.fake.commands import Commands
from simguild.fake.errors import Refused
from simguild.fake.interactions import COMMAND, COMPONENT, MODAL_SUBMIT, Interactions
from simguild.fake.messages import Upload
from simguild.fake.permissions import Permission
from simguild.fake.sharing import Sharing
from simguild.fake.world import Channel, FakeMessage, Interaction, User, World

File = tuple[str, bytes, str]  # name, content, content type


class People(Sharing):
    """All a person can do with Discord's own client; what it would not allow is `Refused`."""

    def __init__(self, world: World):
        super().__init__(world)
        self.commands = Commands(world)
        self.interactions = Interactions(world)

    async def say(
        self,
        user: User,
        channel: Channel,
        content: str = "",
        *,
        reply_to: FakeMessage | None = None,
        attachments: Sequence[File] = (),
        stickers: Sequence[str] = (),
        ping: bool = True,
    ) -> FakeMessage:
        """A person writes; a reply pings its author unless `ping` is off.

        Raises `Refused` for what Discord's client would not send.
        """
        thread = channel.is_thread
        needed = Permission.SEND_MESSAGES_IN_THREADS if thread else Permission.SEND_MESSAGES
        if not channel.can(user, needed):
            raise Refused(f"{user.name} may not write in {channel.name}")
        if limits.utf16_length(content) > limits.CONTENT:
            raise Refused(f"a message of {limits.utf16_length(content)} characters")
        content = content.strip()
        if not content and not attachments and not stickers:
            raise Refused("an empty message")
        if reply_to is not None and reply_to.deleted:
            raise Refused("a reply to a message that is gone")
        called = messages.called(content, channel)
        message = FakeMessage(
            self.world.new_id(),
            channel,
            user,
            content,
            self.world.clock(),
            reference=reply_to,
            kind=19 if reply_to else 0,
            attachments=messages.attach(channel, [Upload(*file) for file in attachments]),
            stickers=[
                {"id": str(self.world.new_id()), "name": name, "format_type": 1}
                for name in stickers
            ],
            mentions=called.users,
            role_mentions=called.roles,
            everyone=called.everyone and messages.may_call_everyone(channel, user),
        )
        messages.post(self.world, message, ping_reply=ping)
        await asyncio.sleep(0)  # let the gateway write
        return message

    async def edit_by_user(self, message: FakeMessage, content: str) -> None:
        """The author changes their message."""
        before = messages.called(message.content, message.channel)
        called = messages.called(content, message.channel)
        message.content = content
        message.edits.append(content)
        message.edited = self.world.time()
        pinged = [who for who in message.mentions if who not in before.users]  # by the reply
        message.mentions = list(dict.fromkeys([*called.users, *pinged]))
        message.role_mentions = called.roles
        messages.tell_edit(message)
        await asyncio.sleep(0)

    async def delete(self, message: FakeMessage) -> None:
        """A message goes: by its author or a moderator."""
        messages.remove(message)
        await asyncio.sleep(0)

    async def purge(self, gone: Sequence[FakeMessage]) -> None:
        """A moderator clears messages of one channel away, all at once."""
        messages.remove_many(gone)
        await asyncio.sleep(0)

    async def delete_channel(self, channel: Channel) -> None:
        """A moderator deletes a channel with its threads, or a thread: nothing is said of what
        was in them, nor of the threads."""
        self.world.remove_channel(channel)
        await asyncio.sleep(0)

    async def slash(
        self,
        user: User,
        channel: Channel,
        name: str,
        options: Mapping[str, Any] | None = None,
        *,
        wait: bool = True,
    ) -> Interaction:
        """A person calls a registered command ("ask", or "settings channel" for a subcommand).

        Options are text, numbers, `User`, `Channel`, `Role`, or a file's (name, content, type).
        Returns when the bot has acknowledged it or its time is over; at once without `wait`.
        Raises `Refused` where Discord's client would not offer the command.
        """
        self._check_sees(user, channel, Permission.USE_APPLICATION_COMMANDS)
        data = self.commands.slash_data(name, options or {}, user, channel)
        return await self._do(COMMAND, user, channel, data, wait=wait)

    async def context_menu(
        self, user: User, channel: Channel, name: str, message: FakeMessage, *, wait: bool = True
    ) -> Interaction:
        """A person picks an entry of a message's menu; see `slash`."""
        self._check_sees(user, channel, Permission.USE_APPLICATION_COMMANDS)
        if message.channel is not channel or message.deleted:
            raise Refused("the message is not here")
        data = self.commands.menu_data(name, user, channel, payloads.message(message))
        return await self._do(COMMAND, user, channel, data, wait=wait)

    async def click(
        self, user: User, message: FakeMessage, custom_id: str, *, wait: bool = True
    ) -> Interaction:
        """A person presses a button; `Refused` unless the message carries it, enabled."""
        self._check_sees(user, message.channel)
        viewer = message.interaction.user if message.interaction else user
        if message.deleted or (message.ephemeral and user is not viewer):
            raise Refused(f"{user.name} does not see this message")
        for button in message.buttons:
            if button.get("custom_id") == custom_id:
                if button.get("disabled"):
                    raise Refused(f"the button {custom_id!r} is disabled")
                data = {"custom_id": custom_id, "component_type": button["type"]}
                return await self._do(
                    COMPONENT, user, message.channel, data, source=message, wait=wait
                )
        there = [button.get("custom_id") for button in message.buttons]
        raise Refused(f"no button {custom_id!r} on this message; there are {there}")

    async def submit(
        self,
        user: User,
        opened: Interaction,
        values: Mapping[str, str],
        *,
        ticked: Sequence[str] = (),
        forged: bool = False,
        wait: bool = True,
    ) -> Interaction:
        """A person fills in the modal that their interaction opened.

        `values` go by the inputs' custom_ids; where there is one input only, by any name. `ticked`
        are boxes by their values; with a `forged` client any number of them is taken.
        """
        if opened.modal is None or opened.user is not user:
            raise Refused(f"no modal opened for {user.name}")
        inputs = {part["custom_id"]: part for _, part, _ in forms.text_inputs(opened.modal)}
        if len(inputs) == len(values) == 1:
            values = dict(zip(inputs, values.values(), strict=True))
        if set(values) - set(inputs):
            raise Refused(f"the modal has {list(inputs)}, not {list(values)}")
        given: dict[str, Any] = {}
        for id, part in inputs.items():
            given[id] = said = values.get(id, part.get("value") or "")
            least = part.get("min_length") or int(part.get("required", True))
            most = part.get("max_length") or limits.MODAL_INPUT
            size = limits.utf16_length(said)
            if size > most or (size < least and (size or part.get("required", True))):
                raise Refused(f"{id!r} takes {least} to {most} characters")
        for _, group, _ in forms.ticks(opened.modal):
            there = {option["value"] for option in group["options"]}
            chosen = [value for value in ticked if value in there]
            least, most = group.get("min_values") or 0, group.get("max_values") or 1
            if not (least <= len(chosen) <= most or forged):
                raise Refused(f"{group['custom_id']!r} takes {least} to {most} ticks")
            given[group["custom_id"]] = chosen
        components = [_filled(row, given) for row in opened.modal["components"]]
        data = {"custom_id": opened.modal["custom_id"], "components": components}
        return await self._do(
            MODAL_SUBMIT, user, opened.channel, data, source=opened.source, wait=wait
        )

    def expire(self, interaction: Interaction) -> None:
        """The interaction's time is over, at once."""
        interaction.expired = True

    async def _do(
        self,
        kind: int,
        user: User,
        channel: Channel,
        data: dict[str, Any],
        *,
        source: FakeMessage | None = None,
        wait: bool,
    ) -> Interaction:
        interaction = self.interactions.start(kind, user, channel, data, source)
        if wait:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.world.limits.interaction_seconds):
                    await interaction.acknowledged.wait()
        return interaction

    @staticmethod
    def _check_sees(user: User, channel: Channel, permission: Permission | int = 0) -> None:
        needed = Permission.VIEW_CHANNEL | permission
        if not channel.can(user, needed):
            raise Refused(f"{user.name} may not do this in {channel.name}")


def _filled(row: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A row or label of a modal, as its submission carries it."""

    def value(part: dict[str, Any]) -> dict[str, Any]:
        key = "values" if part["type"] == forms.TICKS else "value"
        return {"type": part["type"], "custom_id": part["custom_id"], key: given[part["custom_id"]]}

    if row["type"] == forms.TEXT_DISPLAY:
        return {"type": row["type"]}

    if "component" in row:
        return {"type": row["type"], "component": value(row["component"])}
    return {"type": row["type"], "components": [value(part) for part in row["components"]]}
