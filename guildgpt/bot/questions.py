"""How a question comes to be: the event, what was said before it, and its row in the store."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from guildgpt.bot import sentences as say
from guildgpt.bot.events import Event, Quoted, Work, without_words
from guildgpt.bot.logs import log
from guildgpt.bot.memory import Turn, build_prompt
from guildgpt.feedback.records import ConversationKind, Member, StoredMessage
from guildgpt.feedback.store import Store
from guildgpt.talk.opened import OpenedModel

LOGGER = logging.getLogger(__name__)
_MENTION = re.compile(r"<@!?([0-9]{1,20})>")  # an id of Discord's fits into 64 bits
SOMEONE = "someone"  # people whose names are not at hand


class Refused(Exception):
    """The event gets a sentence in place of an answer, or nothing where the sentence is empty."""

    def __init__(self, say: str, reason: str):
        super().__init__(reason)
        self.say = say
        self.reason = reason


@dataclass(frozen=True)
class Question:
    """What is to be answered: the turns before it, the question, its row if it is kept."""

    turns: Sequence[Turn]
    asked: Turn
    stored: StoredMessage | None

    def ids(self, model: OpenedModel, system: str, max_tokens: int) -> list[int]:
        """The prompt's ids, with the turns that fit into the model's context beside an answer;
        blocks for a moment."""
        context = model.engine.context
        prompt = build_prompt(
            self.turns,
            self.asked,
            system=system,
            count=lambda messages: len(model.prompt(messages)),
            room=context - min(max_tokens, context // 4),
        )
        return model.prompt(prompt.messages)


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
        replied_to = await self._replied_to(event)
        before = replied_to
        if before is None and event.continues:
            before = await self._store.channel_tail(event.channel_id)
        path = await self._store.path_to(before.id) if before else []
        turns = list(_turns(path, event.names))
        keeps = member.consent != "none"
        conversation = before.conversation_id if before else None
        if keeps and conversation is None:
            conversation = await self._store.start_conversation(
                _kind(event), guild_id=event.guild_id, channel_id=event.channel_id
            )
        if event.quoted and replied_to is None:
            turns.append(Turn("user", _readable(event.quoted.text, event.names), event.quoted.name))
            if keeps and conversation:
                before = await self._keep_quoted(event.quoted, conversation, before) or before
        stored = None
        if keeps and conversation:
            stored = await self._store.add_message(
                conversation_id=conversation,
                parent_id=before.id if before else None,
                role="user",
                text=event.text,
                name=event.asker.name,
                member_id=member.id,
                discord_id=event.id,
            )
            await self._store.update_delivery(
                work.delivery.id, question_id=stored.id, extra=without_words(work.delivery.extra)
            )
        asked = Turn("user", _readable(event.text, event.names), event.asker.name)
        return Question([turn for turn in turns if turn.text], asked, stored)

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
            await self._store.update_delivery(work.delivery.id, question_id=question_id)
        return await self._again(work, question_id)

    async def _wanted(self, work: Work, member: Member) -> StoredMessage:
        if work.again is None:
            last = await self._store.last_question(member.id, work.event.channel_id)
            if last is None:
                raise Refused(say.NOTHING_TO_RETRY, "nothing-to-retry")
            return last
        answer = await self._store.message(work.again)
        asked = await self._store.message(answer.parent_id or "") if answer else None
        if asked is None:
            raise Refused(say.RECORD_GONE, "record-gone")
        if not await self._is_here(asked, work.event):
            raise Refused(say.WRONG_PLACE, "wrong-place")
        return asked

    async def _again(self, work: Work, question_id: str) -> Question:
        path = await self._store.path_to(question_id)
        if not path or path[-1].deleted:
            raise Refused("", "deleted")
        *before, last = path
        turns = [turn for turn in _turns(before, work.event.names) if turn.text]
        return Question(turns, _turn(last, work.event.names), last)

    async def _replied_to(self, event: Event) -> StoredMessage | None:
        if event.answers_to is None:
            return None
        found = await self._store.message_by_discord_id(event.answers_to)
        return found if found and await self._is_here(found, event) else None

    async def _is_here(self, message: StoredMessage, event: Event) -> bool:
        """Whether it was said in the event's channel: an id from elsewhere would let one channel
        read another's conversation."""
        return await self._store.channel_of(message.conversation_id) == event.channel_id

    async def _keep_quoted(
        self, quoted: Quoted, conversation: str, before: StoredMessage | None
    ) -> StoredMessage | None:
        """The quoted words as a message of their author's, so that an erasure or a deletion finds
        them; nothing where the author wants nothing kept."""
        author = await self._store.member(quoted.user_id) if quoted.user_id else None
        if author and author.consent == "none":
            return None
        return await self._store.add_message(
            conversation_id=conversation,
            parent_id=before.id if before else None,
            role="user",
            text=quoted.text,
            name=quoted.name,
            member_id=author.id if author else None,
            discord_id=quoted.id,
        )


def _kind(event: Event) -> ConversationKind:
    if event.continues:
        return "dm" if event.guild_id is None else "thread"
    return "slash" if event.kind in ("slash", "compare") else "chain"


def _turns(path: Iterable[StoredMessage], names: Mapping[int, str]) -> Iterator[Turn]:
    """What was said, as the model is told it. A conversation outlives what is wrong with one old
    message: that one is left out."""
    for message in path:
        try:
            yield _turn(message, names)
        except Exception as error:
            log(LOGGER, "message_left_out", level=logging.ERROR, error=error)


def _turn(message: StoredMessage, names: Mapping[int, str]) -> Turn:
    text = "" if message.deleted else _readable(message.text, names)
    return Turn("assistant" if message.role == "assistant" else "user", text, message.name)


def _readable(text: str, names: Mapping[int, str]) -> str:
    """People by their names, where Discord writes `<@id>`."""
    return _MENTION.sub(lambda found: f"@{names.get(int(found[1]), SOMEONE)}", text)
