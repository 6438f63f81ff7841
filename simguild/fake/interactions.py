"""Commands, clicks and modals: acknowledged within three seconds, answered within 15 minutes."""

from __future__ import annotations

import secrets
from typing import Any

from simguild.fake import messages, payloads
from simguild.fake.errors import ApiError, Fault, invalid_form, unknown, unknown_message
from simguild.fake.forms import CALLBACK_KEYS, EDIT_KEYS, MODAL_KEYS, WEBHOOK_KEYS, check_modal
from simguild.fake.messages import Upload
from simguild.fake.world import EPHEMERAL, LOADING, Channel, FakeMessage, Interaction, User, World

Json = dict[str, Any]

# Kinds of interactions and of first responses, by Discord's numbers.
COMMAND, COMPONENT, MODAL_SUBMIT = 2, 3, 5
MESSAGE, DEFERRED, DEFERRED_UPDATE, UPDATE, MODAL = 4, 5, 6, 7, 9
_ANSWERS = {
    COMMAND: {MESSAGE, DEFERRED, MODAL},
    COMPONENT: {MESSAGE, DEFERRED, DEFERRED_UPDATE, UPDATE, MODAL},
    MODAL_SUBMIT: {MESSAGE, DEFERRED, DEFERRED_UPDATE, UPDATE},
}
_SLASH, _CONTEXT, _REPLY = 20, 23, 19  # kinds of messages


class Interactions:
    """The open interactions, and what the bot does about them."""

    def __init__(self, world: World):
        self._world = world
        self._by_id: dict[int, Interaction] = {}
        self._by_token: dict[str, Interaction] = {}

    def start(
        self, kind: int, user: User, channel: Channel, data: Json, source: FakeMessage | None = None
    ) -> Interaction:
        """Tell the clients what `user` did."""
        world = self._world
        token = secrets.token_hex(32)
        one = Interaction(world.new_id(), token, kind, user, channel, data, world.clock(), source)
        self._by_id[one.id] = self._by_token[token] = one
        payload = payloads.interaction(one)
        one.undelivered = not world.publish("INTERACTION_CREATE", payload, guild=channel.guild)
        return one

    def lost_connection(self) -> None:
        """What was just sent may not have arrived: who answers it late is not to blame."""
        for one in self._by_id.values():
            one.undelivered |= one.acknowledged_ms is None

    def respond(self, id: int, token: str, body: Json, files: dict[int, Upload]) -> Json:
        """The first response; the resource that `with_response` asks for."""
        one = self._by_id.get(id)
        if one is None or one.token != token:
            raise unknown("interaction", 10062)
        self._check_time(one)
        answer, data = body.get("type"), body.get("data") or {}
        messages.note_unknown(self._world, "a response", body, {"type", "data"})
        if answer not in _ANSWERS[one.kind] or (
            answer in (DEFERRED_UPDATE, UPDATE) and not one.source
        ):
            words = f"{answer} is no answer to this kind of interaction."
            raise invalid_form([Fault("type", "BASE_TYPE_CHOICES", words)])
        if answer == MESSAGE:
            self._answer(one, data, files, original=True)
        elif answer == DEFERRED:
            flags = data.get("flags", 0) & EPHEMERAL | LOADING
            one.message = messages.write(
                one.channel, {}, {}, known=CALLBACK_KEYS, flags=flags, allow_empty=True
            )
            self._put(one, one.message, original=True)
        elif answer == MODAL:
            messages.note_unknown(self._world, "a modal", data, MODAL_KEYS)
            check_modal(data)
            one.modal = data
        else:
            one.message = one.source
            if answer == UPDATE and one.message is not None:
                self._there(one.message)
                messages.rewrite(one.message, data, files, EDIT_KEYS)
        one.answer = answer
        one.acknowledged_ms = (self._world.clock() - one.started) * 1000
        one.acknowledged.set()
        return _resource(one)

    def follow_up(self, token: str, body: Json, files: dict[int, Upload]) -> FakeMessage:
        """One more message; the first after a deferred response takes that one's place."""
        one = self._open(token)
        if one.message is not None and one.message.loading and not one.message.deleted:
            messages.rewrite(one.message, _without_flags(body), files, WEBHOOK_KEYS)
            return one.message
        return self._answer(one, body, files, original=False)

    def find(self, token: str, id: str) -> FakeMessage:
        """A message that this interaction brought about; `id` may be "@original"."""
        one = self._open(token)
        if id == "@original":
            if one.message is None:
                raise unknown_message()
            return self._there(one.message)
        for message in [*one.sent, *([one.message] if one.message else [])]:
            if str(message.id) == id:
                return self._there(message)
        raise unknown_message()

    def edit(self, token: str, id: str, body: Json, files: dict[int, Upload]) -> FakeMessage:
        """Change such a message."""
        message = self.find(token, id)
        messages.rewrite(message, body, files, WEBHOOK_KEYS)
        return message

    def delete(self, token: str, id: str) -> None:
        """Delete such a message."""
        messages.remove(self.find(token, id))

    def _open(self, token: str) -> Interaction:
        one = self._by_token.get(token)
        if one is None or one.answer is None:
            raise unknown("Webhook", 10015)
        late = self._world.clock() - one.started > self._world.limits.token_seconds
        if one.expired or late:
            words = "" if one.expired else "an interaction's token used after 15 minutes"
            raise ApiError(401, 50027, "Invalid Webhook Token", violation=words)
        return one

    def _check_time(self, one: Interaction) -> None:
        if one.answer is not None:
            words = "an interaction acknowledged twice"
            raise ApiError(
                400, 40060, "Interaction has already been acknowledged.", violation=words
            )
        late = self._world.clock() - one.started > self._world.limits.interaction_seconds
        if late or one.expired:
            blamed = late and not one.expired and not one.undelivered
            words = "an interaction acknowledged after its time" if blamed else ""
            raise ApiError(404, 10062, "Unknown interaction", violation=words)

    def _answer(
        self, one: Interaction, body: Json, files: dict[int, Upload], *, original: bool
    ) -> FakeMessage:
        reference = one.source if original else one.message
        message = messages.write(
            one.channel,
            body,
            files,
            known=CALLBACK_KEYS if original else WEBHOOK_KEYS,
            reference=None if reference is None or reference.deleted else reference,
        )
        return self._put(one, message, original=original)

    def _put(self, one: Interaction, message: FakeMessage, *, original: bool) -> FakeMessage:
        message.interaction = one
        if original:
            one.message = message
        by_type = {1: _SLASH, 3: _CONTEXT}
        is_command = original and one.kind == COMMAND
        message.kind = by_type[one.data["type"]] if is_command else _REPLY
        one.sent.append(message)
        return messages.post(self._world, message, ping_reply=False)

    @staticmethod
    def _there(message: FakeMessage) -> FakeMessage:
        if message.deleted:
            raise unknown_message()
        return message


def _without_flags(body: Json) -> Json:
    return {key: value for key, value in body.items() if key != "flags"}


def _resource(one: Interaction) -> Json:
    told: Json = {"id": str(one.id), "type": one.kind, "channel_id": str(one.channel.id)}
    if one.message is not None:
        told["response_message_id"] = str(one.message.id)
        told["response_message_loading"] = one.message.loading
        told["response_message_ephemeral"] = one.message.ephemeral
    resource: Json = {"type": one.answer}
    if one.answer in (MESSAGE, UPDATE) and one.message is not None:
        resource["message"] = payloads.message(one.message)
    return {"interaction": told, "resource": resource}
