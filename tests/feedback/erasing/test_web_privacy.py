"""What is kept of who comes by the web page, and that it goes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from feedback.babble import dump
from feedback.conftest import Clock
from guildgpt.feedback.erasing import blanking
from guildgpt.feedback.erasing.own_data import as_json
from guildgpt.feedback.records import Account
from guildgpt.feedback.storage.schema import (
    api_keys,
    api_usage,
    chats,
    conversations,
    responses,
    sessions,
)
from guildgpt.feedback.store import Store


async def sign_in(store: Store, name: str) -> tuple[Account, str]:
    """A new account, and its session."""
    return await store.accounts.accept(await store.accounts.invite("voter", name), None, "a phone")


async def chat(store: Store, account: Account, clock: Clock, *, words: str = "") -> list[str]:
    """A conversation of theirs on the web page, with an answer that they word better and another
    that they branch off to; the ids of its messages."""
    place = await store.conversations.start("web", source="web")
    title = {"conversation_id": place, "member_id": account.member_id}
    title |= {"title": f"The title of {account.name}", "changed_at": clock.now}
    await store.database.execute(insert(chats), title)
    if not words:
        return []
    asked = await store.conversations.add_message(
        conversation_id=place,
        parent_id=None,
        role="user",
        text=words,
        name=account.name,
        member_id=account.member_id,
    )
    answers = [
        await store.conversations.add_message(
            conversation_id=place, parent_id=asked.id, role="assistant", text=text, synthetic=True
        )
        for text in (f"An answer to {account.name}", "Another")
    ]
    await store.corrections.add(answers[0].id, account.member_id, f"Better words of {account.name}")
    return [asked.id, *(one.id for one in answers)]


async def test_a_person_reads_all_of_theirs(store: Store, clock: Clock) -> None:
    anna, _ = await sign_in(store, "Anna")
    berta, _ = await sign_in(store, "Berta")
    for one in (anna, berta):
        await chat(store, one, clock, words=f"The words of {one.name}")
    kept = await store.privacy.kept_of_account("web", "Anna")
    assert kept is not None
    assert "Berta" not in as_json(kept).decode()
    [account] = kept["accounts"]
    assert (account["name"], account["role"], account["ended_at"]) == ("Anna", "voter", None)
    assert [one["device"] for one in kept["sessions"]] == ["a phone"]
    assert [one["used_at"] for one in kept["invitations"]] == [clock.now.isoformat()]
    [own] = kept["chats"]
    assert (own["title"], own["changed_at"]) == ("The title of Anna", clock.now.isoformat())
    [correction] = kept["corrections"]
    assert correction["text"] == "Better words of Anna"
    assert (correction["licence"], correction["state"]) == ("", "accepted")
    [said] = kept["messages"]
    assert (said["kind"], said["text"], len(said["answers"])) == ("web", "The words of Anna", 2)
    assert await store.privacy.kept_of_account("terminal", "Anna") is None


async def test_who_is_erased_leaves_nothing(store: Store, clock: Clock) -> None:
    anna, session = await sign_in(store, "Anna")
    berta, other_session = await sign_in(store, "Berta")
    await store.accounts.invite("voter", account_id=anna.id)
    for one in (anna, berta):
        ids = await chat(store, one, clock, words=f"The words of {one.name}")
        await chat(store, one, clock)  # and an empty one
        await store.ratings.add(ids[1], anna.member_id, 1, "The reason of Anna")
    before = await dump(store)
    erasure = await store.privacy.erase_account("web", "Anna")
    assert erasure.counts == {
        "members": 1,
        "accounts": 1,
        "sessions": 1,
        "invitations": 2,
        "conversations": 2,
        "messages": 3,
        "corrections": 1,
        "ratings": 2,
    }
    after = await dump(store)
    assert "Anna" not in repr(after)
    assert anna.id not in repr(after)
    assert anna.member_id not in repr(after)
    for table, rows in before.items():
        if table not in ("facts", "ratings"):
            of_others = [row for row in rows if "Berta" in repr(row) or berta.id in repr(row)]
            assert all(row in after[table] for row in of_others), table
    assert len(after["chats"]) == 2
    assert await store.accounts.of_session(session) is None
    assert await store.accounts.of_session(other_session) == berta
    assert await store.accounts.all() == [berta]
    anew, _ = await sign_in(store, "Anna")  # the name is free again
    assert anew.member_id != anna.member_id


async def test_chats_that_go_whole_are_not_searched_for_quotes(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Word by word that takes 30 ms a chat, in which nobody else can write.
    searched: list[str] = []
    search = blanking._told_together

    def told(connection: Connection, place: str) -> dict[str, Any]:
        searched.append(place)
        return dict(search(connection, place))

    monkeypatch.setattr(blanking, "_told_together", told)
    anna, _ = await sign_in(store, "Anna")
    for _ in range(3):
        await chat(store, anna, clock, words="What is TLS, and who needs it?")
    await store.privacy.erase_account("web", "Anna")
    assert searched == []
    assert (await store.snapshot()).messages == []


async def test_a_conversation_goes_with_its_title(store: Store, clock: Clock) -> None:
    anna, _ = await sign_in(store, "Anna")
    await chat(store, anna, clock, words="Old words")
    clock.pass_(days=20)
    await chat(store, anna, clock, words="New words")
    clock.pass_(days=11)
    gone = await store.privacy.retain(30)
    assert (gone["conversations"], gone["messages"], gone["corrections"]) == (1, 3, 1)
    titles = await store.database.rows(select(chats.c.conversation_id))
    places = await store.database.rows(select(conversations.c.id))
    assert titles == places
    assert len(titles) == 1


async def test_what_expires_goes(store: Store, clock: Clock) -> None:
    anna, session = await sign_in(store, "Anna")
    await store.accounts.invite("voter")
    key = {"id": "k", "name": "lab", "sha256": "0" * 64, "created_at": clock.now}
    await store.database.execute(insert(api_keys), key)
    spans = ["2026-07-30", "2026-07-30T12:00", "2026-08-01", "2026-08-01T12:00"]
    await store.database.execute(
        insert(api_usage),
        [{"key_id": "k", "span": span, "requests": 1, "tokens": 0} for span in spans],
    )
    stored = {"owner": "local", "body": {"output": []}, "previous_id": None}
    await store.database.execute(
        insert(responses), stored | {"id": "resp_1", "created_at": clock.now}
    )
    assert await store.privacy.retain(1000) == Counter()
    clock.pass_(days=8)
    assert await store.privacy.retain(1000) == Counter(invitations=2)  # Anna's is used, besides
    assert await store.accounts.of_session(session) == anna
    clock.pass_(days=22)
    assert await store.privacy.retain(1000) == Counter(responses=1)
    clock.pass_(days=2)
    gone = await store.privacy.retain(1000)
    assert gone == Counter(api_usage=2)
    left = await store.database.rows(select(api_usage.c.span).order_by(api_usage.c.span))
    assert [row.span for row in left] == spans[2:]
    clock.pass_(days=30)
    assert (await store.privacy.retain(1000))["sessions"] == 1
    assert await store.database.rows(select(sessions)) == []


async def test_an_account_that_ended_long_ago_goes_with_its_member(
    store: Store, clock: Clock
) -> None:
    for name in ("Anna", "Berta", "Cora"):
        await sign_in(store, name)
    anna, berta, cora = await store.accounts.all()
    clock.pass_(days=10)
    await chat(store, berta, clock, words="Words that stay")
    for ended in (anna, berta):
        await store.accounts.end(ended.id)
    clock.pass_(days=25)
    assert await store.privacy.retain(30) == Counter(invitations=1, sessions=1)  # Cora's
    clock.pass_(days=6)
    await store.conversations.add_message(
        conversation_id=await store.conversations.start("web", source="web"),
        parent_id=None,
        role="user",
        text="Newer words",
        member_id=berta.member_id,
    )
    gone = await store.privacy.retain(30)
    assert (gone["accounts"], gone["members"]) == (1, 1)
    assert [one.name for one in await store.accounts.all()] == ["Berta", "Cora"]
    assert await store.accounts.end(cora.id)
