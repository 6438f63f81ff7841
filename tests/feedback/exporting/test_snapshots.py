"""Everything out of one store and into another: nothing changes on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from feedback.conftest import KEY, Clock
from feedback.guild import BEGIN, Guild
from guildgpt.errors import RecordGone, StoreError
from guildgpt.feedback.records import Snapshot, StoredConversation
from guildgpt.feedback.store import Store


def a_guild() -> Guild:
    guild = Guild()
    skeptic, teacher = guild.member("skeptic", "train"), guild.member("teacher")
    question = guild.say("Why?", member_id=skeptic, name="skeptic", discord_id=2**62)
    one = guild.answer("Because.", question, rank=1, sampling={"temperature": 0.1, "top_k": 40})
    extra = {"b": {"nested": [None, 1.5, "é\0"]}, "a": 1}
    two = guild.answer("Why not?", question, version="other@2", rank=0, extra=extra)
    guild.say("Thanks", one, member_id=teacher, deleted=True)
    comparison = guild.compare(question, two, one)
    guild.vote(comparison, skeptic, 1, 0)
    guild.vote(comparison, skeptic, 0, 1)
    guild.vote(comparison, None, verdict="both_bad")
    guild.rate(one, teacher, 1)
    guild.rate(one, None, -1)
    return guild


def in_order(snapshot: Snapshot) -> Snapshot:
    """As the store gives it: oldest first, dated, and NUL mended."""
    extra = {"b": {"nested": [None, 1.5, "é\N{REPLACEMENT CHARACTER}"]}, "a": 1}
    return replace(
        snapshot,
        messages=[replace(m, extra=extra) if m.extra else m for m in snapshot.messages],
        comparisons=[replace(c, created_at=BEGIN) for c in snapshot.comparisons],
    )


async def test_a_snapshot_comes_out_as_it_went_in(store: Store, clock: Clock) -> None:
    clock.now = BEGIN
    given = a_guild().snapshot
    counts = await store.add_snapshot(given)
    assert counts == Counter(
        conversations=1, messages=4, comparisons=1, votes=3, ratings=2, members=2, versions=2
    )
    found = await store.snapshot()
    assert found == in_order(given)
    # Into the other kind of database, and out again.
    async with await Store.open("sqlite://", key=KEY, clock=clock) as other:
        await other.add_snapshot(found)
        assert await other.snapshot() == found
        assert await other.stats() == await store.stats()


async def test_the_same_again_is_passed_over_and_counted(store: Store) -> None:
    guild = a_guild()
    await store.add_snapshot(guild.snapshot)
    before = await store.snapshot()
    guild.say("One more", guild.rows.messages[0])
    counts = await store.add_snapshot(guild.snapshot)
    assert counts["messages"] == 1
    assert counts["messages_already_there"] == 4
    assert counts["votes_already_there"] == 3
    assert counts["comparisons"] == 0
    after = await store.snapshot()
    assert after == replace(before, messages=after.messages)
    assert len(after.messages) == 5


async def test_replies_may_stand_before_what_they_reply_to(store: Store) -> None:
    guild = Guild()
    message = guild.say("0")
    for number in range(1, 1200):
        message = guild.say(str(number), message, role="assistant" if number % 2 else "user")
    given = guild.snapshot
    await store.add_snapshot(replace(given, messages=given.messages[::-1]))
    assert [m.text for m in await store.conversations.path_to(message.id)] == [
        str(n) for n in range(1200)
    ]


async def test_a_circle_or_a_missing_parent_changes_nothing(store: Store) -> None:
    guild = a_guild()
    given = guild.snapshot
    root, reply, *_ = given.messages
    circle = [replace(root, parent_id=reply.id), *given.messages[1:]]
    with pytest.raises(StoreError, match="circle"):
        await store.add_snapshot(replace(given, messages=circle))
    with pytest.raises(RecordGone, match="no longer in the store"):
        await store.add_snapshot(replace(given, messages=given.messages[1:]))
    assert await store.snapshot() == Snapshot()


async def test_only_one_guild(store: Store) -> None:
    everything = Guild()
    for guild_id in (100, 200):
        conversation = everything.conversation("chain")
        rows = everything.rows.conversations
        rows[-1] = replace(rows[-1], guild_id=guild_id)
        member = everything.member(f"member of {guild_id}")
        more = {"conversation_id": conversation, "member_id": member}
        question = everything.say(f"of {guild_id}", **more)
        rows.pop()  # `say` begins one of its own
        answers = [everything.answer(t, question, version=f"v@{guild_id}") for t in "ab"]
        everything.vote(everything.compare(question, *answers), member, 0, 1)
        everything.rate(answers[0], member, 1)
    await store.add_snapshot(everything.snapshot)
    found = await store.snapshot(guild_id=200)
    assert {m.text for m in found.messages} == {"of 200", "a", "b"}
    assert [type(c) for c in found.conversations] == [StoredConversation]
    assert [len(rows) for rows in (found.comparisons, found.votes, found.ratings)] == [1, 1, 1]
    assert set(found.members) == {"member of 200"}
    assert set(found.versions) == {"v@200"}
    assert await store.snapshot(guild_id=300) == Snapshot()
