"""Stored responses: bound to who asked, followed to their first one, gone after a month."""

from __future__ import annotations

import pytest

from feedback.conftest import Clock
from guildgpt.errors import RecordGone
from guildgpt.feedback.messages import responses
from guildgpt.feedback.messages.responses import TooLong
from guildgpt.feedback.store import Store


async def talk(store: Store, length: int, words: str = "words") -> list[str]:
    """The ids of responses, each of which goes on from the one before."""
    ids = [f"resp_{number}" for number in range(length)]
    for number, id in enumerate(ids):
        previous = ids[number - 1] if number else None
        await store.responses.add(id, "anna", previous, {"said": f"{words} {number}"})
    return ids


async def test_a_conversation_is_followed_in_one_go(store: Store, clock: Clock) -> None:
    ids = await talk(store, 40)
    found = await store.responses.chain(ids[-1], "anna")
    assert [one.id for one in found] == ids
    assert found[7].body == {"said": "words 7"}
    assert [one.id for one in await store.responses.chain(ids[2], "anna")] == ids[:3]
    one = await store.responses.of(ids[3], "anna")
    assert one == found[3]
    assert one.created_at == clock.now


async def test_nobody_else_finds_it(store: Store) -> None:
    await talk(store, 2)
    assert await store.responses.of("resp_1", "ben") is None
    assert not await store.responses.delete("resp_1", "ben")
    with pytest.raises(RecordGone):
        await store.responses.chain("resp_1", "ben")
    # Nor by going on from it: what is in it stays Anna's.
    await store.responses.add("resp_bens", "ben", "resp_1", {"said": "mine"})
    with pytest.raises(RecordGone):
        await store.responses.chain("resp_bens", "ben")
    for nonsense in ("", "\0", "\ud800", "'"):
        assert await store.responses.of(nonsense, "anna") is None
        with pytest.raises(RecordGone):
            await store.responses.chain(nonsense, "anna")


async def test_what_is_deleted_is_gone_from_what_went_on_from_it(store: Store) -> None:
    ids = await talk(store, 4)
    assert await store.responses.delete(ids[1], "anna")
    assert not await store.responses.delete(ids[1], "anna")
    assert await store.responses.of(ids[3], "anna")
    with pytest.raises(RecordGone):
        await store.responses.chain(ids[3], "anna")
    assert len(await store.responses.chain(ids[0], "anna")) == 1


async def test_after_a_month_it_is_gone_before_it_is_purged(store: Store, clock: Clock) -> None:
    [id] = await talk(store, 1)
    clock.pass_(days=30)
    assert await store.responses.of(id, "anna") is None
    with pytest.raises(RecordGone):
        await store.responses.chain(id, "anna")
    assert await store.privacy.retain(1000) == {"responses": 1}


async def test_a_conversation_that_is_too_long(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "MOST_RESPONSES", 5)
    monkeypatch.setattr(responses, "MOST_CHARACTERS", 4000)
    responses._chain.cache_clear()
    try:
        ids = await talk(store, 7)
        assert len(await store.responses.chain(ids[4], "anna")) == 5
        for id in ids[5:]:
            with pytest.raises(TooLong):
                await store.responses.chain(id, "anna")
        for id in ids:
            await store.responses.delete(id, "anna")
        ids = await talk(store, 4, words="word " * 300)
        assert len(await store.responses.chain(ids[1], "anna")) == 2
        with pytest.raises(TooLong):
            await store.responses.chain(ids[3], "anna")
    finally:
        responses._chain.cache_clear()


async def test_what_no_database_can_hold(store: Store) -> None:
    await store.responses.add("resp_0", "anna", None, {"said": "\0 \ud800", "n": [float("nan")]})
    found = await store.responses.of("resp_0", "anna")
    assert found is not None
    assert found.body == {
        "said": "\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}",
        "n": [None],
    }
