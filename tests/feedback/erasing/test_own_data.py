"""What is kept under one member: all of it, and no other person's words."""

from __future__ import annotations

import json
from threading import get_ident
from typing import Any

import pytest
from sqlalchemy import Connection

from feedback.conftest import Clock
from guildgpt.feedback.erasing import privacy
from guildgpt.feedback.erasing.own_data import SECTIONS, as_json, kept_of
from guildgpt.feedback.storage.schema import metadata
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.seen import Seen

NEWCOMER, TEACHER = 80351110224678912, 80351110224678913


async def two_people(store: Store) -> dict[str, str]:
    """A chain in which both ask, rate, vote and report; ids by what they are."""
    newcomer, teacher = await store.members.of_user(NEWCOMER), await store.members.of_user(TEACHER)
    chain = await store.conversations.start("chain", guild_id=7, channel_id=8)
    ids = {"newcomer": newcomer.id, "teacher": teacher.id}
    last = None
    for who, member in (("newcomer", newcomer), ("teacher", teacher)):
        delivery = await store.deliveries.claim(
            1000 + len(ids), "message", guild_id=7, channel_id=8, member_id=member.id
        )
        assert delivery
        asked = await store.conversations.add_message(
            conversation_id=chain,
            parent_id=last,
            role="user",
            text=f"The words of {who}",
            name=who,
            member_id=member.id,
            discord_id=2**60 + len(ids),
        )
        answer = await store.conversations.add_message(
            conversation_id=chain,
            parent_id=asked.id,
            role="assistant",
            text=f"An answer to {who}",
            synthetic=True,
            version_id="starter@8f3a21c0",
        )
        await store.deliveries.update(
            delivery.id, question_id=asked.id, answer_id=answer.id, parts=[2**61, 2**61 + 1]
        )
        ids |= {f"{who} asked": asked.id, f"{who} answered": answer.id}
        last = answer.id
    other = await store.conversations.add_message(
        conversation_id=chain,
        parent_id=ids["newcomer asked"],
        role="assistant",
        text="Another answer to newcomer",
    )
    comparison = await store.votes.add_comparison(
        ids["newcomer asked"], [ids["newcomer answered"], other.id]
    )
    for who, member in (("newcomer", newcomer), ("teacher", teacher)):
        rated = ids["teacher answered"]
        await store.ratings.add(rated, member.id, -1, f"The reason of {who}")
        await store.votes.cast(comparison.id, member.id, "ranked", (1, 0))
        await store.reports.add(rated, member.id)
    return ids | {"comparison": comparison.id, "other": other.id}


async def test_all_of_a_member_and_nothing_of_another(store: Store, clock: Clock) -> None:
    ids = await two_people(store)
    await store.members.set_consent(ids["newcomer"], "train")
    kept = await store.privacy.kept_of(NEWCOMER)
    assert kept is not None
    text = as_json(kept).decode()
    assert json.loads(text) == kept
    assert "teacher" not in text.replace("An answer to teacher", "")
    assert "An answer to teacher" not in text
    assert ids["teacher"] not in text
    assert kept["member"]["consent"] == "train"
    assert kept["member"]["first_seen"] == clock.now.isoformat()
    [said] = kept["messages"]
    assert said["text"] == "The words of newcomer"
    assert (said["server"], said["channel"], said["kind"]) == ("7", "8", "chain")
    assert int(said["message"]) > 2**59
    answers = [(one["id"], one["text"]) for one in said["answers"]]
    assert answers == [
        (ids["newcomer answered"], "An answer to newcomer"),
        (ids["other"], "Another answer to newcomer"),
    ]
    [rating] = kept["ratings"]
    assert (rating["value"], rating["reason"]) == (-1, "The reason of newcomer")
    assert rating["answer"] == ids["teacher answered"]
    [vote] = kept["votes"]
    assert (vote["comparison"], vote["ranking"]) == (ids["comparison"], [1, 0])
    [comparison] = kept["comparisons"]
    assert comparison["answers"] == [ids["newcomer answered"], ids["other"]]
    assert [one["answer"] for one in kept["reports"]] == [ids["teacher answered"]]
    [event] = kept["events"]
    assert event["answered_in"] == [str(2**61), str(2**61 + 1)]
    for section in SECTIONS:
        for row in kept[section]:
            assert any(key.endswith("_at") for key in row), section


async def test_the_loop_goes_on_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who said much has seconds of it: no other person waits so long."""
    threads: list[int] = []

    def noted(connection: Connection, hashed: str, seen: Seen) -> dict[str, Any] | None:
        threads.append(get_ident())
        return kept_of(connection, hashed, seen)

    monkeypatch.setattr(privacy, "kept_of", noted)
    await two_people(store)
    assert await store.privacy.kept_of(NEWCOMER) is not None
    (thread,) = threads
    assert thread != get_ident()


async def test_every_table_that_names_a_member_is_looked_at(store: Store) -> None:
    """Whoever adds a table has to think of this."""
    naming = {table.name for table in metadata.sorted_tables if "member_id" in table.c}
    assert naming == {
        "messages",
        "deliveries",
        "votes",
        "ratings",
        "reports",
        "corrections",
        "prompts",
        "accounts",
        "chats",
    }
    naming = {table.name for table in metadata.sorted_tables if "account_id" in table.c}
    assert naming == {"invitations", "sessions"}


async def test_versions_that_learned_from_it(store: Store) -> None:
    ids = await two_people(store)
    await store.versions.learned("tiny@1", [("message", ids["newcomer answered"])])
    await store.versions.learned("tiny@2", [("message", ids["teacher answered"])])
    kept = await store.privacy.kept_of(NEWCOMER)
    assert kept is not None
    assert kept["learned"] == ["tiny@1"]


async def test_words_that_wait_to_be_written_down(store: Store) -> None:
    """A token that writes into an interaction stays inside."""
    member = await store.members.of_user(NEWCOMER)
    extra = {"text": "My words", "name": "Ferris", "token": "secret-token"}
    await store.deliveries.claim(
        5, "slash", member_id=member.id, channel_id=8, guild_id=7, extra=extra
    )
    kept = await store.privacy.kept_of(NEWCOMER)
    assert kept is not None
    assert (kept["events"][0]["text"], kept["events"][0]["name"]) == ("My words", "Ferris")
    assert "secret-token" not in as_json(kept).decode()


async def test_nobody_is_made_by_looking(store: Store) -> None:
    assert await store.privacy.kept_of(NEWCOMER) is None
    assert (await store.stats()).members == 0
    await store.members.of_user(NEWCOMER)
    kept = await store.privacy.kept_of(NEWCOMER)
    assert kept is not None
    assert all(kept[section] == [] for section in SECTIONS)


async def test_nothing_is_left_after_an_erasure(store: Store) -> None:
    await two_people(store)
    await store.privacy.erase(NEWCOMER)
    assert await store.privacy.kept_of(NEWCOMER) is None
    assert await store.privacy.kept_of(TEACHER) is not None
