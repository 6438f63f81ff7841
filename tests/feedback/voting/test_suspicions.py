"""Corrections that look pasted are shown so to whoever reviews them; nothing is refused for it."""

from __future__ import annotations

import pytest

from feedback.conftest import Clock
from guildgpt.errors import LimitReached
from guildgpt.feedback.records import Correction
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.corrections import A_DAY
from guildgpt.feedback.voting.suspicions import A_MODELS

from .test_corrections import ANNA, BERTA, CC0, answers


async def offer(
    store: Store, clock: Clock, user: int, answer: str, text: str, minutes: float = 30
) -> Correction:
    """So many minutes after the last one."""
    clock.pass_(minutes=minutes)
    member = await store.members.of_user(user)
    return await store.corrections.offer(answer, member.id, text, CC0)


async def flags(store: Store) -> dict[str, tuple[str, ...]]:
    return {one.correction.text: one.flags for one in await store.corrections.waiting()}


async def test_words_of_ones_own_are_not_suspicious(store: Store, clock: Clock) -> None:
    first, second, third = await answers(store, 3)
    await offer(store, clock, ANNA, first.id, "A protocol that keeps a talk private.")
    await offer(store, clock, ANNA, second.id, "It stands for Transport Layer Security.")
    await offer(store, clock, BERTA, third.id, "What browsers speak with banks.")
    assert set((await flags(store)).values()) == {()}


async def test_one_text_under_many_answers(store: Store, clock: Clock) -> None:
    """Though with another case and other spaces."""
    some = await answers(store, 4)
    for number, answer in enumerate(some[:3]):
        await offer(store, clock, ANNA, answer.id, "As a rule:  ask " + "an admin.  "[: 9 + number])
    await offer(store, clock, BERTA, some[3].id, "Something else.")
    found = await flags(store)
    assert found.pop("Something else.") == ()
    assert list(found.values()) == [("the same words stand under 2 other answers",)]


async def test_the_words_of_somebody_else(store: Store, clock: Clock) -> None:
    [answer] = await answers(store)
    made = await offer(store, clock, ANNA, answer.id, "A protocol.")
    await store.corrections.review(made.id, "refused")
    await offer(store, clock, BERTA, answer.id, "a PROTOCOL.")
    assert await flags(store) == {"a PROTOCOL.": ("somebody else has offered the same words",)}


async def test_the_same_again_for_the_same_answer_is_no_copy(store: Store, clock: Clock) -> None:
    [answer] = await answers(store)
    for _ in range(2):
        await offer(store, clock, ANNA, answer.id, "A protocol.")
    assert await flags(store) == {"A protocol.": ()}


async def test_a_models_own_words(store: Store, clock: Clock) -> None:
    first, second, third = await answers(store, 3)
    await offer(store, clock, ANNA, first.id, f"  {second.text}\n")
    assert await flags(store) == {second.text: (A_MODELS,)}
    await offer(store, clock, ANNA, third.id, f"Not quite {second.text}")
    assert (await flags(store))[f"Not quite {second.text}"] == ()


async def test_faster_than_people_write(store: Store, clock: Clock) -> None:
    some = await answers(store, 3)
    for number, (answer, minutes) in enumerate(zip(some, (30, 0.1, 5), strict=True)):
        await offer(store, clock, ANNA, answer.id, f"{number} " + "words " * 40, minutes)
    await offer(store, clock, BERTA, some[0].id, "Berta's own: " + "words " * 40, 0.01)
    found = await flags(store)
    fast = ("it came faster after their last one than people write",)
    assert [flags for _, flags in sorted(found.items())] == [(), fast, (), ()]


async def test_in_bulk_they_come_to_an_end(store: Store, clock: Clock) -> None:
    """The cap of a day holds, and each of those that were taken is flagged."""
    some = await answers(store, A_DAY + 1)
    for answer in some[:-1]:
        await offer(store, clock, ANNA, answer.id, "Pasted, " + "very " * 30 + "fast.", 0.02)
    with pytest.raises(LimitReached):
        await offer(store, clock, ANNA, some[-1].id, "One more.", 0.02)
    waiting = await store.corrections.waiting()
    assert len(waiting) == A_DAY
    assert all(f"under {A_DAY - 1} other answers" in one.flags[0] for one in waiting)
    assert all("faster" in one.flags[1] for one in waiting[1:])
