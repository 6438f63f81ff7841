"""Pairs of which a reward model is unsure: each is asked once, and goes with what it is about."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from guildgpt.feedback.records import Candidate, PoolPrompt
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.prompts import NewPrompt
from guildgpt.feedback.voting.proposals import SHARE, NewProposal
from guildgpt.model.version import Version

from .test_rounds import ANNA, a_round, pool, texts


def proposed(prompt: PoolPrompt, unsure: float) -> NewProposal:
    pair = (Candidate("They dig.", "old@1", {"seed": 1}, "eos"), Candidate("They run.", "old@1"))
    return NewProposal(prompt.id, pair, unsure)


async def test_the_least_sure_is_asked_first_and_each_once(store: Store) -> None:
    prompts = await pool(store, count=3)
    assert await store.proposals.put(map(proposed, prompts, (0.5, 3.0, 1.0))) == 3
    assert [one.unsure for one in await store.proposals.waiting()] == [3.0, 1.0, 0.5]
    taken = [await store.proposals.take() for _ in range(4)]
    assert taken[3] is None
    assert [one[0] for one in taken[:3] if one] == [prompts[1], prompts[2], prompts[0]]
    assert taken[0] is not None
    assert taken[0][1] == proposed(prompts[1], 3.0).answers
    assert await store.proposals.waiting() == []


async def test_many_who_take_at_once_get_one_each(store: Store) -> None:
    prompts = await pool(store, count=4)
    await store.proposals.put(proposed(prompt, 1.0) for prompt in prompts)
    taken = await asyncio.gather(*(store.proposals.take() for _ in range(9)))
    got = [one[0].id for one in taken if one]
    assert sorted(got) == sorted(one.id for one in prompts)


async def test_new_ones_take_the_place_of_old_ones(store: Store) -> None:
    first, second = await pool(store, count=2)
    await store.proposals.put([proposed(first, 1.0)])
    await store.proposals.put([proposed(second, 2.0)])
    assert [one.prompt_id for one in await store.proposals.waiting()] == [second.id]


async def test_a_prompt_that_decides_or_was_refused_is_never_proposed(store: Store) -> None:
    [train] = await pool(store)
    await store.prompts.add([NewPrompt(texts("decide", 1)[0], "tests", "CC0-1.0")])
    [decides] = [one for one in await store.prompts.all() if one.purpose == "decide"]
    both = [proposed(train, 1.0), proposed(decides, 2.0)]
    assert await store.proposals.put(both) == 1
    await store.prompts.judge(train.id, "refused")
    assert await store.proposals.waiting() == []
    assert await store.proposals.put(both) == 0


async def test_a_release_ends_them(store: Store) -> None:
    """They were by who served before."""
    [prompt] = await pool(store)
    await store.proposals.put([proposed(prompt, 1.0)])
    await store.versions.register(Version("new@2", "new", "runs/new", "b" * 64))
    await store.releases.add({"new@2": 1.0}, "serve")
    assert await store.proposals.take() is None


async def test_an_erased_prompt_takes_its_proposals_along(store: Store) -> None:
    member = await store.members.of_user(ANNA)
    new = NewPrompt(texts("train", 1)[0], "discord", "CC0-1.0")
    offered = await store.prompts.submit(member.id, new)
    assert offered is not None
    await store.prompts.judge(offered.id, "accepted")
    await store.proposals.put([proposed(offered, 1.0)])
    erasure = await store.privacy.erase(ANNA)
    assert erasure.counts["proposals"] == 1
    assert await store.proposals.waiting() == []


async def test_a_share_of_the_rounds_takes_one(store: Store) -> None:
    [prompt] = await pool(store)
    assert await store.proposals.share() == SHARE
    await store.proposals.put([proposed(prompt, 1.0)])
    await store.proposals.set_share(0)
    assert await store.proposals.drawn(Random(0)) is None
    await store.proposals.set_share(0.25)
    assert await store.proposals.share() == 0.25
    with pytest.raises(ValueError, match="no share"):
        await store.proposals.set_share(1.5)
    await store.proposals.set_share(1)
    assert await store.proposals.drawn(Random(0)) is not None


async def test_a_round_knows_how_it_was_drawn_and_one_that_decides_is_random(store: Store) -> None:
    [prompt] = await pool(store)
    made = await a_round(store, prompt)
    assert made.drawn == "random"
    pair = proposed(prompt, 1.0).answers
    asked = await store.rounds.open(prompt, pair, "web", drawn="unsure")
    found = await store.rounds.by_id(asked.id)
    assert found is not None
    assert found.drawn == "unsure"
    decision = await store.decisions.begin()
    with pytest.raises(ValueError, match="drawn at random"):
        await store.rounds.open(prompt, pair, "web", decision_id=decision.id, drawn="unsure")
