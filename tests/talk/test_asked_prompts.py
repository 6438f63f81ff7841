"""What a round asks: drawn at random, or, in a share of those to learn from, what is unsure."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from feedback.conftest import *  # noqa: F403
from feedback.voting.test_proposals import proposed
from feedback.voting.test_rounds import pool, texts

from guildgpt.feedback.records import Candidate, PoolPrompt
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.prompts import NewPrompt
from guildgpt.talk.asked_prompts import AskedPrompts

WRITTEN = [Candidate("They sleep.", "old@1"), Candidate("They eat.", "old@1")]


async def write(_prompt: PoolPrompt) -> Sequence[Candidate]:
    return WRITTEN


async def filled(store: Store, proposals: int) -> list[PoolPrompt]:
    prompts = await pool(store, count=proposals)
    await store.proposals.put(proposed(prompt, 1.0) for prompt in prompts)
    return prompts


async def test_half_of_the_rounds_to_learn_from_ask_what_is_unsure(store: Store) -> None:
    await filled(store, 40)
    asked = AskedPrompts(store, write, Random(0), proposals=True)
    drawn = [(await asked.next("train")).drawn for _ in range(60)]
    assert 20 < drawn.count("unsure") < 40
    assert drawn.count("random") == 60 - drawn.count("unsure")


async def test_rounds_that_decide_are_drawn_at_random(store: Store) -> None:
    await filled(store, 10)
    await store.prompts.add([NewPrompt(text, "tests", "CC0-1.0") for text in texts("decide", 5)])
    await store.proposals.set_share(1)
    decision = await store.decisions.begin()
    asked = AskedPrompts(store, write, Random(0), proposals=True)
    for _ in range(20):
        found = await asked.next("decide", decision.id)
        assert (found.drawn, found.answers, found.prompt.purpose) == ("random", WRITTEN, "decide")
    assert len(await store.proposals.waiting()) == 10


async def test_without_a_proposal_all_are_random(store: Store) -> None:
    await pool(store)
    await store.proposals.set_share(1)
    asked = AskedPrompts(store, write, Random(0), proposals=True)
    assert (await asked.next("train")).drawn == "random"


async def test_who_does_not_ask_whom_everybody_talks_to_takes_none(store: Store) -> None:
    await filled(store, 3)
    await store.proposals.set_share(1)
    found = await AskedPrompts(store, write, Random(0)).next("train")
    assert found.drawn == "random"
    assert len(await store.proposals.waiting()) == 3


async def test_what_may_not_be_shown_is_passed_over(store: Store) -> None:
    first, second = await filled(store, 2)
    await store.proposals.set_share(1)
    asked = AskedPrompts(
        store, write, Random(0), proposals=True, fit=lambda prompt, _: prompt.id == second.id
    )
    found = await asked.next("train")
    assert (found.prompt, found.drawn) == (second, "unsure")
    assert all(one.prompt_id == first.id for one in await store.proposals.waiting())
