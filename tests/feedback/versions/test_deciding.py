"""What a candidate's rounds say of it, through the store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from random import Random

from feedback.conftest import Clock
from guildgpt.feedback.records import Candidate, Decision, Place, Round
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.deciding import look
from guildgpt.feedback.voting.prompts import NewPrompt

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
    assert after.state == outcome.state == "preferred"


async def test_an_erasure_in_a_canary_rewrites_nothing_that_was_looked_at(store: Store) -> None:
    """Neither the e-values nor how many rounds there were; votes and words go all the same."""
    decision = await a_canary(store)
    await play(store, decision, [1.0, 0.5, 4 / 6, 0.0, 1.0])
    _, before = await look(store, decision)
    assert (before.rounds, before.operator_decides) == (5, False)
    for voter in (0, 1, 5):  # fewer than five are left
        await store.privacy.erase(voter, scrub=False)
    after, outcome = await look(store, decision)
    assert outcome == before
    assert after == decision
    assert len((await store.snapshot()).votes) == 15
    await play(store, decision, [1.0])  # three come back, as people whom nobody knows
    _, outcome = await look(store, decision)
    assert (outcome.rounds, outcome.operator_decides) == (6, False)
    assert outcome.preferred > before.preferred


async def test_an_open_round_loses_the_vote_of_who_is_erased(store: Store) -> None:
    decision = await a_canary(store)
    await play(store, decision, [1.0])
    open_one = await an_open_round(store, decision)
    for voter in range(VOTERS):
        await vote(store, open_one, voter, for_candidate=voter > 0)
    await store.privacy.erase(0, scrub=False)
    await store.rounds.end(open_one.id, "closing")
    await store.privacy.erase(1, scrub=False)  # too late for this one
    await store.rounds.end(open_one.id)
    first, second = await store.rounds.means(decision.id)
    assert (first.mean, first.voters, first.people) == (1.0, 6, 6)
    assert (second.mean, second.voters, second.people) == (1.0, 5, 6)


async def test_who_voted_alone_takes_the_verdict_along(store: Store) -> None:
    """It would be theirs; the round stays, and says nothing."""
    decision = await a_canary(store)
    await play(store, decision, [1.0, 1.0])
    alone = await an_open_round(store, decision)
    await vote(store, alone, 0, for_candidate=True)
    skips = await store.members.of_user(1)
    await store.votes.cast(alone.comparison_id, skips.id, "skip")
    await store.rounds.end(alone.id)
    _, before = await look(store, decision)
    await store.privacy.erase(1, scrub=False)  # who said nothing in it
    assert [one.mean for one in await store.rounds.means(decision.id)] == [1.0, 1.0, 1.0]
    await store.privacy.erase(0, scrub=False)
    assert [one.mean for one in await store.rounds.means(decision.id)] == [1.0, 1.0, 0.5]
    _, after = await look(store, decision)
    assert after.rounds == before.rounds == 3
    assert after.preferred < before.preferred


async def test_rounds_that_go_leave_what_they_said(store: Store, clock: Clock) -> None:
    """With the end of what is kept, and with whoever offered the prompt."""
    decision = await a_canary(store)
    await play(store, decision, [1.0, 0.5])
    _, before = await look(store, decision)
    clock.pass_(days=400)
    await store.privacy.retain(30, scrub=False)
    assert await store.rounds.ballots() == []
    assert (await look(store, decision))[1] == before
    kept = await store.rounds.means(decision.id)
    assert [(one.round_id, one.voters) for one in kept] == [(None, 6), (None, 6)]
    await play(store, decision, [1.0])
    _, outcome = await look(store, decision)
    assert (outcome.rounds, outcome.operator_decides) == (3, False)


async def test_a_clock_that_is_set_back_changes_no_order(store: Store, clock: Clock) -> None:
    decision = await a_canary(store)
    for share, days in ((1.0, -40), (0.5, 90), (0.0, -3)):
        await play(store, decision, [share])
        clock.pass_(days=days)
    kept = await store.rounds.means(decision.id)
    assert [(one.number, one.mean) for one in kept] == [(1, 1.0), (2, 0.5), (3, 0.0)]
    _, outcome = await look(store, decision)
    assert outcome.rounds == 3


async def test_a_round_that_is_cancelled_says_nothing(store: Store) -> None:
    decision = await a_canary(store)
    made = await an_open_round(store, decision)
    await vote(store, made, 0, for_candidate=True)
    await store.rounds.end(made.id, "closing")
    await store.rounds.end(made.id, "cancelled")
    assert await store.rounds.means(decision.id) == []


async def test_rounds_of_a_guild_that_was_left_say_what_they_said(store: Store) -> None:
    decision = await a_canary(store)
    made = await an_open_round(store, decision, guild_id=7)
    silent = await an_open_round(store, decision, guild_id=7)
    for voter in range(VOTERS):
        await vote(store, made, voter, for_candidate=True)
    await store.places.guild_left(7)
    [kept] = await store.rounds.means(decision.id)
    assert (kept.round_id, kept.mean, kept.people) == (made.id, 1.0, 6)
    assert [one.id for one in await store.rounds.in_state("cancelled")] == [silent.id]


async def an_open_round(store: Store, decision: Decision, guild_id: int | None = None) -> Round:
    prompt = await store.prompts.next("decide", Random(1), decision_id=decision.id)
    assert prompt is not None
    pair = [Candidate("New words.", "new@2"), Candidate("Old words.", "old@1")]
    return await store.rounds.open(
        prompt, pair, "discord", decision_id=decision.id, guild_id=guild_id
    )


async def vote(store: Store, round: Round, voter: int, *, for_candidate: bool) -> None:
    member = await store.members.of_user(voter)
    ranking = (0, 1) if for_candidate else (1, 0)
    await store.votes.cast(round.comparison_id, member.id, "ranked", ranking)


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
