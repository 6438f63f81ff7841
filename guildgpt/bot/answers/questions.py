"""How a question comes to be: the event, what was said before it, and its row in the store."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from guildgpt.bot.answers.events import Event, Quoted, Work, without_words
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.text import sentences as say
from guildgpt.chat import Message, Role
from guildgpt.feedback.records import NOT_THEIRS, ConversationKind, Member, StoredMessage
from guildgpt.feedback.store import Store
from guildgpt.talk.fitting import NoRoom, first_that_fits, fit
from guildgpt.talk.opened import OpenedModel

log = EventLog(__name__)
_MENTION = re.compile(r"<@!?([0-9]{1,20})>")  # an id of Discord's fits into 64 bits
SOMEONE = "someone"  # people whose names are not at hand
GO_ON = "Please go on."  # what a bare mention says to an answer of the bot's


class Refused(Exception):
    """The event gets a sentence in place of an answer, or nothing where the sentence is empty."""

    def __init__(self, say: str, reason: str):
        super().__init__(reason)
        self.say = say
        self.reason = reason


@dataclass(frozen=True)
class Question:
    """What is to be answered: the turns before it, the question, its row if it is kept.

    `told` are the rows that the model is told, as they are, its own the last; `below` is the one
    that it is asked below. `unkept` are quoted messages without one, because nobody may keep them.
    """

    turns: Sequence[Message]
    asked: Message
    stored: StoredMessage | None
    told: Sequence[StoredMessage] = ()
    below: StoredMessage | None = None
    unkept: Sequence[Message] = ()

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


class Questions:
    """Makes questions, and keeps them where the one who asks allows it."""

    def __init__(self, store: Store):
        self._store = store

    async def asked(self, work: Work, member: Member) -> Question:
        """The question that an event asks."""
        if work.delivery.question_id:
            return await self._again(work, work.delivery.question_id)
        if not work.whole:
            raise Refused(say.ASK_AGAIN, "interrupted")
        event = work.event
        replied_to = await self._found(event.answers_to, event.channel_id)
        before = replied_to
        if before is None and event.continues:
            before = await self._store.conversations.channel_tail(event.channel_id)
        starter = await self._found(event.starter_id, event.channel_id)
        before = before or starter
        path = await self._store.conversations.path_to(before.id) if before else []
        above = await self._above(event)
        known = {message.discord_id for message in (*above, *path)}
        if replied_to is not None:
            known.add(event.answers_to)
        quoted = [one for one in event.quoted if one.id not in known]
        if not event.text and not (quoted or replied_to or starter or above):
            raise Refused(say.EMPTY, "empty")
        turns = [
            *_turns([*above, *path], event.names),
            *(_quoted(one, event) for one in quoted),
        ]
        told = [*above, *path]
        stored, unkept = None, quoted
        if member.consent != "none":
            kept, unkept, stored = await self._keep(event, member, before, quoted)
            told += [*kept, stored]
            await self._store.deliveries.update(
                work.delivery.id, question_id=stored.id, extra=without_words(work.delivery.extra)
            )
        asked = Message("user", _readable(event.text, event.names), name=event.asker.name)
        question = _question(turns, asked, stored, told)
        return replace(question, below=before, unkept=[_quoted(one, event) for one in unkept])

    async def anew(self, event: Event, question: Question) -> Question:
        """The same question as it is now, after something was edited or deleted."""
        stored = question.stored
        if stored and event.id == stored.discord_id and event.edited_at:
            # An edit may have come while its row was being made.
            await self._store.revisions.edit(event.id, event.text, event.edited_at)
        last = stored or question.below
        path = await self._store.conversations.path_to(last.id) if last else []
        if stored and (not path or path[-1].deleted):
            raise Refused("", "deleted")
        before, asked = (
            path,
            Message("user", _readable(event.text, event.names), name=event.asker.name),
        )
        if stored:
            *before, stored = path
            asked = _turn(stored, event.names)
        above = await self._above(event)
        turns = [*_turns([*above, *before], event.names), *question.unkept]
        again = _question(turns, asked, stored, [*above, *path])
        return replace(again, below=question.below, unkept=question.unkept)

    async def asked_before(self, work: Work, member: Member) -> Question:
        """The question that is to be answered once more: of an answer, or the member's last one
        in the channel."""
        question_id = work.delivery.question_id
        if question_id is None:
            asked = await self._wanted(work, member)
            if asked.deleted:
                raise Refused(say.RECORD_GONE, "record-gone")
            if asked.member_id != member.id:
                raise Refused(say.NOT_YOURS, "not-theirs")
            question_id = asked.id
            await self._store.deliveries.update(work.delivery.id, question_id=question_id)
        return await self._again(work, question_id)

    async def _wanted(self, work: Work, member: Member) -> StoredMessage:
        if work.again is None:
            last = await self._store.conversations.last_question(member.id, work.event.channel_id)
            if last is None:
                raise Refused(say.NOTHING_TO_RETRY, "nothing-to-retry")
            return last
        answer = await self._store.conversations.message(work.again)
        asked = await self._store.conversations.message(answer.parent_id or "") if answer else None
        if asked is None:
            raise Refused(say.RECORD_GONE, "record-gone")
        if not await self._is_in(asked, work.event.channel_id):
            raise Refused(say.WRONG_PLACE, "wrong-place")
        return asked

    async def _again(self, work: Work, question_id: str) -> Question:
        path = await self._store.conversations.path_to(question_id)
        if not path or path[-1].deleted:
            raise Refused("", "deleted")
        *before, last = path
        event = work.event
        above = await self._above(event)
        known = {message.discord_id for message in (*above, *path)}
        unkept = [_quoted(one, event) for one in event.quoted if one.id not in known]
        turns = [*_turns([*above, *before], event.names), *unkept]
        question = _question(turns, _turn(last, event.names), last, [*above, *path])
        return replace(question, unkept=unkept)

    async def _found(self, discord_id: int | None, channel_id: int | None) -> StoredMessage | None:
        """The message with this id on Discord, if it was said in that channel: an id from elsewhere
        would let one channel read another's conversation."""
        found = discord_id and await self._store.conversations.message_by_discord_id(discord_id)
        return found if found and await self._is_in(found, channel_id) else None

    async def _above(self, event: Event) -> Sequence[StoredMessage]:
        """What the bot knows of the message that a thread hangs from: for all who are in the
        thread it stands above it, though it was said in the channel."""
        if event.home_id is None:
            return ()
        starter = await self._found(event.starter_id, event.home_id)
        return await self._store.conversations.path_to(starter.id) if starter else ()

    async def _is_in(self, message: StoredMessage, channel_id: int | None) -> bool:
        return await self._store.conversations.channel_of(message.conversation_id) == channel_id

    async def _keep(
        self,
        event: Event,
        member: Member,
        before: StoredMessage | None,
        quoted: Sequence[Quoted],
    ) -> tuple[list[StoredMessage], list[Quoted], StoredMessage]:
        """The question's row, below what it quotes, below what was said `before`: the rows of what
        it quotes, what of that nobody may keep, and its own."""
        conversation = before.conversation_id if before else None
        if conversation is None:
            conversation = await self._store.conversations.start(
                _kind(event),
                guild_id=event.guild_id,
                channel_id=event.channel_id,
                home_id=event.home_id,
            )
        kept: list[StoredMessage] = []
        unkept: list[Quoted] = []
        for one in quoted:
            row = await self._keep_quoted(one, conversation, before)
            if row is None:
                unkept.append(one)
            else:
                kept.append(row)
                before = row
        stored = await self._store.conversations.add_message(
            conversation_id=conversation,
            parent_id=before.id if before else None,
            role="user",
            text=event.text,
            name=event.asker.name,
            member_id=member.id,
            discord_id=event.id,
            edited_at=event.edited_at,
        )
        return kept, unkept, stored

    async def _keep_quoted(
        self, quoted: Quoted, conversation: str, before: StoredMessage | None
    ) -> StoredMessage | None:
        """The quoted words as a message of their author's, so that an erasure or a deletion finds
        them; nothing where the author wants nothing kept."""
        author = await self._store.members.of_user(quoted.user_id) if quoted.user_id else None
        if not quoted.is_kept or (author and author.consent == "none"):
            return None
        return await self._store.conversations.add_message(
            conversation_id=conversation,
            parent_id=before.id if before else None,
            role="user",
            text=quoted.text,
            name=quoted.name,
            member_id=author.id if author else None,
            discord_id=quoted.id,
            edited_at=quoted.edited_at,
            extra={NOT_THEIRS: quoted.not_theirs} if quoted.not_theirs else {},
        )


def _kind(event: Event) -> ConversationKind:
    if event.continues:
        return "dm" if event.guild_id is None else "thread"
    return "slash" if event.kind in ("slash", "compare") else "chain"


def _question(
    turns: Sequence[Message],
    asked: Message,
    stored: StoredMessage | None,
    told: Sequence[StoredMessage],
) -> Question:
    """A question without words is about what was said last: that is put in its place."""
    turns = [turn for turn in turns if turn.content]
    if asked.content:
        return Question(turns, asked, stored, told)
    if not turns:
        raise Refused(say.RECORD_GONE, "record-gone")
    *before, last = turns
    if last.role == "user":
        return Question(before, last, stored, told)
    return Question(turns, replace(asked, content=GO_ON), stored, told)


def _quoted(one: Quoted, event: Event) -> Message:
    return Message("user", _readable(one.text, event.names), name=one.name)


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
