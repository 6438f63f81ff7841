"""Reports in the store: shown to who runs the bot, and taken off the list."""

from __future__ import annotations

import pytest

from guildgpt.errors import RecordGone
from guildgpt.feedback.records import StoredMessage
from guildgpt.feedback.store import Store


async def answered(store: Store, guild_id: int, event_id: int) -> StoredMessage:
    """An answer of two messages on Discord, in a channel of the guild."""
    conversation = await store.conversations.start("chain", guild_id=guild_id, channel_id=10)
    question = await store.conversations.add_message(
        conversation_id=conversation, parent_id=None, role="user", text="?"
    )
    answer = await store.conversations.add_message(
        conversation_id=conversation, parent_id=question.id, role="assistant", text="A wombat."
    )
    delivery = await store.deliveries.claim(event_id, "message")
    assert delivery
    parts = [event_id + 1, event_id + 2]
    await store.deliveries.update(delivery.id, answer_id=answer.id, parts=parts)
    return answer


async def test_the_newest_come_first_each_with_its_place(store: Store) -> None:
    here, there = await answered(store, 100, 1000), await answered(store, 200, 2000)
    member = (await store.members.of_user(1)).id
    first = await store.reports.add(here.id, member)
    assert first.link == "https://discord.com/channels/100/10/1001"
    again = await store.reports.add(here.id, member, "rude")
    assert (again.id, again.reason) == (first.id, "rude")
    assert (await store.reports.add(here.id, member)).reason == "rude"
    second = await store.reports.add(here.id, None, "wrong")
    third = await store.reports.add(there.id, member)
    assert await store.reports.newest() == [third, second, again]
    assert await store.reports.newest(100) == [second, again]
    assert await store.reports.newest(100, older_than=second.id) == [again]
    assert await store.reports.newest(limit=1) == [third]
    assert await store.reports.count_open(100) == 2

    assert await store.reports.resolve(third.id, 100) is None  # another guild's
    seen = await store.reports.resolve(second.id, 100)
    assert seen
    assert seen.resolved_at
    assert await store.reports.resolve(second.id) == seen
    assert await store.reports.newest(100) == [again]
    assert await store.reports.newest(100, resolved=True) == [seen, again]
    await store.reports.resolve(first.id)
    assert (await store.reports.add(here.id, member)).id != first.id  # it happened again
    with pytest.raises(RecordGone):
        await store.reports.add("nothing", member)
