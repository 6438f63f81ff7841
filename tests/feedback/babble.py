"""A guild that talks at random, and keeps book of what in the store is whose."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from guildgpt.errors import StoreError
from guildgpt.feedback.records import StoredMessage
from guildgpt.feedback.storage.schema import metadata
from guildgpt.feedback.store import Store

NAMES = ("newcomer", "tinkerer", "skeptic", "teacher", "lurker")


@dataclass
class Speaker:
    """A member, and every word and id by which they could be told."""

    user_id: int
    name: str
    private_channel: int
    id: str
    traces: set[str | int] = field(default_factory=set)
    messages: set[str] = field(default_factory=set)  # ids: theirs, and answers to them
    private: set[str] = field(default_factory=set)  # ids: of conversations


@dataclass
class Opinion:
    """A vote, rating or report: who gave it, whose message it is about."""

    id: str
    by: str
    about: str


class Babble:
    """Makes rows through the store's own methods."""

    def __init__(self, store: Store, seed: int):
        self.store = store
        self.seed = seed
        self.random = random.Random(seed)
        self.speakers: dict[str, Speaker] = {}
        self.messages: list[StoredMessage] = []
        self.owner: dict[str, str] = {}  # message or comparison: the speaker's name
        self.opinions: list[Opinion] = []
        self.learned: dict[str, set[str]] = defaultdict(set)  # speaker: versions
        self._words = 0

    async def meet(self) -> None:
        """Everybody says hello."""
        for name in NAMES:
            user_id = self._snowflake()
            member = await self.store.members.of_user(user_id)
            private = self._snowflake()
            traces = {user_id, name, private, member.id, self.store.members.hash_of(user_id)}
            self.speakers[name] = Speaker(user_id, name, private, member.id, traces)

    async def go_on(self, steps: int) -> None:
        """Do this and that."""
        doings = [self.ask] * 5 + [self.judge] * 3 + [self.take_back, self.stay_silent, self.mark]
        for _ in range(steps):
            speaker = self.random.choice(list(self.speakers.values()))
            await self.random.choice(doings)(speaker)

    async def ask(self, speaker: Speaker) -> None:
        """A question, often a reply to somebody, with one answer or two, or none yet."""
        is_private = self.random.random() < 0.2
        theirs = [m for m in self.messages if (m.conversation_id in speaker.private) == is_private]
        others = set().union(*(s.private for s in self.speakers.values() if s is not speaker))
        open_to = [m for m in theirs if m.conversation_id not in others]
        parent = self.random.choice(open_to) if open_to and self.random.random() < 0.7 else None
        channel = speaker.private_channel if is_private else self.random.choice((11, 12))
        guild = None if is_private else 100
        event = self._snowflake(speaker)
        delivery = await self.store.deliveries.claim(
            event,
            "message",
            guild_id=guild,
            channel_id=channel,
            extra={"member_id": speaker.id, "text": self._word(speaker), "name": speaker.name},
        )
        assert delivery
        speaker.traces.add(delivery.id)
        conversation = parent.conversation_id if parent else None
        if conversation is None:
            kind = self.random.choice(("chain", "thread", "slash"))
            conversation = await self.store.conversations.start(
                "dm" if is_private else kind,  # type: ignore[arg-type]
                guild_id=guild,
                channel_id=channel,
            )
            if is_private:
                speaker.private.add(conversation)
                speaker.traces.add(conversation)
        mentioned = self.random.choice(list(self.speakers.values()))
        question = await self._say(
            speaker,
            conversation,
            parent,
            "user",
            text=f"{self._word(speaker)} <@{mentioned.user_id}> <@!{mentioned.user_id}>",
            name=speaker.name,
            member_id=speaker.id,
            discord_id=event,
        )
        await self.store.deliveries.update(delivery.id, question_id=question.id)
        answers = [
            await self._say(
                speaker,
                conversation,
                question,
                "assistant",
                text=f"You said {self._word(speaker)}",
                version_id=f"v@{self.random.randrange(3)}",
                sampling={"seed": self._word(speaker)},
            )
            for _ in range(self.random.randrange(3))
        ]
        if answers:
            parts = [self._snowflake(speaker) for _ in range(self.random.randrange(3))]
            await self.store.deliveries.update(
                delivery.id, answer_id=answers[0].id, parts=parts, state="done"
            )
        if len(answers) == 2:
            shown = await self.store.votes.add_comparison(
                question.id, [answer.id for answer in answers], self._snowflake(speaker)
            )
            self.owner[shown.id] = speaker.name
            speaker.traces.add(shown.id)
        if self.random.random() < 0.7:
            await self.store.deliveries.update(delivery.id, extra={}, state="done")

    async def judge(self, speaker: Speaker) -> None:
        """A vote, a rating or a report; often a version learns from it."""
        compared = [id for id in self.owner if id not in {m.id for m in self.messages}]
        try:
            if compared and self.random.random() < 0.5:
                about = self.random.choice(compared)
                vote = await self.store.votes.cast(about, speaker.id, "ranked", (0, 1))
                await self._gave(speaker, vote.id, about, "vote")
            elif self.messages:
                about = self.random.choice(self.messages).id
                if self.random.random() < 0.3:
                    await self.store.reports.add(about, speaker.id, self._word(speaker))
                    return
                rating = await self.store.ratings.add(about, speaker.id, 1, self._word(speaker))
                await self._gave(speaker, rating.id, about, "rating")
        except StoreError:
            return  # it was taken back

    async def take_back(self, speaker: Speaker) -> None:
        """Delete a message of their own."""
        own = [m for m in self.messages if m.member_id == speaker.id and m.discord_id]
        if own and self.random.random() < 0.5:
            await self.store.revisions.mark_deleted(self.random.choice(own).discord_id or 0)

    async def stay_silent(self, speaker: Speaker) -> None:
        """An event of which nothing is kept but that it was."""
        event = self._snowflake(speaker)
        channel, guild = self.random.choice(((11, 100), (speaker.private_channel, None)))
        assert await self.store.deliveries.claim(
            event, "message", channel_id=channel, guild_id=guild, member_id=speaker.id
        )

    async def mark(self, speaker: Speaker) -> None:
        """The channels are read up to the newest message."""
        if said := [m for m in self.messages if m.discord_id and m.member_id == speaker.id]:
            await self.store.places.see(self._snowflake(), said[-1].discord_id or 0, 100)
        await self.store.places.see(speaker.private_channel, self._snowflake(speaker), None)

    async def _say(
        self,
        speaker: Speaker,
        conversation: str,
        parent: StoredMessage | None,
        role: Any,
        **said: Any,
    ) -> StoredMessage:
        try:
            message = await self.store.conversations.add_message(
                conversation_id=conversation,
                parent_id=parent.id if parent else None,
                role=role,
                **said,
            )
        except StoreError:  # the question was taken back: nobody answers it
            assert parent
            return parent
        self.messages.append(message)
        self.owner[message.id] = speaker.name
        speaker.messages.add(message.id)
        speaker.traces.add(message.id)
        return message

    async def _gave(self, speaker: Speaker, event: str, about: str, kind: str) -> None:
        owner = self.speakers[self.owner[about]]
        speaker.traces.add(event)
        owner.traces.add(event)  # opinions on what is theirs go with it
        self.opinions.append(Opinion(event, speaker.name, owner.name))
        if self.random.random() < 0.5:
            version = f"v@{self.random.randrange(9)}"
            await self.store.versions.learned(version, [(kind, event)])
            self.learned[speaker.name].add(version)
            self.learned[owner.name].add(version)

    def _word(self, speaker: Speaker) -> str:
        """A word that nobody else has ever said."""
        self._words += 1
        word = f"{speaker.name}{self.seed}sWord{self._words}e"
        speaker.traces.add(word)
        return word

    def _snowflake(self, speaker: Speaker | None = None) -> int:
        """A Discord id; of the speaker's, if one is named."""
        id = self.random.randrange(2**59, 2**60)
        if speaker:
            speaker.traces.add(id)
        return id


async def dump(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table."""

    def work(connection: Connection) -> dict[str, list[dict[str, Any]]]:
        return {
            name: [row._asdict() for row in connection.execute(select(table))]
            for name, table in metadata.tables.items()
        }

    return await store.database.read(work)


def written(folder: Path) -> bytes:
    """Every byte of every file in the folder."""
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def found_in(haystack: bytes, traces: set[str | int]) -> set[str | int]:
    """Which traces are in the bytes; whole numbers also as SQLite stores them."""
    return {
        trace
        for trace in traces
        if str(trace).encode() in haystack
        or (isinstance(trace, int) and trace.to_bytes(8, "big") in haystack)
    }
