"""Corrections: offered with a licence, reviewed by the operator, a few a day."""

from __future__ import annotations

import asyncio

import pytest

from feedback.conftest import Clock
from guildgpt.errors import LimitReached, OfferRefused, RecordGone
from guildgpt.feedback.records import StoredMessage
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.corrections import A_DAY, LONGEST

ANNA, BERTA = 80351110224678912, 80351110224678913
CC0 = "CC0-1.0"


async def answers(store: Store, count: int = 1) -> list[StoredMessage]:
    """Answers to one question of nobody's."""
    place = await store.conversations.start("round", source="web")
    asked = await store.conversations.add_message(
        conversation_id=place, parent_id=None, role="user", text="What is TLS?"
    )
    return [
        await store.conversations.add_message(
            conversation_id=place,
            parent_id=asked.id,
            role="assistant",
            text=f"Answer {number}",
            synthetic=True,
        )
        for number in range(count)
    ]


async def test_what_is_offered_waits_for_the_operator(store: Store, clock: Clock) -> None:
    anna = (await store.members.of_user(ANNA)).id
    [answer] = await answers(store)
    made = await store.corrections.offer(answer.id, anna, " A protocol. ", "cc0-1.0")
    assert (made.text, made.licence, made.state) == ("A protocol.", CC0, "offered")
    [waiting] = await store.corrections.waiting()
    assert waiting.correction == made
    assert [one.text for one in waiting.said] == ["What is TLS?", "Answer 0"]
    clock.pass_(hours=1)
    accepted = await store.corrections.review(made.id, "accepted")
    assert (accepted.state, accepted.decided_at) == ("accepted", clock.now)
    assert await store.corrections.by_id(made.id) == accepted
    assert await store.corrections.waiting() == []
    assert await store.corrections.all("accepted") == [accepted]
    refused = await store.corrections.review(made.id, "refused")  # on second thoughts
    assert await store.corrections.all() == [refused]
    with pytest.raises(RecordGone):
        await store.corrections.review("gone", "accepted")


async def test_only_the_newest_of_a_person_waits(store: Store) -> None:
    anna, berta = [(await store.members.of_user(one)).id for one in (ANNA, BERTA)]
    first, second, third = await answers(store, 3)
    await store.corrections.offer(first.id, anna, "Worded at first", CC0)
    of_berta = await store.corrections.offer(first.id, berta, "Berta's", CC0)
    anew = await store.corrections.offer(first.id, anna, "Worded anew", CC0)
    await store.corrections.offer(second.id, anna, "Taken back", CC0)
    await store.corrections.take_back(second.id, anna)
    await store.corrections.offer(third.id, anna, "Of an answer that goes", CC0)
    await store.revisions.mark_deleted(1)  # nothing of theirs
    waiting = [one.correction for one in await store.corrections.waiting()]
    assert waiting[:2] == [of_berta, anew]
    assert len(waiting) == 3
    await store.privacy.erase(BERTA)
    assert [one.correction.text for one in await store.corrections.waiting()] == [
        "Worded anew",
        "Of an answer that goes",
    ]


@pytest.mark.parametrize(
    ("text", "licence", "why"),
    [
        (" ", CC0, "has words"),
        ("x" * (LONGEST + 1), CC0, "20,000 characters at most"),
        ("Answer 0", CC0, "the answer as it stands"),
        ("Mine", "CC-BY-NC-4.0", "forbids commercial use"),
        ("Mine", "CC-BY-ND-4.0", "forbids adaptations"),
        ("Mine", "", "is unknown"),
        ("Mine", "own", "does not let a model learn"),
    ],
)
async def test_what_is_not_taken_is_said(store: Store, text: str, licence: str, why: str) -> None:
    anna = (await store.members.of_user(ANNA)).id
    [answer] = await answers(store)
    with pytest.raises(OfferRefused, match=why) as refused:
        await store.corrections.offer(answer.id, anna, text, licence)
    assert refused.value.remedy
    assert await store.corrections.all() == []


async def test_whose_consent_is_none_is_told(store: Store) -> None:
    anna = (await store.members.of_user(ANNA)).id
    await store.members.set_consent(anna, "none")
    [answer] = await answers(store)
    with pytest.raises(OfferRefused, match="nothing of yours is learned from"):
        await store.corrections.offer(answer.id, anna, "Mine", CC0)


async def test_a_few_a_day(store: Store, clock: Clock) -> None:
    anna, berta = [(await store.members.of_user(one)).id for one in (ANNA, BERTA)]
    found = await answers(store, 4)
    await store.corrections.add(found[0].id, anna, "Worded at the terminal")  # no offer
    took = await asyncio.gather(
        *(store.corrections.offer(one.id, anna, "Mine", CC0, a_day=2) for one in found),
        return_exceptions=True,
    )
    late = [one for one in took if isinstance(one, LimitReached)]
    assert len(late) == 2
    assert "2 answers today" in late[0].what
    assert late[0].remedy == "Come again tomorrow."
    assert late[0].seconds <= 12 * 60 * 60
    assert await store.corrections.offer(found[0].id, berta, "Hers", CC0, a_day=2)
    clock.pass_(hours=12)
    assert await store.corrections.offer(found[0].id, anna, "Mine, tomorrow", CC0, a_day=2)
    assert A_DAY == 20


async def test_what_is_no_answer_cannot_be_corrected(store: Store) -> None:
    anna = (await store.members.of_user(ANNA)).id
    [answer] = await answers(store)
    for message, member in ((answer.parent_id, anna), ("gone", anna), (answer.id, "gone")):
        with pytest.raises(RecordGone):
            await store.corrections.offer(str(message), member, "Mine", CC0)
