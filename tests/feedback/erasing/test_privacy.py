"""Who asks to be forgotten is forgotten, and nobody else is; and nothing is kept for ever."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, update

from feedback.babble import NAMES, Babble, dump, found_in, written
from feedback.conftest import KEY, Clock
from feedback.guild import BEGIN, Guild
from guildgpt.errors import RecordGone, StoreError
from guildgpt.feedback.records import Erasure, StoredMessage
from guildgpt.feedback.storage.schema import facts
from guildgpt.feedback.store import Store


async def babble(store: Store, seed: int, steps: int = 120) -> Babble:
    guild = Babble(store, seed)
    await guild.meet()
    await guild.go_on(steps)
    return guild


def traces_of_others(guild: Babble, name: str) -> set[str | int]:
    return set().union(*(s.traces for s in guild.speakers.values() if s.name != name))


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_of_a_member_is_left_and_everything_of_the_others(
    store: Store, url: str, seed: int, tmp_path: Path
) -> None:
    guild = await babble(store, seed)
    speaker = guild.speakers[guild.random.choice(NAMES)]
    before = await dump(store)
    assert found_in(repr(before).encode(), speaker.traces)
    erasure = await store.privacy.erase(speaker.user_id)
    after = await dump(store)

    assert found_in(repr(after).encode(), speaker.traces) == set()
    if url.startswith("sqlite"):
        assert found_in(written(tmp_path), speaker.traces) == set()

    assert set(erasure.versions) == guild.learned[speaker.name]
    assert after["erasures"][-1]["counts"] == erasure.counts
    assert after["erasures"][-1]["versions"] == list(erasure.versions)
    assert not {row["event_id"] for row in after["lineage"]} & speaker.traces

    check_trees(after["messages"])
    kept = {row["id"]: row for row in after["messages"]}
    for row in before["messages"]:
        if row["id"] not in speaker.messages:
            found = kept[row["id"]]
            above = found["parent_id"]  # an empty one, if that was the member's
            assert above == row["parent_id"] or row["parent_id"] in speaker.messages
            assert found == without_mention(row, speaker.user_id) | {"parent_id": above}
            assert len(await store.conversations.path_to(row["id"])) == len(
                branch(before["messages"], row)
            )
    for table in ("votes", "ratings"):
        ids = {row["id"] for row in after[table]}
        stay = {o.id for o in guild.opinions if speaker.name not in (o.by, o.about)}
        assert ids == stay & {row["id"] for row in before[table]}
    spoken = {row["conversation_id"] for row in after["messages"]}
    assert spoken == {row["id"] for row in after["conversations"]}
    for table in ("members", "comparisons", "deliveries", "parts", "reports", "channel_marks"):
        of_others = [r for r in before[table] if not found_in(repr(r).encode(), speaker.traces)]
        assert [row for row in of_others if row not in after[table]] == []


def check_trees(rows: list[dict[str, Any]]) -> None:
    """Every message hangs on one of its own conversation; what is empty holds another one."""
    by_id = {row["id"]: row for row in rows}
    parents = {row["parent_id"] for row in rows}
    for row in rows:
        if row["parent_id"] is not None:
            assert by_id[row["parent_id"]]["conversation_id"] == row["conversation_id"]
        if row["deleted"] and row["member_id"] is None:
            assert row["id"] in parents
            assert (row["text"], row["name"], row["discord_id"], row["extra"]) == (
                "",
                None,
                None,
                {},
            )


def branch(rows: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The message and all above it."""
    by_id = {row["id"]: row for row in rows}
    found = [row]
    while found[-1]["parent_id"]:
        found.append(by_id[found[-1]["parent_id"]])
    return found


def without_mention(row: dict[str, Any], user_id: int) -> dict[str, Any]:
    text = row["text"].replace(f"<@{user_id}>", "@someone").replace(f"<@!{user_id}>", "@someone")
    return row | {"text": text}


async def test_everybody_is_forgotten_one_after_another(
    store: Store, url: str, tmp_path: Path
) -> None:
    guild = await babble(store, seed=1)
    for speaker in guild.speakers.values():
        assert (await store.privacy.erase(speaker.user_id)).counts["members"] == 1
    left = await dump(store)
    stays = {"erasures", "channel_marks", "facts", "circle_log"}
    assert {name for name, rows in left.items() if rows} <= stays
    traces = traces_of_others(guild, "")
    assert found_in(repr(left).encode(), traces) == set()
    if url.startswith("sqlite"):
        assert found_in(written(tmp_path), traces) == set()


