"""What a candidate's rounds say of it, through the store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from random import Random

from guildgpt.feedback.deciding import look
from guildgpt.feedback.prompts import NewPrompt
from guildgpt.feedback.records import Candidate, Decision, Place
from guildgpt.feedback.store import Store

from .conftest import Clock

VOTERS = 6


async def a_canary(store: Store) -> Decision:
    prompts = [NewPrompt(f"Explain wombats, part {n}.", "tests", "CC0-1.0") for n in range(40)]
    await store.prompts.add(prompts)
    await store.releases.add({"old@1": 0.8, "new@2": 0.2}, "canary")
    return await store.decisions.begin(
        state="canary", candidate_id="new@2", baseline_id="old@1", settings={"share": 0.2}
    )


async def play(
    store: Store,
    decision: Decision,
    shares: Sequence[float],
    *,
    place: Place = "discord",
    candidate: str = "new@2",
    baseline: str = "old@1",
) -> None:
    """Rounds, in each of which this share of the voters is for the candidate."""
    chance = Random(0)
    for number, share in enumerate(shares):
        prompt = await store.prompts.next("decide", chance, decision_id=decision.id)
        assert prompt is not None
        pair = [Candidate("Old words.", baseline), Candidate("New words.", candidate)]
        if number % 2:
            pair.reverse()
        made = await store.rounds.open(prompt, pair, place, decision_id=decision.id)
        for voter in range(VOTERS):
            member = await store.members.of_user(voter)
            best = number % 2 if voter >= share * VOTERS else 1 - number % 2
            await store.votes.cast(made.comparison_id, member.id, "ranked", (best, 1 - best))
        await store.rounds.end(made.id)


async def test_one_that_is_preferred_waits_for_the_operator(store: Store) -> None:
    decision = await a_canary(store)
    await play(store, decision, [1.0] * 3)
    now, outcome = await look(store, decision)
    assert (now.state, outcome.state, outcome.rounds) == ("canary", "open", 3)
    await play(store, decision, [1.0] * 9)
    now, outcome = await look(store, decision)
    assert (now.state, outcome.state) == ("preferred", "preferred")
    assert not outcome.operator_decides
    assert now.result is not None
    assert now.result["preferred"] >= 20
    assert [release.share for release in await store.releases.current()] == [0.8, 0.2]
    assert await store.decisions.current() == now  # nobody else's turn yet


async def test_one_that_is_not_preferred_answers_nobody_any_more(store: Store) -> None:
    decision = await a_canary(store)
    await play(store, decision, [0.0] * 12)
    now, _ = await look(store, decision)
    assert now.state == "not_preferred"
    [release] = await store.releases.current()
    assert (release.version_id, release.share, release.kind) == ("old@1", 1.0, "drop")
    assert await store.decisions.current() is None
    again, _ = await look(store, now)  # and nothing is released twice
    assert again == now
    assert len(await store.releases.history()) == 2


async def test_what_has_been_decided_stands_after_an_erasure(store: Store) -> None:
    decision = await a_canary(store)
    await play(store, decision, [1.0] * 12)
    now, _ = await look(store, decision)
    for voter in range(VOTERS):
        await store.privacy.erase(voter, scrub=False)
    after, outcome = await look(store, now)
    assert after.state == "preferred"
    assert outcome.state == "open"


async def test_no_vote_counts_for_another_version(store: Store) -> None:
    decision = await a_canary(store)
    await play(store, decision, [1.0] * 12, candidate="other@3")
    now, outcome = await look(store, decision)
    assert (now.state, outcome.rounds) == ("canary", 0)


async def test_a_terminal_only_advises(store: Store, clock: Clock) -> None:
    decision = await a_canary(store)
    for _ in range(12):
        await play(store, decision, [1.0], place="terminal")
        clock.pass_(days=1)
    now, outcome = await look(store, decision, now=clock.now + timedelta(days=1))
    assert outcome.operator_decides
    assert outcome.state == "preferred"
    assert now.state == "canary"
