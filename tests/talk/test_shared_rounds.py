"""Rounds that several people vote on: on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from feedback.conftest import (  # noqa: F401 (fixtures)
    Clock,
    clock,
    cluster,
    made_database,
    made_file,
    store,
    url,
)
from vote.conftest import NEW, OLD, Teller, engines, fleet  # noqa: F401 (fixtures)

from guildgpt.engines.engine import SamplingParams
from guildgpt.errors import EngineDied, RecordGone, RoundClosed, StoreError
from guildgpt.feedback.records import Candidate, Decision, Verdict
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.blind import Given, cast, first_shown, is_secret
from guildgpt.feedback.voting.pool import fill_if_empty
from guildgpt.feedback.voting.proposals import NewProposal
from guildgpt.feedback.voting.rankings import position_bias
from guildgpt.feedback.voting.seen import NotSeen
from guildgpt.talk.asked_prompts import ENGINE_TRIES
from guildgpt.talk.fleet import Fleet
from guildgpt.talk.moderation import moderators
from guildgpt.talk.shared_rounds import (
    AHEAD,
    DECIDING,
    LONGEST,
    OPEN_FOR,
    UNDO,
    VOTERS,
    AllVoted,
    SharedRounds,
    Shown,
)
from guildgpt.talk.waiting import FairQueue


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def rounds(store: Store, fleet: Fleet, clock: Clock) -> AsyncIterator[SharedRounds]:  # noqa: F811
    for one in (OLD, NEW):
        await store.versions.register(one)
    queue = FairQueue(2, clock=lambda: 0.0)
    params = SamplingParams(max_tokens=8)
    made = SharedRounds(store, fleet, queue, params, moderators(), Random(0), clock, patience=30.0)
    yield made
    await made.close()


@pytest.fixture
async def people(store: Store) -> list[str]:  # noqa: F811
    """Six voters who came by invitation."""
    members = []
    for name in ("anna", "ben", "cleo", "dora", "emil", "finn"):
        account, _ = await store.accounts.accept(await store.accounts.invite("voter"), name, "test")
        members.append(account.member_id)
    return members


@pytest.fixture
async def canary(store: Store) -> Decision:  # noqa: F811
    decision = await store.decisions.begin(candidate_id=NEW.id, baseline_id=OLD.id)
    return await store.decisions.change(decision.id, state="canary")


async def shown(rounds: SharedRounds, member: str, **how: object) -> Shown:
    found = await rounds.next(member, **how)  # type: ignore[arg-type]
    assert found is not None
    return found


def given(
    one: Shown, verdict: Verdict = "ranked", ranking: tuple[int, ...] = (0, 1), *, id: str = "1"
) -> Given:
    ranked = ranking if verdict == "ranked" else ()
    return Given(id, one.round.comparison_id, one.ticket, verdict, ranked)


async def test_everybody_votes_on_the_same_round_in_an_order_of_their_own(
    rounds: SharedRounds,
    store: Store,  # noqa: F811
    people: list[str],
) -> None:
    seen = [await shown(rounds, member) for member in people[:VOTERS]]
    assert len({one.round.id for one in seen}) == 1
    assert len({one.answers for one in seen}) == 2  # some see it the other way round
    for member, one in zip(people, seen, strict=False):
        await cast(store, member, given(one, ranking=(1, 0)))
    (held,) = await store.rounds.ballots(states=("open",))
    assert held.round.place == "web"
    comparison = await store.votes.comparison(held.round.comparison_id)
    assert comparison is not None
    for member, one in zip(people, seen, strict=False):
        (vote,) = [vote for vote in held.votes if vote.member_id == member]
        best = await store.conversations.message(comparison.candidates[vote.ranking[0]])  # type: ignore[index]
        assert best is not None
        assert best.text == one.answers[1]  # what they saw on the right


async def test_who_always_clicks_the_left_one_is_seen_to_do_so(
    rounds: SharedRounds,
    store: Store,  # noqa: F811
    people: list[str],
) -> None:
    for member in people[:VOTERS]:
        for _ in range(4):
            one = await shown(rounds, member)
            await cast(store, member, given(one, ranking=(0, 1)))
    snapshot = await store.snapshot()
    assert len({vote.ranking for vote in snapshot.votes}) == 2  # of the two positions any
    found = position_bias(snapshot.comparisons, snapshot.votes, first_shown(store, snapshot))
    assert (found.count, found.of) == (20, 20)


async def test_two_servers_close_a_round_once(
    rounds: SharedRounds,
    store: Store,  # noqa: F811
    clock: Clock,  # noqa: F811
    people: list[str],
    canary: Decision,
) -> None:
    other = replace(rounds, _writing={})
    for member, server in zip(people[:VOTERS], [rounds, other] * 3, strict=False):
        await cast(store, member, given(await shown(server, member)))
    clock.pass_(seconds=UNDO.total_seconds() + 1)
    await asyncio.gather(*(server.settle() for server in [rounds, other] * 4))
    (mean,) = await store.rounds.means(canary.id)
    assert mean.voters == VOTERS


async def test_a_round_closes_once_five_have_voted_and_may_still_be_taken_back(
    rounds: SharedRounds,
    store: Store,  # noqa: F811
    clock: Clock,  # noqa: F811
    people: list[str],
    canary: Decision,
) -> None:
    for member in people[:VOTERS]:
        one = await shown(rounds, member)
        await cast(store, member, given(one))
    last = await shown(rounds, people[5])
    assert last.round.id != one.round.id  # that one is full
    await rounds.settle()
    assert len(await store.rounds.in_state("open")) == 2
    await cast(store, people[4], given(one, "tie", id="2"))  # taken back in time
    clock.pass_(seconds=UNDO.total_seconds() + 1)
    await rounds.settle()
    (closed,) = await store.rounds.ballots(decision_id=canary.id)
    assert closed.purpose == "decide"
    assert sorted(closed.versions) == [OLD.id, NEW.id]
    assert [vote.verdict for vote in closed.votes].count("tie") == 1
    (mean,) = await store.rounds.means(canary.id)
    assert (mean.voters, mean.people) == (VOTERS, VOTERS)
    with pytest.raises(RoundClosed):
        await cast(store, people[4], given(one, id="3"))


async def test_who_has_voted_on_all_that_decide_waits_for_the_others(
    rounds: SharedRounds,
    store: Store,  # noqa: F811
    clock: Clock,  # noqa: F811
    people: list[str],
    canary: Decision,
) -> None:
    anna, ben = people[:2]
    asked = set()
    for _ in range(DECIDING):
        one = await shown(rounds, anna)
        asked.add(one.prompt.text)
        await cast(store, anna, given(one))
    assert len(asked) == DECIDING
    with pytest.raises(AllVoted, match="every round"):
        await rounds.next(anna)
    await cast(store, ben, given(await shown(rounds, ben)))
    clock.pass_(seconds=OPEN_FOR.total_seconds() + 1)
    await rounds.settle()
    # One has two voters and is closed, the others have one and wait.
    assert len(await store.rounds.ballots(decision_id=canary.id)) == 1
    assert len(await store.rounds.in_state("open")) == DECIDING - 1
    assert await rounds.next(anna) is not None  # so a further one opens
    clock.pass_(seconds=LONGEST.total_seconds())
    await rounds.settle()
    assert len(await store.rounds.ballots(decision_id=canary.id)) == DECIDING
    assert len(await store.rounds.in_state("cancelled")) == 1  # nobody voted on the last


async def test_rounds_end_with_the_trial_that_they_were_about(
    rounds: SharedRounds,
    store: Store,  # noqa: F811
    people: list[str],
    canary: Decision,
) -> None:
    first = await shown(rounds, people[0])
    await cast(store, people[0], given(first))
    second = await shown(rounds, people[0])
    await store.decisions.change(canary.id, state="dropped")
    third = await shown(rounds, people[0])
    states = {one.round.id: one.round.state for one in await _all(store)}
    assert states == {
        first.round.id: "closed",
        second.round.id: "cancelled",
        third.round.id: "open",
    }
    assert third.round.decision_id is None
    assert third.prompt.purpose == "train"


async def test_one_person_at_the_machine_votes_as_at_a_terminal(
    rounds: SharedRounds,
    store: Store,  # noqa: F811
    clock: Clock,  # noqa: F811
    canary: Decision,
) -> None:
    me = (await store.accounts.local()).member_id
    for _ in range(DECIDING + 1):  # nobody else is waited for
        await cast(store, me, given(await shown(rounds, me)))
    clock.pass_(seconds=UNDO.total_seconds() + 1)
    await rounds.settle()
    held = await store.rounds.ballots(decision_id=canary.id)
    assert len(held) == DECIDING + 1
    assert {one.round.place for one in held} == {"terminal"}
    assert await store.rounds.means(canary.id) == []  # it decides nothing by itself


async def test_a_vote_sent_twice_is_one_and_a_second_one_replaces_the_first(
    rounds: SharedRounds,
    store: Store,  # noqa: F811
    people: list[str],
) -> None:
    one = await shown(rounds, people[0])
    for _ in range(2):
        await cast(store, people[0], given(one, "tie", id="a"))
    await cast(store, people[0], given(one, "both_bad", id="b"))
    await cast(store, people[0], given(one, "tie", id="a"))  # late, of a page that tried again
    snapshot = await store.snapshot()
    assert [vote.verdict for vote in snapshot.votes] == ["tie", "both_bad"]
    (held,) = await store.rounds.ballots(states=("open",))
    assert [vote.verdict for vote in held.votes] == ["both_bad"]
    # The same name of a vote by somebody else is another vote.
    theirs = await shown(rounds, people[1])
    await cast(store, people[1], given(theirs, "tie", id="a"))
    assert len((await store.snapshot()).votes) == 3


async def test_who_was_not_shown_it_may_not_vote(
    rounds: SharedRounds,
    store: Store,  # noqa: F811
    people: list[str],
) -> None:
    one = await shown(rounds, people[0])
    with pytest.raises(NotSeen, match="not shown"):
        await cast(store, people[1], given(one))
    with pytest.raises(NotSeen):
        await cast(store, people[0], Given("1", one.round.comparison_id, "forged", "tie"))
    assert (await store.snapshot()).votes == []


async def test_what_was_erased_and_who_wants_nothing_kept(
    rounds: SharedRounds,
    store: Store,  # noqa: F811
    people: list[str],
) -> None:
    one = await shown(rounds, people[0])
    gone = Given("1", "no-such", store.seen.ticket("no-such", people[0]), "tie")
    with pytest.raises(RecordGone, match="erased"):
        await cast(store, people[0], gone)
    await store.members.set_consent(people[0], "none")
    with pytest.raises(StoreError, match="nothing of yours is kept"):
        await cast(store, people[0], given(one))
    with pytest.raises(StoreError, match="nothing of yours is kept"):
        await rounds.next(people[0])


async def test_an_answer_is_written_once_for_all_who_wait(
    rounds: SharedRounds,
    people: list[str],
    engines: dict[str, Teller],  # noqa: F811
) -> None:
    await asyncio.gather(*(rounds.next(member) for member in people))
    assert sum(engine.answers for engine in engines.values()) == 2


async def test_nobody_has_rounds_written_without_end(
    rounds: SharedRounds,
    store: Store,  # noqa: F811
    people: list[str],
) -> None:
    seen: list[str] = []
    for _ in range(3 * AHEAD):
        seen.append((await shown(rounds, people[0], without=seen)).round.id)
    assert len(set(seen)) == AHEAD
    assert len(await store.rounds.in_state("open")) == AHEAD


async def test_who_waits_too_long_asks_again(
    rounds: SharedRounds,
    people: list[str],
    engines: dict[str, Teller],  # noqa: F811
) -> None:
    rounds.patience = 0.0
    assert await rounds.next(people[0]) is None
    rounds.patience = 30.0
    assert await rounds.next(people[0]) is not None


async def test_an_engine_that_fails_is_told_and_the_next_who_asks_tries_again(
    rounds: SharedRounds,
    people: list[str],
    engines: dict[str, Teller],  # noqa: F811
) -> None:
    engines[NEW.id].deaths = 4 * ENGINE_TRIES
    with pytest.raises(EngineDied):
        await rounds.next(people[0])
    engines[NEW.id].deaths = 0
    assert await rounds.next(people[0]) is not None


async def test_four_answers_are_ranked_with_equals(
    rounds: SharedRounds,
    store: Store,  # noqa: F811
    people: list[str],
    canary: Decision,
) -> None:
    one = await shown(rounds, people[0], count=4)
    assert len(set(one.answers)) == 4
    assert one.round.decision_id is None  # two answers decide, more are for learning
    order = store.seen.order(one.round.comparison_id, people[0], 4)
    ranked = Given("1", one.round.comparison_id, one.ticket, "ranked", (2, [0, 3], 1))
    await cast(store, people[0], ranked)
    (held,) = await store.rounds.ballots(states=("open",))
    best, equal, worst = held.votes[0].ranking
    assert best == order[2]
    assert set(equal) == {order[0], order[3]}  # type: ignore[arg-type]
    assert worst == order[1]
    with pytest.raises(ValueError, match="no place"):
        await cast(
            store, people[0], Given("2", one.round.comparison_id, one.ticket, "ranked", (4,))
        )
    # It is not offered again, and stays open for others.
    assert (await shown(rounds, people[0], count=4)).round.id != one.round.id
    assert (await shown(rounds, people[1], count=4)).round.id == one.round.id


async def test_who_wrote_which_is_secret_while_one_of_them_is_tried(
    store: Store,  # noqa: F811
    canary: Decision,
) -> None:
    assert is_secret([OLD.id, NEW.id], canary)
    assert is_secret([f"another name@{8 * 'b'}"], canary)
    assert not is_secret([OLD.id, OLD.id], canary)
    assert not is_secret([OLD.id, NEW.id], await store.decisions.change(canary.id, state="dropped"))


async def _all(store: Store):  # type: ignore[no-untyped-def]  # noqa: F811
    return await store.rounds.ballots(states=("open", "closed", "cancelled"))


def test_times_are_in_order() -> None:
    assert timedelta(0) < UNDO < OPEN_FOR < LONGEST


async def test_a_round_to_learn_from_asks_what_is_unsure_and_one_that_decides_never(
    rounds: SharedRounds,
    store: Store,  # noqa: F811
    people: list[str],
) -> None:
    await fill_if_empty(store)
    prompts = [one for one in await store.prompts.all() if one.purpose == "train"][:2]
    pair = (Candidate("By the lamp.", OLD.id), Candidate("By the river.", OLD.id))
    await store.proposals.put(NewProposal(one.id, pair, 1.0) for one in prompts)
    await store.proposals.set_share(1)
    one = await shown(rounds, people[0])
    assert one.round.drawn == "unsure"
    assert set(one.answers) == {"By the lamp.", "By the river."}
    decision = await store.decisions.begin(candidate_id=NEW.id, baseline_id=OLD.id)
    await store.decisions.change(decision.id, state="canary")
    deciding = await shown(rounds, people[1])
    assert (deciding.round.decision_id, deciding.round.drawn) == (decision.id, "random")
