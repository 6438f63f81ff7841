"""A store with something in every table, and what of it a backup brings back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, insert, select

from feedback.babble import Babble, dump
from guildgpt.feedback.backups.manifest import LEFT_OUT
from guildgpt.feedback.records import Candidate
from guildgpt.feedback.storage.schema import metadata, proposals
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.prompts import NewPrompt
from guildgpt.model.version import Version

SENTENCE = "What is a wombat?\nÄ 'quote', a \"second\" one, 🦘 and \t a tab"


async def fill(store: Store, seed: int = 0) -> None:
    """People talk, vote and decide; a long chain of replies is there, and every table has a row."""
    babble = Babble(store, seed)
    await babble.meet()
    await babble.go_on(60)
    anna = await store.members.of_account("web", "anna")
    await store.versions.register(Version("old@11111111", "old", "/gone/old.gguf", "1" * 64))
    await store.prompts.add([NewPrompt(f"{SENTENCE} {n}", "tests", "CC0-1.0") for n in range(9)])
    begun = await store.decisions.begin(candidate_id="new@2", baseline_id="old@11111111")
    await store.decisions.change(begun.id, state="canary")
    for number, prompt in enumerate(await store.prompts.all("accepted")):
        answers = [
            Candidate("Old.", "old@11111111", {"seed": 1, "temperature": 0.1 + 0.2}, "eos"),
            Candidate("New.", "new@2"),
        ]
        held = await store.rounds.open(
            prompt, answers, "discord", decision_id=begun.id, guild_id=2**60, channel_id=8
        )
        await store.votes.cast(held.comparison_id, anna.id, "ranked", ((0, 1),))
        if number % 2:
            await store.rounds.end(held.id)
    above = None
    place = await store.conversations.start("chain", guild_id=7, channel_id=9)
    for number in range(60):
        said = await store.conversations.add_message(
            conversation_id=place,
            parent_id=above,
            role="user" if number % 2 == 0 else "assistant",
            text=f"{SENTENCE} {number}",
        )
        above = said.id
    assert above
    await store.log.add("began", {"votes": 3}, decision_id=begun.id)
    await store.keys.add("the lab", 60, 1000)
    await store.places.guild_left(99)
    await store.places.save_settings(7, {"system": SENTENCE, "nested": {"b": [1, None, 0.1]}})
    await store.leases.acquire("bot", "host:1:abc", 0.001)
    await store.database.write(lambda connection: _the_rest(connection, anna.id))


def _the_rest(connection: Connection, member_id: str) -> None:
    """A row in each table that has none yet, whatever it says."""
    now = datetime(2026, 8, 1, 12, 30, 15, 123456, tzinfo=UTC)
    prompt = connection.scalar(select(metadata.tables["prompts"].c.id))
    row = {"id": "p", "prompt_id": prompt, "answers": [{"text": SENTENCE}], "unsure": 1 / 3}
    connection.execute(insert(proposals), row | {"created_at": now, "taken_at": None})
    for table in metadata.sorted_tables:
        if connection.execute(select(table).limit(1)).first() is not None:
            continue
        made: dict[str, Any] = {}
        for column in table.columns:
            if column.foreign_keys:
                [key] = column.foreign_keys
                made[column.name] = connection.scalar(select(key.column))
            elif column.name.endswith("_at"):
                made[column.name] = now + timedelta(days=1)
            else:
                made[column.name] = _some(column)
        connection.execute(insert(table), made)


def _some(column: Column[Any]) -> object:
    if isinstance(column.type, BigInteger):
        return 2**60
    kinds = {int: 7, str: "x", bool: True, float: 0.1}
    return kinds.get(column.type.python_type, {"a": 1})


async def kept(store: Store) -> dict[str, list[Any]]:
    """All rows that a backup brings back, sorted."""
    passing = {*LEFT_OUT, "facts"}
    return {
        name: sorted(map(repr, rows))
        for name, rows in (await dump(store)).items()
        if name not in passing
    }
