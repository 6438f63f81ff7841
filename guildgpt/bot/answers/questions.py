"""How a question comes to be: the event, what was said before it, and its row in the store."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from guildgpt.bot.answers.ending import Refused
from guildgpt.bot.answers.events import Event, Quoted, Work, without_words
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.text import sentences as say
from guildgpt.chat import Message, Role
from guildgpt.feedback.records import NOT_THEIRS, ConversationKind, Member, StoredMessage
from guildgpt.feedback.store import Store
from guildgpt.talk.fitting import NoRoom, first_that_fits, fit
from guildgpt.talk.fleet import OpenedModel
from guildgpt.talk.moderation import Moderator

log = EventLog(__name__)
_MENTION = re.compile(r"<@!?([0-9]{1,20})>")  # an id of Discord's fits into 64 bits
SOMEONE = "someone"  # people whose names are not at hand
GO_ON = "Please go on."  # what a bare mention says to an answer of the bot's


@dataclass(frozen=True)
class Question:
    """What is to be answered: the turns before it, the question, its row if it is kept.

    `told` are the rows that the model is told, as they are, its own the last; `below` is the one
    that it is asked below. `unkept` are quoted messages without one, because nobody may keep them,
    and `told_besides` are their words. `conversation` tells the one that it belongs to from all
    others.
    """

    turns: Sequence[Message]
    asked: Message
    stored: StoredMessage | None
    told: Sequence[StoredMessage]
    below: StoredMessage | None
    unkept: Sequence[Quoted]
    told_besides: Sequence[str]
    conversation: str

    def ids(self, model: OpenedModel, systems: Sequence[str], max_tokens: int) -> list[int]:
        """The prompt's ids, with the first system text that leaves room for a question, and the
        turns that fit into the model's context beside an answer; blocks for a moment."""
        for system in (first_that_fits(model, systems, max_tokens), ""):
            if system != next(iter(systems), ""):
                context = model.engine.context
                log("system_text_too_long", level=logging.WARNING, context=context)
            with suppress(NoRoom):  # a question of long names and rare signs needs more than usual
                room = model.room(max_tokens)
                fitted = fit(self.turns, self.asked, system=system, count=model.count, room=room)
                return model.prompt(fitted.messages)
        raise Refused(say.QUESTION_TOO_LONG, "no-room")


