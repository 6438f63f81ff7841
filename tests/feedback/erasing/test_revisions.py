"""The store follows what is deleted and edited on Discord, on both databases.

The secret is "q4711": no random id, all of them hexadecimal, holds it by chance.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from feedback.babble import dump, written
from guildgpt.errors import RecordGone
from guildgpt.feedback.records import Erasure, StoredMessage
from guildgpt.feedback.store import Store

THEN = datetime(2026, 8, 1, tzinfo=UTC)


class Thread:
    """A conversation in which each message replies to the one before."""

    def __init__(self, store: Store, id: str):
        self.store, self.id = store, id
        self.said: list[StoredMessage] = []

    async def ask(self, text: str, user: int = 1, **more: Any) -> StoredMessage:
        member = (await self.store.members.of_user(user)).id
        return await self._add(
            "user",
            text,
            member_id=member,
            discord_id=1000 + len(self.said),
            name=f"n{user}",
            **more,
        )

    async def answer(self, text: str, **more: Any) -> StoredMessage:
        return await self._add("assistant", text, version_id="v@1", synthetic=True, **more)

    async def _add(self, role: Any, text: str, **more: Any) -> StoredMessage:
        parent = self.said[-1].id if self.said else None
        self.said.append(
            await self.store.conversations.add_message(
                conversation_id=self.id, parent_id=parent, role=role, text=text, **more
            )
        )
        return self.said[-1]

    async def texts(self) -> list[str]:
        return [
            message.text for message in await self.store.conversations.path_to(self.said[-1].id)
        ]


@pytest.fixture
async def thread(store: Store) -> Thread:
    id = await store.conversations.start("thread", guild_id=100, channel_id=10, home_id=9)
    return Thread(store, id)


async def test_answers_that_quote_a_deleted_message_go_with_all_about_them(
    store: Store, thread: Thread
) -> None:
    await thread.ask("my pin is q4711")
    quoting = await thread.answer("Yours is q4711.")
    await thread.ask("and then?", user=2)
    again = await thread.answer("q4711 plus Xanthippe.")
    await thread.ask("who?", user=2)
    indirectly = await thread.answer("Xanthippe.")
    other = await thread.answer("Nobody.")
    rating = await store.ratings.add(again.id, (await store.members.of_user(2)).id, 1, "nice")
    kept = await store.ratings.add(other.id, (await store.members.of_user(2)).id, 1)
    await store.reports.add(again.id, None, "q4711 is secret")
    await store.reports.add(again.id, None, "rude")
    await store.versions.learned("v@2", [("rating", rating.id), ("message", quoting.id)])
    await store.versions.learned("v@3", [("rating", kept.id)])

    erasure = await store.revisions.mark_deleted(1000)
    assert erasure.versions == ("v@2",)
    assert erasure.counts == {"messages": 4, "ratings": 1}
    assert await thread.texts() == ["", "", "and then?", "", "who?", "", "Nobody."]
    found = await store.conversations.message(indirectly.id)
    assert found
    assert found.deleted
    tables = await dump(store)
    assert [row["id"] for row in tables["ratings"]] == [kept.id]
    assert {row["reason"] for row in tables["reports"]} == {None, "rude"}
    assert [row["versions"] for row in tables["erasures"]] == [["v@2"]]
    assert "q4711" not in repr(tables)
    assert await store.revisions.mark_deleted(1000) == Erasure({}, ())


async def test_any_part_of_an_answer_stands_for_all_of_it(store: Store, thread: Thread) -> None:
    question = await thread.ask("tell me")
    answer = await thread.answer("a long one")
    delivery = await store.deliveries.claim(1000, "message")
    assert delivery
    await store.deliveries.update(
        delivery.id, question_id=question.id, answer_id=answer.id, parts=[71, 72, 73]
    )
    await store.ratings.add(answer.id, (await store.members.of_user(1)).id, 1)
    await store.reports.add(answer.id, None, "rude")
    assert not await store.revisions.knows(74)
    assert await store.revisions.knows(72)
    assert (await store.revisions.mark_deleted(72)).counts == {
        "messages": 1,
        "ratings": 1,
        "reports": 1,
    }
    assert await thread.texts() == ["tell me", ""]
    with pytest.raises(RecordGone):  # taken up after a crash
        await store.conversations.add_message(
            id=answer.id,
            conversation_id=thread.id,
            parent_id=question.id,
            role="assistant",
            text="a long one",
        )


async def test_an_edit_replaces_the_text(store: Store, thread: Thread) -> None:
    first = await thread.ask("my pin is q4711")
    quoting = await thread.answer("q4711, yes.")
    await thread.ask("thanks")
    other = await thread.answer("You are welcome.")
    delivery = await store.deliveries.claim(1000, "message", extra={"text": "my pin is q4711"})
    assert delivery
    erasure = await store.revisions.edit(1000, "my pin is mine", THEN)
    assert erasure.counts == {"messages": 1, "edited": 1}
    assert await thread.texts() == ["my pin is mine", "", "thanks", "You are welcome."]
    assert "q4711" not in repr(await dump(store))
    found = [await store.conversations.message(id) for id in (first.id, quoting.id, other.id)]
    assert [(m.deleted, m.outdated) for m in found if m] == [
        (False, False),
        (True, False),
        (False, True),
    ]
    # What comes late, twice, or changes nothing.
    for text, when in (("older", -1), ("the same edit", 0), ("my  pin is mine ", 1)):
        await store.revisions.edit(1000, text, THEN + timedelta(seconds=when))
    assert "".join((await thread.texts())[0].split()) == "mypinismine"
    assert (await store.revisions.edit(1000, "", THEN)).counts == {}
    assert (await store.revisions.edit(1000, " ", THEN + timedelta(seconds=2))).counts
    assert (await thread.texts())[0] == ""
    await store.revisions.edit(1000, "back again", THEN + timedelta(seconds=3))
    assert (await thread.texts())[0] == ""  # who took it back once wants it gone
    assert await store.revisions.edit(4242, "never stored", THEN) == Erasure({}, ())


async def test_an_answer_that_was_told_what_is_gone_meanwhile(store: Store, thread: Thread) -> None:
    await thread.ask("my pin is q4711")
    await thread.answer("Noted.")
    await thread.ask("what of it?", user=2)
    told = await store.conversations.path_to(thread.said[-1].id)
    await store.revisions.edit(1000, "my pin is mine", THEN)
    with pytest.raises(RecordGone):
        await thread.answer("It was q4711.", told=told)
    assert (await thread.answer("A pin.", told=told)).outdated
    assert not (
        await thread.answer("A pin.", told=await store.conversations.path_to(told[-1].id))
    ).outdated
    told = await store.conversations.path_to(told[-1].id)
    await store.privacy.erase(1)
    thread.said[:] = await store.conversations.path_to(told[-1].id)
    with pytest.raises(RecordGone):
        await thread.answer("Your pin is mine.", told=told)
    with pytest.raises(RecordGone):
        await thread.answer("Xanthippe again.", told_besides=["About Xanthippe"])
    assert not (await thread.answer("Nothing.", told=told)).outdated


async def test_after_an_erasure_answers_to_others_quote_nothing_of_it(
    store: Store, thread: Thread
) -> None:
    await thread.ask("my pin is q4711", user=1)
    await thread.answer("Noted, Xanthippe.")
    await thread.ask("what did they say?", user=2)
    await thread.answer("Their pin is q4711.")
    await thread.ask("who?", user=2)
    await thread.answer("Xanthippe.")  # which only the erased answer had said
    await thread.ask("thank you", user=2)
    kept = await thread.answer("You are welcome.")
    rated = [
        await store.ratings.add(m.id, (await store.members.of_user(2)).id, 1)
        for m in thread.said[3:8:2]
    ]
    await store.versions.learned("v@2", [("rating", rated[0].id)])
    erasure = await store.privacy.erase(1)
    assert erasure.versions == ("v@2",)
    tables = await dump(store)
    assert "q4711" not in repr(tables)
    assert "Xanthippe" not in repr(tables)
    assert [row["id"] for row in tables["ratings"]] == [rated[2].id]
    assert (await thread.texts())[2:] == [
        "what did they say?",
        "",
        "who?",
        "",
        "thank you",
        "You are welcome.",
    ]
    assert await store.conversations.message(kept.id) == kept


async def test_a_name_goes_with_its_bearer(store: Store) -> None:
    thread = Thread(store, await store.conversations.start("thread", channel_id=10))
    member = (await store.members.of_user(1)).id
    await thread._add("user", "hello", member_id=member, name="Zoé Q", discord_id=1)
    await thread.answer("Hi.")
    await thread.ask("who was that?", user=2)
    await thread.answer("That was zoe.")
    await store.privacy.erase(1)
    assert "zoe" not in repr(await dump(store))


async def test_a_deletion_and_an_answer_at_once(store: Store, thread: Thread) -> None:
    """Whichever is first, nothing of it stays."""
    await thread.ask("my pin is q4711")
    told = await store.conversations.path_to(thread.said[0].id)
    asked = await thread.ask("what?", user=2)

    async def answer(number: int) -> None:
        await store.conversations.add_message(
            conversation_id=thread.id,
            parent_id=asked.id,
            role="assistant",
            text=f"answer {number}: q4711",
            told=[*told, asked],
        )

    writing = [asyncio.create_task(answer(number)) for number in range(20)]
    await asyncio.gather(*writing[:3])
    await store.revisions.mark_deleted(1000)
    results = await asyncio.gather(*writing, return_exceptions=True)
    assert all(one is None or isinstance(one, RecordGone) for one in results)
    assert "q4711" not in repr(await dump(store))


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
async def test_a_deletion_leaves_no_trace_in_the_open_files(
    store: Store, thread: Thread, tmp_path: Path
) -> None:
    await thread.ask("the wombat sleeps")
    await thread.answer("The wombat sleeps?")
    await thread.ask("another")
    await store.revisions.mark_deleted(1000)
    assert b"wombat" in written(tmp_path)
    assert (store.traces.in_log, store.traces.in_file) == (True, True)
    assert await store.traces.empty_log()
    assert not store.traces.in_log
    await store.traces.scrub()
    assert not store.traces.in_file
    assert b"wombat" not in written(tmp_path)
    assert b"another" in written(tmp_path)


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
async def test_what_is_deleted_while_a_scrub_begins_is_scrubbed_later(
    store: Store, thread: Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    for word in ("wombat", "koala"):
        await thread.ask(word)
    await store.revisions.mark_deleted(1000)
    look = store.database.value

    async def look_slowly(wanted: Any) -> Any:
        found = await look(wanted)
        await store.revisions.mark_deleted(1001)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(store.database, "value", look_slowly)
        await store.traces.scrub()
    assert store.traces.in_file
    await store.traces.scrub()
    assert not store.traces.in_file
