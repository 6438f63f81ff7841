"""Whose votes teach a candidate, and decide on it."""

from __future__ import annotations

import pytest

from feedback.conftest import Clock
from guildgpt.feedback.exporting.learnable import learnable
from guildgpt.feedback.records import Candidate, Place
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.deciding import look
from guildgpt.feedback.voting.prompts import NewPrompt
from guildgpt.feedback.voting.teaching import EVERYBODY, Teaching, teaching

HERE, THERE = 10, 20
PAIR = [Candidate("Old words.", "old@1"), Candidate("New words.", "new@2")]


def test_guilds_that_are_served_are_those_that_were_not_left() -> None:
    found = teaching("served", {THERE})
    assert [found.counts(id) for id in (HERE, THERE, None)] == [True, False, True]


def test_guilds_that_are_named_are_the_only_ones() -> None:
    found = teaching([THERE], {THERE})
    assert [found.counts(id) for id in (HERE, THERE, None)] == [False, True, True]


@pytest.mark.parametrize("found", [EVERYBODY, teaching("served", {THERE}), teaching([HERE], ())])
def test_a_decision_keeps_what_it_was_begun_with(found: Teaching) -> None:
    assert Teaching.of({"guilds": found.as_settings()}) == found


def test_a_decision_from_before_the_setting_is_everybodys() -> None:
    assert Teaching.of({}) == EVERYBODY


async def held(store: Store, purpose: str, guild: int | None, decision: str | None = None) -> None:
    """A round there, in which six people like the second answer better."""
    asked = {one.round.prompt_id for one in await store.rounds.ballots()}
    pool = await store.prompts.all("accepted")
    prompt = next(one for one in pool if one.purpose == purpose and one.id not in asked)
    place: Place = "discord" if guild else "web"
    made = await store.rounds.open(prompt, PAIR, place, decision_id=decision, guild_id=guild)
    for voter in range(6):
        member = await store.members.of_user(voter)
        await store.votes.cast(made.comparison_id, member.id, "ranked", (1, 0))
    await store.rounds.end(made.id)


async def filled(store: Store) -> None:
    texts = [f"What is lamp number {number}?" for number in range(60)]
    await store.prompts.add(NewPrompt(text, "tests", "CC0-1.0") for text in texts)


async def test_rows_are_of_guilds_that_teach(store: Store, clock: Clock) -> None:
    await filled(store)
    for guild in (HERE, HERE, THERE, None):
        await held(store, "train", guild)
    snapshot = await store.snapshot()
    assert learnable(snapshot)[1].comparisons == 4
    _, taken = learnable(snapshot, teaching([HERE], ()))
    assert taken.comparisons == 3
    assert taken.left_out["vote of a server that does not teach"] == 6


async def test_a_guild_that_was_left_teaches_only_where_it_is_named(
    store: Store, clock: Clock
) -> None:
    await filled(store)
    for guild in (HERE, THERE):
        await held(store, "train", guild)
    await store.places.guild_left(THERE)
    snapshot, left = await store.snapshot(), await store.places.left()
    assert left == {THERE}
    assert learnable(snapshot, teaching("served", left))[1].comparisons == 1
    assert learnable(snapshot, teaching([THERE], left))[1].comparisons == 1
    assert learnable(snapshot, teaching([HERE, THERE], left))[1].comparisons == 2


async def test_only_guilds_that_teach_decide(store: Store, clock: Clock) -> None:
    await filled(store)
    made = await store.decisions.begin(
        state="canary",
        candidate_id="new@2",
        baseline_id="old@1",
        settings={"guilds": teaching([HERE], ()).as_settings()},
    )
    await held(store, "decide", HERE, made.id)
    await held(store, "decide", THERE, made.id)
    assert [one.mean for one in await store.rounds.means(made.id)] == [1.0]
    _, standing = await look(store, made)
    assert standing.rounds == 1