@dataclass
class Questions:
    """Makes questions, and keeps them where the one who asks allows it. The model is told no name
    that the moderator does not let pass."""

    store: Store
    moderator: Moderator

    async def asked(self, work: Work, member: Member) -> Question:
        """The question that an event asks."""
        event = work.event
        if work.delivery.question_id:
            return await self._again(event, work.delivery.question_id)
        if not work.whole:
            raise Refused(say.ASK_AGAIN, "interrupted")
        replied_to = await self._found(event.answers_to, event.channel_id)
        before = replied_to
        if before is None and event.continues:
            before = await self.store.conversations.channel_tail(event.channel_id)
        starter = await self._found(event.starter_id, event.channel_id)
        before = before or starter
        path = await self.store.conversations.path_to(before.id) if before else []
        above = await self._above(event)
        known = {message.discord_id for message in (*above, *path)}
        if replied_to is not None:
            known.add(event.answers_to)
        unkept: Sequence[Quoted] = [one for one in event.quoted if one.id not in known]
        if not event.text and not (unkept or replied_to or starter or above):
            raise Refused(say.EMPTY, "empty")
        stored = None
        if member.consent != "none":
            kept, unkept = await self._keep(event, member, before, unkept)
            path = [*path, *kept]
            stored = kept[-1]
            await self.store.deliveries.update(
                work.delivery.id, question_id=stored.id, extra=without_words(work.delivery.extra)
            )
        return self._question(event, above, path, stored, unkept, below=before)

    async def anew(self, event: Event, question: Question) -> Question:
        """The same question as it is now, after something was edited or deleted."""
        stored = question.stored
        if stored and event.id == stored.discord_id and event.edited_at:
            # An edit may have come while its row was being made.
            await self.store.revisions.edit(event.id, event.text, event.edited_at)
        if stored:
            path = await self._path_of(stored.id)
            stored = path[-1]
        else:
            path = (
                await self.store.conversations.path_to(question.below.id) if question.below else []
            )
        above = await self._above(event)
        return self._question(event, above, path, stored, question.unkept, below=question.below)

    async def asked_before(self, work: Work, member: Member) -> Question:
        """The question that is to be answered once more: of an answer, or the member's last one
        in the channel."""
        question_id = work.delivery.question_id
        if question_id is None:
            asked = await self._wanted(work.event, member)
            if asked.deleted:
                raise Refused(say.RECORD_GONE, "record-gone")
            if asked.member_id != member.id:
                raise Refused(say.NOT_YOURS, "not-theirs")
            question_id = asked.id
            await self.store.deliveries.update(work.delivery.id, question_id=question_id)
        return await self._again(work.event, question_id)

    async def _wanted(self, event: Event, member: Member) -> StoredMessage:
        if event.again is None:
            last = await self.store.conversations.last_question(member.id, event.channel_id)
            if last is None:
                raise Refused(say.NOTHING_TO_RETRY, "nothing-to-retry")
            return last
        answer = await self.store.conversations.message(event.again)
        asked = await self.store.conversations.message(answer.parent_id or "") if answer else None
        if asked is None:
            raise Refused(say.RECORD_GONE, "record-gone")
        if not await self._is_in(asked, event.channel_id):
            raise Refused(say.WRONG_PLACE, "wrong-place")
        return asked

    async def _again(self, event: Event, question_id: str) -> Question:
        path = await self._path_of(question_id)
        above = await self._above(event)
        known = {message.discord_id for message in (*above, *path)}
        unkept = [one for one in event.quoted if one.id not in known]
        return self._question(event, above, path, path[-1], unkept)

    async def _path_of(self, question_id: str) -> list[StoredMessage]:
        """The rows down to a question's own, which has to be there."""
        path = await self.store.conversations.path_to(question_id)
        if not path or path[-1].deleted:
            raise Refused("", "deleted")
        return path

    async def _found(self, discord_id: int | None, channel_id: int | None) -> StoredMessage | None:
        """The message with this id on Discord, if it was said in that channel: an id from elsewhere
        would let one channel read another's conversation."""
        found = discord_id and await self.store.conversations.message_by_discord_id(discord_id)
        return found if found and await self._is_in(found, channel_id) else None

    async def _above(self, event: Event) -> Sequence[StoredMessage]:
        """What the bot knows of the message that a thread hangs from: for all who are in the
        thread it stands above it, though it was said in the channel."""
        if event.home_id is None:
            return ()
        starter = await self._found(event.starter_id, event.home_id)
        return await self.store.conversations.path_to(starter.id) if starter else ()

    async def _is_in(self, message: StoredMessage, channel_id: int | None) -> bool:
        return await self.store.conversations.channel_of(message.conversation_id) == channel_id

    async def _keep(
        self,
        event: Event,
        member: Member,
        before: StoredMessage | None,
        quoted: Sequence[Quoted],
    ) -> tuple[list[StoredMessage], list[Quoted]]:
        """Rows for what a question quotes and, the last, for itself, below what was said `before`;
        and what of the quoted nobody may keep. Each is its author's, so that an erasure or a
        deletion finds it."""
        conversation = before.conversation_id if before else None
        if conversation is None:
            conversation = await self.store.conversations.start(
                _kind(event),
                guild_id=event.guild_id,
                channel_id=event.channel_id,
                home_id=event.home_id,
            )
        kept: list[StoredMessage] = []
        unkept: list[Quoted] = []
        question = Quoted(
            event.id, event.asker.name, event.text, event.asker.user_id, edited_at=event.edited_at
        )
        for one in (*quoted, question):
            author: Member | None = member
            if one is not question:
                author = await self.store.members.of_user(one.user_id) if one.user_id else None
                if not one.is_kept or (author and author.consent == "none"):
                    unkept.append(one)
                    continue
            before = await self.store.conversations.add_message(
                conversation_id=conversation,
                parent_id=before.id if before else None,
                role="user",
                text=one.text,
                name=one.name,
                member_id=author.id if author else None,
                discord_id=one.id,
                edited_at=one.edited_at,
                extra={NOT_THEIRS: one.not_theirs} if one.not_theirs else {},
            )
            kept.append(before)
        return kept, unkept

    def _question(
        self,
        event: Event,
        above: Sequence[StoredMessage],
        path: Sequence[StoredMessage],
        stored: StoredMessage | None,
        unkept: Sequence[Quoted],
        *,
        below: StoredMessage | None = None,
    ) -> Question:
        """The question at the end of `path` if it is `stored`, else the event's, below all that.

        One without words is about what was said last: that is put in its place.
        """
        names = {id: name for id, name in event.names.items() if self._allowed(name)}
        before = path[:-1] if stored else path
        besides = [Message("user", _readable(one.text, names), name=one.name) for one in unkept]
        said = [*_turns([*above, *before], names), *besides]
        turns = [replace(one, name=self._allowed(one.name)) for one in said if one.content]
        asked = Message("user", _readable(event.text, names), name=event.asker.name)
        if stored:
            asked = _turn(stored, names)
        asked = replace(asked, name=self._allowed(asked.name))
        if not asked.content:
            if not turns:
                raise Refused(say.RECORD_GONE, "record-gone")
            asked = turns.pop() if turns[-1].role == "user" else replace(asked, content=GO_ON)
        told_besides = [one.content for one in besides]
        conversation = _conversation(event, stored or below)
        return Question(
            turns, asked, stored, [*above, *path], below, unkept, told_besides, conversation
        )

    def _allowed(self, name: str | None) -> str | None:
        """A name as the model may read it: none in place of one that is not fit to be said."""
        return None if self.moderator.before(name or "") else name


def _conversation(event: Event, row: StoredMessage | None) -> str:
    """What a conversation is known by, as long as it lasts: its row; where nothing is kept of it,
    the channel that is one conversation, or the event that begins one."""
    if row is not None:
        return row.conversation_id
    return f"channel {event.channel_id}" if event.continues else f"event {event.id}"


def _kind(event: Event) -> ConversationKind:
    if event.continues:
        return "dm" if event.guild_id is None else "thread"
    return "slash" if event.kind in ("slash", "compare") else "chain"


def _turns(path: Iterable[StoredMessage], names: Mapping[int, str]) -> Iterator[Message]:
    """What was said, as the model is told it. A conversation outlives what is wrong with one old
    message: that one is left out."""
    for message in path:
        try:
            yield _turn(message, names)
        except Exception as error:
            log("message_left_out", level=logging.ERROR, error=error)


def _turn(message: StoredMessage, names: Mapping[int, str]) -> Message:
    text = "" if message.deleted else _readable(message.text, names)
    role: Role = "assistant" if message.role == "assistant" else "user"
    return Message(role, text, name=message.name)


def _readable(text: str, names: Mapping[int, str]) -> str:
    """People by their names, where Discord writes `<@id>`."""
    return _MENTION.sub(lambda found: f"@{names.get(int(found[1]), SOMEONE)}", text)
