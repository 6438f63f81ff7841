"""`guildgpt feedback` called as an operator calls it, and a store with a little in it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from feedback.command import Command
from guildgpt.feedback.cli import feedback_app
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from guildgpt.model.version import Version

NEWCOMER, TEACHER = 80351110224678912, 80351110224678913
VERSION = Version("starter@8f3a21c0", "starter", "runs/starter", "8f3a21c0" * 8)


async def fill(url: str) -> None:
    """An operator's question with two answers, one vote, one rating; a member's with one answer."""
    async with await Store.open(url, key=member_key(url)) as store:
        await store.versions.register(VERSION)
        teacher, newcomer = (
            await store.members.of_user(TEACHER),
            await store.members.of_user(NEWCOMER),
        )
        await store.members.set_consent(newcomer.id, "train")
        conversation = await store.conversations.start("terminal", source="terminal", lang="en")
        told: dict[str, Any] = {"conversation_id": conversation, "synthetic": True}
        told["version_id"] = VERSION.id
        question = await store.conversations.add_message(
            conversation_id=conversation, parent_id=None, role="user", text="What is TLS?"
        )
        answers = [
            await store.conversations.add_message(
                parent_id=question.id, role="assistant", text=text, **told
            )
            for text in ("No idea.", "A protocol.")
        ]
        comparison = await store.votes.add_comparison(
            question.id, [answer.id for answer in answers]
        )
        vote = await store.votes.cast(comparison.id, teacher.id, "ranked", [1, 0])
        await store.ratings.add(answers[1].id, teacher.id, 1)
        await store.versions.learned(VERSION.id, [("vote", vote.id)])
        chain = await store.conversations.start("chain", guild_id=5, channel_id=6, lang="en")
        mine = await store.conversations.add_message(
            conversation_id=chain,
            parent_id=None,
            role="user",
            text="My cat is called Ferris.",
            name="The Newcomer",
            member_id=newcomer.id,
            discord_id=7,
        )
        told["conversation_id"] = chain
        answer = await store.conversations.add_message(
            parent_id=mine.id, role="assistant", text="Fine name.", **told
        )
        await store.ratings.add(answer.id, newcomer.id, 1)


COMMAND = Command(feedback_app, columns=100)
ask, told, refused = COMMAND.ask, COMMAND.told, COMMAND.refused


def read_rows(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return [json.loads(line) for line in text.decode().splitlines()]