async def test_a_stranger_and_a_second_time(store: Store) -> None:
    guild = await babble(store, seed=2, steps=10)
    assert await store.privacy.erase(4242) == Erasure({}, ())
    user = guild.speakers["skeptic"].user_id
    assert (await store.privacy.erase(user)).counts["members"] == 1
    assert await store.privacy.erase(user) == Erasure({}, ())
    assert len((await dump(store))["erasures"]) == 1
    assert (await store.members.of_user(user)).consent == "chat"  # who comes back begins anew


async def question_and_reply(store: Store) -> tuple[StoredMessage, StoredMessage]:
    """One member's question, and another's reply below it."""
    conversation = await store.conversations.start("thread", guild_id=100, channel_id=10)
    said: list[StoredMessage] = []
    for user in (1, 2):
        said.append(
            await store.conversations.add_message(
                conversation_id=conversation,
                parent_id=said[-1].id if said else None,
                role="user",
                text=f"text of {user}",
                name=f"name of {user}",
                member_id=(await store.members.of_user(user)).id,
                discord_id=9000 + user,
            )
        )
    return said[0], said[1]


async def test_an_answer_on_its_way_to_a_forgotten_question_is_refused(store: Store) -> None:
    question, reply = await question_and_reply(store)
    delivery = await store.deliveries.claim(
        9001, "message", channel_id=10, extra={"text": "text of 1"}
    )
    assert delivery
    await store.deliveries.update(delivery.id, question_id=question.id)
    await store.privacy.erase(1)
    await store.deliveries.update(delivery.id, parts=[1, 2], extra={"text": "text of 1"})
    with pytest.raises(RecordGone, match="no longer in the store"):
        await store.conversations.add_message(
            conversation_id=question.conversation_id,
            parent_id=question.id,
            role="assistant",
            text="You said: text of 1",
        )
    assert "of 1" not in repr(await dump(store))
    husk, kept = await store.conversations.path_to(reply.id)
    assert (husk.text, husk.name, husk.deleted, husk.member_id) == ("", None, True, None)
    assert kept == replace(reply, parent_id=husk.id)
    await store.privacy.erase(2)
    assert (await dump(store))["conversations"] == []  # nothing holds the husk any more


async def test_erasure_while_the_member_goes_on_writing(store: Store, url: str) -> None:
    question, _ = await question_and_reply(store)
    async with await Store.open(url, key=KEY, patience=60) as other:

        async def go_on(number: int) -> None:
            said = await other.conversations.add_message(
                conversation_id=question.conversation_id,
                parent_id=question.id,
                role="user",
                text=f"text of 1, {number}",
                member_id=question.member_id,
            )
            await other.ratings.add(said.id, str(question.member_id), 1, "said by 1")

        writing = [asyncio.create_task(go_on(number)) for number in range(40)]
        await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
        await store.privacy.erase(1)
        results = await asyncio.gather(*writing, return_exceptions=True)
    assert all(result is None or isinstance(result, StoreError) for result in results)
    left = await dump(store)
    assert "of 1" not in repr(left)
    assert "by 1" not in repr(left)
    check_trees(left["messages"])


