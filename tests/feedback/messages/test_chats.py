"""Chats of the web page in the store, on both databases."""

from __future__ import annotations

import pytest

from feedback.conftest import Clock
from guildgpt.errors import RecordGone
from guildgpt.feedback.exporting.exports import sft
from guildgpt.feedback.exporting.view import Switches, View
from guildgpt.feedback.messages.chats import LONGEST_TITLE
from guildgpt.feedback.store import Store


async def member(store: Store, name: str) -> str:
    return (await store.members.of_account("web", name)).id


async def said(store: Store, chat: str, member_id: str, text: str, answer: str) -> str:
    """A question at the root of a chat, with its answer's id."""
    question = await store.conversations.add_message(
        conversation_id=chat, parent_id=None, role="user", text=text, member_id=member_id
    )
    written = await store.conversations.add_message(
        conversation_id=chat,
        parent_id=question.id,
        role="assistant",
        text=answer,
        version_id="starter@b179c952",
        told=[question],
    )
    await store.chats.changed(chat, title=text)
    return written.id


async def test_a_chat_is_its_members(store: Store) -> None:
    anna, ben = await member(store, "Anna"), await member(store, "Ben")
    chat = await store.chats.start(anna)
    answer = await said(store, chat.id, anna, "What is bread?", "Flour, water and time.")
    assert (await store.chats.listed(anna, limit=9))[0].title == "What is bread?"
    assert await store.chats.listed(ben, limit=9) == []
    assert await store.chats.chat(chat.id, ben) is None
    assert await store.chats.chat_of(answer, ben) is None
    assert await store.chats.search(ben, "bread", limit=9) == []
    with pytest.raises(RecordGone):
        await store.chats.rename(chat.id, ben, "Mine")
    assert not await store.chats.delete(chat.id, ben)
    assert [one.role for one in await store.chats.messages(chat.id)] == ["user", "assistant"]


async def test_they_are_listed_by_their_last_word(store: Store, clock: Clock) -> None:
    anna = await member(store, "Anna")
    ids = [(await store.chats.start(anna, f"Chat {number}")).id for number in range(5)]
    await store.chats.changed(ids[0], title="not taken: it has one")
    first = await store.chats.listed(anna, limit=2)
    assert [one.title for one in first] == ["Chat 0", "Chat 4"]
    rest = await store.chats.listed(anna, limit=9, before=first[-1].changed_at)
    assert [one.title for one in rest] == ["Chat 3", "Chat 2", "Chat 1"]


async def test_search(store: Store) -> None:
    anna = await member(store, "Anna")
    chat = await store.chats.start(anna, "Baking")
    long = "word " * 100 + "SOURDOUGH needs a starter " + "word " * 100
    await said(store, chat.id, anna, "How does 100% rye work?", long)

    async def found(text: str) -> list[str]:
        return [one.excerpt for one in await store.chats.search(anna, text, limit=9)]

    assert await found("baKing") == [""]
    [excerpt] = await found("sourdough")
    assert "SOURDOUGH needs a starter" in excerpt
    assert excerpt.startswith("…")
    assert excerpt.endswith("…")
    assert len(excerpt) < 200
    assert await found("100% r") == ["How does 100% rye work?"]
    assert await found("1%rye") == await found("so_rdough") == await found("\x00") == []


async def test_a_chat_goes_with_all_about_it(store: Store) -> None:
    anna = await member(store, "Anna")
    chat = await store.chats.start(anna)
    answer = await said(store, chat.id, anna, "What is bread?", "Time.")
    await store.ratings.add(answer, anna, 1)
    offered = await store.corrections.offer(answer, anna, "Flour and time.", "CC0-1.0")
    await store.versions.learned("bread@12345678", [("correction", offered.id)])
    empty = await store.chats.start(anna)
    assert await store.chats.delete(chat.id, anna)
    assert await store.chats.delete(empty.id, anna)
    assert not await store.chats.delete(chat.id, anna)
    assert await store.chats.listed(anna, limit=9) == []
    left = await store.snapshot()
    assert (left.messages, left.ratings, left.corrections, left.conversations) == ([], [], [], [])


async def test_opinions_are_the_newest(store: Store) -> None:
    anna, ben = await member(store, "Anna"), await member(store, "Ben")
    chat = await store.chats.start(anna)
    answer = await said(store, chat.id, anna, "What is bread?", "Time.")
    for value in (1, -1):
        await store.ratings.add(answer, anna, value, "why" if value < 0 else None)
    await store.corrections.offer(answer, anna, "Flour and time.", "CC0-1.0")
    mine = (await store.chats.opinions([answer], anna))[answer]
    assert (mine.value, mine.reason) == (-1, "why")
    assert (mine.correction, mine.state) == ("Flour and time.", "offered")
    assert await store.chats.opinions([answer], ben) == {}


async def test_own_text_leaves_by_consent_and_switch_alone(store: Store) -> None:
    anna = await member(store, "Anna")
    chat = await store.chats.start(anna)
    answer = await said(store, chat.id, anna, "What is bread?", "Time.")
    await store.ratings.add(answer, anna, 1)
    for consent in ("chat", "train"):
        await store.members.set_consent(anna, consent)
        for allowed in (False, True):
            view = View(await store.snapshot(), Switches(members=allowed))
            rows = sft(view).rows
            assert bool(rows) == (consent == "train" and allowed)


@pytest.mark.parametrize("text", ["", " \n ", "x" * 500, "word " * 100, "a\nb\x00c"])
async def test_titles_are_one_short_line(store: Store, text: str) -> None:
    anna = await member(store, "Anna")
    title = (await store.chats.start(anna, text)).title
    assert len(title) <= LONGEST_TITLE
    assert "\n" not in title
    assert title == title.strip()
