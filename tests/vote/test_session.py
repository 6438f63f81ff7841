"""A session's rounds as the store has them: nothing that was said is lost, nothing else is kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from guildgpt.errors import EngineDied, GuildError, RoundClosed
from guildgpt.feedback.exporting.exports import export
from guildgpt.feedback.records import Ballots, Candidate, Decision
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.proposals import NewProposal
from guildgpt.talk.asked_prompts import ENGINE_TRIES, NoPrompt
from guildgpt.talk.fleet import Fleet
from guildgpt.vote.session import Played, Session

from .conftest import KEY, NEW, OLD, Teller, begin


async def shown(session: Session) -> Played:
    played = await session.next()
    assert played is not None
    return played


async def ballots(store: Store, *states: str) -> list[Ballots]:
    return await store.rounds.ballots(states=states or ("closed",))  # type: ignore[arg-type]


async def test_a_verdict_is_kept_at_once_and_its_round_closed_at_the_next(
    store: Store, fleet: Fleet
) -> None:
    session = await begin(store, fleet)
    first = await shown(session)
    await session.say(first, "ranked", (1, 0))
    assert await ballots(store) == []
    (kept,) = await ballots(store, "open")
    assert [(vote.verdict, vote.ranking) for vote in kept.votes] == [("ranked", (1, 0))]
    assert kept.round.place == "terminal"
    assert kept.purpose == "train"
    assert set(kept.versions) == {OLD.id, NEW.id}
    assert kept.versions == tuple(answer.version_id for answer in first.answers)

    second = await shown(session)
    await session.say(second, "tie")
    assert [one.round.id for one in await ballots(store)] == [first.round.id]
    await session.end()
    assert [one.votes[0].verdict for one in await ballots(store)] == ["ranked", "tie"]
    assert second.prompt != first.prompt


async def test_a_round_without_a_verdict_is_cancelled(store: Store, fleet: Fleet) -> None:
    session = await begin(store, fleet)
    await session.say(await shown(session), "skip")
    await shown(session)
    await session.end()
    assert [one.votes[0].verdict for one in await ballots(store)] == ["skip"]
    (left,) = await ballots(store, "cancelled")
    assert left.votes == ()
    assert await ballots(store, "open") == []


async def test_the_next_pair_is_written_while_one_is_read(
    store: Store, fleet: Fleet, engines: dict[str, Teller]
) -> None:
    session = await begin(store, fleet)
    await shown(session)
    session.write_ahead()
    while [engine.answers for engine in engines.values()] != [2, 2]:
        await asyncio.sleep(0)
    await session.end()


async def test_a_verdict_can_be_taken_back_until_the_next_one(store: Store, fleet: Fleet) -> None:
    session = await begin(store, fleet)
    first = await shown(session)
    assert session.last is None
    await session.say(first, "ranked", (0, 1))
    second = await shown(session)
    assert session.last is first
    await session.say(first, "both_bad")
    await session.say(second, "ranked", (0, 1))
    assert session.last is second
    with pytest.raises(RoundClosed):
        await session.say(first, "tie")
    await session.end()
    assert [one.votes[0].verdict for one in await ballots(store)] == ["both_bad", "ranked"]
    assert [one.verdict for one in session.played] == ["both_bad", "ranked"]


async def test_an_answer_is_written_better(store: Store, fleet: Fleet) -> None:
    session = await begin(store, fleet)
    played = await shown(session)
    await session.correct(played, 1, "  In my words.\n\nTwice. ")
    await session.end()
    (kept,) = await ballots(store)
    assert kept.votes[0].ranking == (1, 0)
    (correction,) = (await store.snapshot()).corrections
    comparison = await store.votes.comparison(played.round.comparison_id)
    assert comparison is not None
    assert correction.message_id == comparison.candidates[1]
    assert correction.text == "In my words.\n\nTwice."
    assert correction.member_id == session.member_id


async def test_another_verdict_takes_back_what_was_written_better(
    store: Store, fleet: Fleet
) -> None:
    session = await begin(store, fleet)
    played = await shown(session)
    await session.correct(played, 1, "In my words.")
    await session.say(played, "both_bad")
    assert not played.corrected
    other = await shown(session)
    await session.correct(other, 1, "Of the second.")
    await session.correct(other, 0, "Of the first.")
    await session.end()
    exported = export(await store.snapshot(), "preference")
    chosen = [row["chosen"][0]["content"] for row in exported.rows]
    assert "In my words." not in chosen
    assert "Of the second." not in chosen
    assert "Of the first." in chosen


async def test_a_canarys_rounds_help_its_decision(
    store: Store, fleet: Fleet, canary: Decision
) -> None:
    session = await begin(store, fleet, decision=canary)
    for _ in range(3):
        await session.say(await shown(session), "ranked", (0, 1))
    await session.end()
    kept = await store.rounds.ballots(decision_id=canary.id)
    assert len(kept) == 3
    assert {one.purpose for one in kept} == {"decide"}
    assert all(set(one.versions) == {OLD.id, NEW.id} for one in kept)


async def test_no_round_is_begun_once_the_decision_has_fallen(
    store: Store, fleet: Fleet, canary: Decision
) -> None:
    session = await begin(store, fleet, decision=canary)
    await session.say(await shown(session), "tie")
    await store.decisions.change(canary.id, state="preferred")
    assert await session.next() is None
    await session.end()
    assert len(await ballots(store)) == 1
    assert await ballots(store, "open", "cancelled") == []


async def test_what_a_killed_session_left_is_settled(
    store: Store, fleet: Fleet, tmp_path: Path
) -> None:
    killed, other = await begin(store, fleet), await begin(store, fleet, voter="bob")
    await killed.say(await shown(killed), "tie")
    await shown(killed)
    await other.say(await shown(other), "tie")
    again = await begin(store, fleet)
    await again.settle()
    closed = [one.votes[0].member_id for one in await ballots(store)]
    assert closed == [killed.member_id]
    assert len(await ballots(store, "open")) == 2  # others may be at it still
    await other.end()
    assert [one.votes[0].member_id for one in await ballots(store)] == [
        killed.member_id,
        other.member_id,
    ]


async def test_what_was_left_long_ago_is_settled_by_anybody(tmp_path: Path, fleet: Fleet) -> None:
    def back_then() -> datetime:
        return datetime.now(UTC) - timedelta(hours=2)

    url = f"sqlite:///{tmp_path / 'old.db'}"
    async with await Store.open(url, key=KEY, clock=back_then) as store:
        from guildgpt.feedback.voting.pool import starter_pool

        await store.prompts.add(starter_pool())
        for one in (OLD, NEW):
            await store.versions.register(one)
        left = await begin(store, fleet)
        await left.say(await shown(left), "tie")
        unvoted = await shown(left)
        await (await begin(store, fleet, voter="bob")).settle()
        assert await ballots(store, "open") == []
        assert len(await ballots(store)) == 1
        (cancelled,) = await ballots(store, "cancelled")
        assert cancelled.round.id == unvoted.round.id

        # Whoever comes back after all is asked anew, and is heard once.
        await left.say(unvoted, "ranked", (1, 0))
        await left.end()
        assert [one.votes[0].verdict for one in await ballots(store)] == ["tie", "ranked"]


async def test_two_answers_that_are_the_same_are_no_round(
    store: Store, fleet: Fleet, engines: dict[str, Teller]
) -> None:
    for engine in engines.values():
        engine.fixed = "Yes."
    session = await begin(store, fleet)
    with pytest.raises(GuildError, match="the same to 8 prompts"):
        await session.next()
    await session.end()
    assert await ballots(store, "open", "closed", "cancelled") == []


async def test_an_engine_that_dies_costs_a_prompt_and_no_more(
    store: Store, fleet: Fleet, engines: dict[str, Teller]
) -> None:
    session = await begin(store, fleet)
    first = await shown(session)
    engines[NEW.id].deaths = 2  # the fleet asks once more
    session.write_ahead()
    await session.say(first, "tie")
    await session.say(await shown(session), "tie")
    assert [str(error) for error in session.troubles] == ["b-new died"]

    engines[OLD.id].deaths = 2 * ENGINE_TRIES
    with pytest.raises(EngineDied):
        await session.next()
    await session.end()
    assert len(await ballots(store)) == 2


async def test_without_a_prompt_it_says_how_to_get_some(
    store: Store, fleet: Fleet, canary: Decision
) -> None:
    for prompt in await store.prompts.all():
        if prompt.purpose == "decide":
            await store.prompts.judge(prompt.id, "refused")
    with pytest.raises(NoPrompt, match="no prompt that decides") as raised:
        await (await begin(store, fleet, decision=canary)).next()
    assert "prompts add oasst1" in str(raised.value.remedy)
    assert await (await begin(store, fleet)).next() is not None


async def test_who_serves_is_asked_what_is_unsure_and_a_decision_never(
    store: Store, fleet: Fleet
) -> None:
    await store.releases.add({OLD.id: 1.0}, "serve")
    prompts = [one for one in await store.prompts.all() if one.purpose == "train"][:2]
    pair = (Candidate("By the lamp.", OLD.id), Candidate("By the river.", OLD.id))
    await store.proposals.put(NewProposal(one.id, pair, 1.0) for one in prompts)
    await store.proposals.set_share(1)

    session = await begin(store, fleet)  # the old one meets the new one: nothing is proposed
    assert (await shown(session)).round.drawn == "random"
    await session.end()
    session = replace(session, versions=(OLD.id, OLD.id))
    first = await shown(session)
    assert (first.round.drawn, first.answers) == ("unsure", pair)
    await session.say(first, "ranked", (0, 1))
    await session.end()

    decision = await store.decisions.begin(candidate_id=NEW.id, baseline_id=OLD.id)
    decision = await store.decisions.change(decision.id, state="canary")
    session = await begin(store, fleet, decision=decision)
    assert (await shown(session)).round.drawn == "random"
    await session.end()
    assert len(await store.proposals.waiting()) == 1
