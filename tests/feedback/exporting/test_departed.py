"""A guild that takes the bot out in the middle of a turn: its rounds end, its votes teach nobody,
and what they have said of a candidate stays."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from guildgpt.feedback.exporting.departed import conversations_left, rounds_left
from guildgpt.feedback.exporting.exports import export
from guildgpt.feedback.exporting.learnable import learnable
from guildgpt.feedback.records import Candidate, Decision, Purpose, Round
from guildgpt.feedback.storage.schema import left_guilds
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.prompts import NewPrompt

STAYS, LEAVES = 7, 8
MEMBERS = range(1, 7)


async def a_round(store: Store, guild: int, number: int, decision: Decision | None = None) -> Round:
    """All but one of six prefer the second answer, the candidate's if there is one."""
    new = (NewPrompt(f"Question {n}?", "tests", "CC0-1.0") for n in range(40))
    await store.prompts.add(new)
    purpose: Purpose = "decide" if decision else "train"
    there = [one for one in await store.prompts.all("accepted") if one.purpose == purpose]
    other = "new@2" if decision else "old@1"
    pair = [Candidate(f"No idea {number}.", "old@1"), Candidate(f"A burrow {number}.", other)]
    held = await store.rounds.open(
        there[number], pair, "discord", guild_id=guild, channel_id=guild * 10,
        decision_id=decision.id if decision else None,
    )  # fmt: skip
    for user in MEMBERS:
        member = await store.members.of_user(guild * 100 + user)
        best = int(user > 1)
        await store.votes.cast(held.comparison_id, member.id, "ranked", (best, 1 - best))
    return held


async def trial(store: Store) -> Decision:
    begun = await store.decisions.begin(candidate_id="new@2", baseline_id="old@1")
    return await store.decisions.change(begun.id, state="canary")


async def test_its_votes_teach_nobody_any_more(store: Store) -> None:
    held = [await a_round(store, guild, n) for n, guild in enumerate((STAYS, LEAVES))]
    for one in held:
        await store.rounds.end(one.id)
    _, taken = learnable(await store.snapshot())
    assert taken.comparisons == 2
    await store.places.guild_left(LEAVES)
    snapshot = await store.snapshot()
    assert rounds_left(snapshot) == {held[1].id}
    assert len(conversations_left(snapshot)) == 1
    exported, taken = learnable(snapshot)
    assert taken.comparisons == 1
    assert taken.left_out["vote in a server that the bot was taken out of"] == len(MEMBERS)
    assert ("comparison", held[1].comparison_id) not in exported.events
    await store.places.guild_joined(LEAVES)  # it is asked back
    assert learnable(await store.snapshot())[1].comparisons == 2


async def test_nor_do_its_ratings(store: Store) -> None:
    for guild in (STAYS, LEAVES):
        place = await store.conversations.start("chain", guild_id=guild, channel_id=guild)
        asked = await store.conversations.add_message(
            conversation_id=place, parent_id=None, role="user", text="What is a wombat?"
        )
        answer = await store.conversations.add_message(
            conversation_id=place, parent_id=asked.id, role="assistant", text="A marsupial."
        )
        await store.ratings.add(answer.id, (await store.members.of_user(guild)).id, 1)
    assert len(export(await store.snapshot(), "kto").rows) == 2
    await store.places.guild_left(LEAVES)
    found = export(await store.snapshot(), "kto")
    assert len(found.rows) == 1
    assert found.left_out["rating in a server that the bot was taken out of"] == 1


async def test_in_the_middle_of_a_decision(store: Store) -> None:
    """The open round closes with the votes that it has. What its rounds said is still looked at,
    and the other guild goes on."""
    decision = await trial(store)
    for number, guild in enumerate((STAYS, LEAVES)):
        await store.rounds.end((await a_round(store, guild, number, decision)).id)
    open_there = await a_round(store, LEAVES, 2, decision)
    empty = await store.rounds.open(
        (await store.prompts.all("accepted"))[9],
        [Candidate("This.", "old@1"), Candidate("That.", "new@2")],
        "discord", guild_id=LEAVES, channel_id=5, decision_id=decision.id,
    )  # fmt: skip
    open_here = await a_round(store, STAYS, 3, decision)
    before = await store.rounds.means(decision.id)
    await store.places.guild_left(LEAVES)
    states = [await store.rounds.by_id(one.id) for one in (open_there, empty, open_here)]
    assert [one and one.state for one in states] == ["closed", "cancelled", "open"]
    means = await store.rounds.means(decision.id)
    assert means[:2] == before
    assert [one.mean for one in means] == [pytest.approx(5 / 6)] * 3
    await store.rounds.end(open_here.id)
    assert len(await store.rounds.means(decision.id)) == 4


async def test_when_its_time_is_over_what_was_looked_at_stays(store: Store) -> None:
    decision = await trial(store)
    await store.rounds.end((await a_round(store, LEAVES, 0, decision)).id)
    before = await store.rounds.means(decision.id)
    await store.places.guild_left(LEAVES)
    [left_at] = [row.left_at for row in await store.database.rows(select(left_guilds))]
    await store.places.delete_left_guilds(left_at)
    [mean] = await store.rounds.means(decision.id)
    assert (mean.mean, mean.voters, mean.people) == (
        before[0].mean,
        before[0].voters,
        before[0].people,
    )
    assert mean.round_id is None
    assert rounds_left(await store.snapshot()) == set()
