"""Versions, who answers how much, and what becomes of candidates."""

from __future__ import annotations

import asyncio

import pytest

from feedback.conftest import KEY, Clock
from guildgpt.errors import StoreError
from guildgpt.feedback.store import Store
from guildgpt.model.version import Version

ANNA = 111_111_111_111_111_111


def version(id: str) -> Version:
    return Version(id, id.partition("@")[0], f"/models/{id}.gguf", "0" * 64)


async def a_message(store: Store) -> str:
    """The id of something that Anna said."""
    anna = await store.members.of_user(ANNA)
    place = await store.conversations.start("chain", channel_id=8)
    said = await store.conversations.add_message(
        conversation_id=place, parent_id=None, role="user", text="Hm.", member_id=anna.id
    )
    return said.id


async def test_the_newest_release_counts(store: Store, clock: Clock) -> None:
    assert await store.releases.current() == []
    await store.releases.add({"old@1": 1.0}, "serve", "the first")
    clock.pass_(days=-1)  # a clock that is set back changes no order
    await store.releases.add({"new@2": 0.2, "old@1": 0.8}, "canary")
    assert [(r.version_id, r.share) for r in await store.releases.current()] == [
        ("old@1", 0.8),
        ("new@2", 0.2),
    ]
    newest, first = await store.releases.history()
    assert (newest[0].number, first[0].number, first[0].why) == (2, 1, "the first")
    for wrong in ({"a": 0.5}, {"a": 1.5, "b": -0.5}, {}):
        with pytest.raises(ValueError, match="whole"):
            await store.releases.add(wrong, "serve")


async def test_two_who_release_at_once(store: Store) -> None:
    await asyncio.gather(*(store.releases.add({f"v@{n}": 1.0}, "serve") for n in range(4)))
    assert sorted(rows[0].number for rows in await store.releases.history()) == [1, 2, 3, 4]
    assert len(await store.releases.current()) == 1


async def test_one_candidate_at_a_time(store: Store) -> None:
    made = await store.decisions.begin(folder="learn/1", settings={"alpha": 0.05})
    with pytest.raises(StoreError, match="there is a candidate already: one that is being trained"):
        await store.decisions.begin(state="canary", candidate_id="other@3")
    changed = await store.decisions.change(made.id, state="canary", candidate_id="new@2")
    assert await store.decisions.current() == changed
    await store.decisions.change(
        made.id, expected=["canary"], state="preferred", why="they said so"
    )
    late = await store.decisions.change(made.id, expected=["canary"], state="not_preferred")
    assert (late.state, late.why) == ("preferred", "they said so")
    await store.decisions.change(made.id, state="promoted")
    assert await store.decisions.current() is None
    await store.decisions.begin()
    assert len(await store.decisions.all()) == 2


async def test_the_newest_decision_is_last_though_the_clock_is_set_back(
    store: Store, url: str, clock: Clock
) -> None:
    """By another process, which knows nothing of the first one's time."""
    first = await store.decisions.begin()
    await store.decisions.change(first.id, state="dropped")
    clock.pass_(days=-1)
    async with await Store.open(url, key=KEY, clock=clock, patience=60.0) as other:
        second = await other.decisions.begin()
    assert [one.id for one in await store.decisions.all()] == [second.id, first.id]


async def test_a_version_that_learned_from_what_was_erased_is_marked(store: Store) -> None:
    """It, and what was trained from it; nobody else."""
    said = await a_message(store)
    await store.versions.register(version("old@1"))
    await store.versions.register(version("new@2"), [("message", said)])
    await store.versions.register(version("newer@3"), parent_id="new@2")
    await store.versions.register(version("newest@4"), parent_id="newer@3")
    erasure = await store.privacy.erase(ANNA)
    assert erasure.versions == ("new@2", "newer@3", "newest@4")
    marked = {one.id: one.erased_at is not None for one in await store.versions.all()}
    assert marked == {"old@1": False, "new@2": True, "newer@3": True, "newest@4": True}
    await store.versions.register(version("new@2"))  # the bot's next start
    found = await store.versions.by_id("new@2")
    assert found is not None
    assert found.erased_at


@pytest.mark.parametrize("erased", ["during training", "afterwards", "never"])
async def test_lineage_is_noted_before_the_first_step(store: Store, erased: str) -> None:
    said = await a_message(store)
    made = await store.decisions.begin()
    await store.versions.learned(made.id, [("message", said)])
    if erased == "during training":
        erasure = await store.privacy.erase(ANNA)
        assert erasure.versions == ()  # there is none yet
        found = await store.decisions.by_id(made.id)
        assert found is not None
        assert found.erased_at
    await store.versions.register(version("new@2"))
    await store.versions.inherit("new@2", made.id)
    if erased == "afterwards":
        assert (await store.privacy.erase(ANNA)).versions == ("new@2",)
    known = await store.versions.by_id("new@2")
    assert known is not None
    assert (known.erased_at is not None) == (erased != "never")


async def test_a_clean_one_that_comes_out_the_same_is_not_marked(store: Store) -> None:
    """Its weights are what they are without what was erased; unless it is erased once more."""
    await store.versions.register(version("new@2"), [("message", await a_message(store))])
    await store.privacy.erase(ANNA)
    made = await store.decisions.begin()
    await store.versions.learned(made.id, [("message", await a_message(store))])
    await store.versions.register(version("new@2"))
    await store.versions.inherit("new@2", made.id)
    found = await store.versions.by_id("new@2")
    assert found is not None
    assert found.erased_at is None
    await store.privacy.erase(ANNA)
    await store.versions.inherit("new@2", made.id)  # by the same command that goes on
    found = await store.versions.by_id("new@2")
    assert found is not None
    assert found.erased_at
    await store.decisions.change(made.id, state="dropped")
    below = await store.decisions.begin()
    await store.versions.learned(below.id, [("message", await a_message(store))])
    await store.versions.register(version("newer@3"), parent_id="new@2")
    await store.versions.inherit("newer@3", below.id)
    found = await store.versions.by_id("newer@3")
    assert found is not None
    assert found.erased_at  # what it was trained from is marked


async def test_a_version_that_does_not_start(store: Store) -> None:
    await store.versions.register(version("new@2"))
    await store.versions.started("new@2", "the file is cut off")
    found = await store.versions.by_id("new@2")
    assert found is not None
    assert found.trouble == "the file is cut off"
    await store.versions.started("new@2")
    found = await store.versions.by_id("new@2")
    assert found is not None
    assert found.trouble is None