async def test_what_cannot_be_scrubbed_now_is_scrubbed_later(
    made_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "feedback.db"
    path.write_bytes(made_file.read_bytes())
    async with await Store.open(str(path), key=KEY, patience=0.2) as store:
        guild = await babble(store, seed=3)
        speaker = guild.speakers["teacher"]
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchall()
        await store.privacy.erase(speaker.user_id)
        assert found_in(repr(await dump(store)).encode(), speaker.traces) == set()
        assert found_in(written(tmp_path), speaker.traces)  # what the reader still sees
        reader.close()
    async with await Store.open(str(path), key=KEY) as store:
        assert found_in(written(tmp_path), speaker.traces) == set()
        assert len((await dump(store))["facts"]) == 1


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("seed", [1, 3])
async def test_what_was_deleted_in_a_file_is_out_of_its_bytes(
    store: Store, tmp_path: Path, seed: int
) -> None:
    """`secure_delete` alone does not do: rows that grow leave copies in the pages they move out of.
    With these seeds they do."""
    chance = random.Random(seed)

    def words() -> str:
        return "q" * int(chance.expovariate(1 / 300))

    def churn(connection: Connection) -> None:
        names = []
        for number in range(1000):
            names.append(f"{chance.getrandbits(128):032x}")
            row = {"name": names[-1], "value": f"<{number % 5}>" + words()}
            connection.execute(facts.insert(), row)
            if number % 2:
                grown = update(facts).where(facts.c.name == chance.choice(names))
                connection.execute(grown.values(value=facts.c.value + words()))
        connection.execute(delete(facts).where(facts.c.value.startswith("<3>")))

    await store.database.write(churn)
    assert await store.database.scrub()
    assert b"<4>" in written(tmp_path)
    assert b"<3>" not in written(tmp_path)


# Retention


async def test_what_is_old_goes_and_what_is_new_stays(store: Store, clock: Clock) -> None:
    old = Babble(store, 4)
    await old.meet()
    await old.go_on(60)
    await store.members.set_consent(old.speakers["lurker"].id, "none")
    clock.pass_(days=40)
    speaker = old.speakers["teacher"]
    new = Babble(store, 5)
    await new.meet()
    await new.go_on(60)
    before = await dump(store)
    counts = await store.privacy.retain(30)
    after = await dump(store)
    assert counts["messages"] == len(old.messages)
    assert counts["members"] == 4
    assert [m["consent"] for m in after["members"]].count("none") == 1  # a choice is kept
    gone = traces_of_others(old, "") - {s.id for s in old.speakers.values()}
    marks = {row["last_seen"] for row in before["channel_marks"]}
    marks |= {row["channel_id"] for row in before["channel_marks"]}
    lurker = old.store.members.hash_of(old.speakers["lurker"].user_id)
    words = {t for t in gone - marks - {lurker} if t not in NAMES}
    lineage = {row["event_id"] for row in before["lineage"]}
    assert found_in(repr(after).encode(), words - lineage) == set()
    kept = {row["id"]: row for row in after["messages"]}
    assert all(kept[m.id]["created_at"] == m.created_at for m in new.messages)
    assert after["lineage"] == before["lineage"]
    check_trees(after["messages"])
    assert await store.privacy.retain(30) == Counter()
    assert speaker.id not in {row["id"] for row in after["members"]}


async def test_an_old_thread_that_goes_on_keeps_its_new_messages(
    store: Store, clock: Clock
) -> None:
    question, reply = await question_and_reply(store)
    clock.pass_(days=40)
    newest = await store.conversations.add_message(
        conversation_id=reply.conversation_id,
        parent_id=reply.id,
        role="user",
        text="still here?",
        member_id=reply.member_id,
    )
    assert await store.privacy.retain(30) == Counter(messages=2, members=1)
    first, second, last = await store.conversations.path_to(newest.id)
    assert not {first.id, second.id} & {question.id, reply.id}
    assert (first.text, second.text, last.text) == ("", "", "still here?")
    assert await store.conversations.channel_tail(10) == last


async def test_imports_stay(store: Store, clock: Clock) -> None:
    guild = Guild()
    tree = guild.say("What is a monad?", kind="import")
    guild.say("A burrito.", tree, role="assistant")
    guild.say("What is a comonad?", kind="terminal")
    await store.add_snapshot(guild.snapshot)
    clock.now = BEGIN
    clock.pass_(days=4000)
    assert await store.privacy.retain(30) == Counter(messages=1, conversations=1)
    assert [m.text for m in (await store.snapshot()).messages] == ["What is a monad?", "A burrito."]


async def test_empty_conversations_and_old_deliveries_go(store: Store, clock: Clock) -> None:
    await store.conversations.start("dm", channel_id=5)
    delivery = await store.deliveries.claim(1, "message")
    assert delivery
    await store.deliveries.update(delivery.id, parts=[1, 2])
    clock.pass_(days=31)
    assert await store.privacy.retain(31) == Counter()
    clock.pass_(seconds=1)
    assert await store.privacy.retain(31) == Counter(conversations=1, deliveries=1)
    with pytest.raises(ValueError, match="0 days"):
        await store.privacy.retain(0)
