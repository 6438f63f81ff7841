"""The prompt pool, and rounds that ask its prompts."""

from __future__ import annotations

from random import Random

import pytest

from feedback.conftest import Clock
from guildgpt.errors import RecordGone, RoundClosed
from guildgpt.feedback.exporting.exports import export
from guildgpt.feedback.records import Candidate, PoolPrompt, Round
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.prompts import NewPrompt, purpose_of, sha256_of

ANNA, BOB = 111_111_111_111_111_111, 222_222_222_222_222_222


def texts(purpose: str, count: int) -> list[str]:
    """Prompts for a purpose."""
    found = (f"Explain wombats, part {number}." for number in range(200))
    return [text for text in found if purpose_of(sha256_of(text)) == purpose][:count]


async def pool(store: Store, purpose: str = "train", count: int = 1) -> list[PoolPrompt]:
    new = [NewPrompt(text, "tests", "CC0-1.0") for text in texts(purpose, count)]
    await store.prompts.add(new)
    return await store.prompts.all("accepted")


async def a_round(store: Store, prompt: PoolPrompt, decision: str | None = None) -> Round:
    answers = [Candidate("They dig.", "old@1", {"seed": 1}, "eos"), Candidate("They run.", "new@2")]
    return await store.rounds.open(
        prompt, answers, "discord", guild_id=7, channel_id=8, decision_id=decision
    )


async def vote(store: Store, round: Round, user: int, best: int) -> None:
    member = await store.members.of_user(user)
    await store.votes.cast(round.comparison_id, member.id, "ranked", (best, 1 - best))


async def test_the_pool_takes_a_prompt_once(store: Store) -> None:
    new = [
        NewPrompt(text, "tests", "CC0-1.0", "Somebody")
        for text in ("What is a wombat?", "what is  a WOMBAT? ", "And a quokka? <@123>")
    ]
    added = await store.prompts.add(new)
    assert added.pop("already_there") == 1
    assert sum(added.values()) == 2
    assert await store.prompts.add(new) == {"already_there": 3}
    first, second = await store.prompts.all()
    assert (first.text, first.credit, first.state) == ("What is a wombat?", "Somebody", "accepted")
    assert second.text == "And a quokka? @someone"


def test_half_of_all_prompts_decide() -> None:
    deciding = sum(purpose_of(sha256_of(f"prompt {n}")) == "decide" for n in range(1000))
    assert 440 < deciding < 560
    assert purpose_of(sha256_of("What is TLS?")) == purpose_of(sha256_of(" what IS tls? "))


async def test_a_submitted_prompt_waits_for_the_operator(store: Store) -> None:
    anna = await store.members.of_user(ANNA)
    [text] = texts("train", 1)
    offered = await store.prompts.submit(anna.id, NewPrompt(text, "member", "CC0-1.0"))
    assert offered is not None
    assert await store.prompts.submit(anna.id, NewPrompt(text, "member", "CC0-1.0")) is None
    assert await store.prompts.next("train", Random(0)) is None
    assert (await store.prompts.judge(offered.id, "accepted")).decided_at
    assert (await store.prompts.next("train", Random(0))) is not None
    with pytest.raises(RecordGone):
        await store.prompts.judge("nobody", "accepted")


async def test_prompts_are_asked_in_turn(store: Store) -> None:
    await pool(store, count=3)
    asked = []
    for _ in range(6):
        prompt = await store.prompts.next("train", Random(4))
        assert prompt is not None
        asked.append(prompt.id)
        await a_round(store, prompt)
    assert len(set(asked[:3])) == len(set(asked[3:])) == 3
    assert await store.prompts.next("decide", Random(4)) is None
    rest = await store.prompts.next("train", Random(4), without=asked[1:3])
    assert rest is not None
    assert rest.id == asked[0]
    assert await store.prompts.next("train", Random(4), without=asked) is None


async def test_votes_change_until_the_round_is_closed(store: Store, clock: Clock) -> None:
    [prompt] = await pool(store)
    round = await a_round(store, prompt)
    await vote(store, round, ANNA, 0)
    await vote(store, round, ANNA, 1)
    await vote(store, round, BOB, 1)
    assert await store.rounds.ballots() == []
    clock.pass_(days=-3)  # a clock that is set back
    assert await store.rounds.end(round.id)
    assert not await store.rounds.end(round.id)
    with pytest.raises(RoundClosed, match="closed"):
        await vote(store, round, BOB, 0)
    [ballots] = await store.rounds.ballots()
    assert ballots.versions == ("old@1", "new@2")
    assert [vote.ranking for vote in ballots.votes] == [(1, 0), (1, 0)]
    assert ballots.purpose == "train"


async def test_a_round_is_open_once_its_message_is_there(store: Store) -> None:
    [prompt] = await pool(store)
    answers = [Candidate("Yes.", "a@1"), Candidate("No.", "a@1")]
    made = await store.rounds.open(prompt, answers, "discord", channel_id=8, state="posting")
    assert [one.id for one in await store.rounds.in_state("posting")] == [made.id]
    await store.rounds.posted(made.id, 77)
    found = await store.rounds.last_in(8)
    assert found is not None
    assert (found.state, found.discord_id) == ("open", 77)


async def test_what_is_learned_from_rounds(store: Store) -> None:
    """Closed rounds on prompts for training, and no others."""
    await pool(store, "train", 3)
    await pool(store, "decide", 1)
    prompts = await store.prompts.all("accepted")
    rounds = {prompt.id: await a_round(store, prompt) for prompt in prompts}
    for round in rounds.values():
        await vote(store, round, ANNA, 1)
    training = [prompt for prompt in prompts if prompt.purpose == "train"]
    deciding = [prompt for prompt in prompts if prompt.purpose == "decide"]
    await store.rounds.end(rounds[training[0].id].id)
    await store.rounds.end(rounds[training[1].id].id, "cancelled")
    await store.rounds.end(rounds[deciding[0].id].id)
    exported = export(await store.snapshot(), "preference")
    [row] = exported.rows
    assert row["prompt"] == [{"role": "user", "content": training[0].text}]
    assert row["chosen"] == [{"role": "assistant", "content": "They run."}]
    assert exported.left_out["vote of a round that is still open"] == 1
    assert exported.left_out["vote of a round that is cancelled"] == 1
    assert exported.left_out["prompt that is kept for decisions"] >= 1


async def test_the_same_words_asked_by_a_member_are_kept_for_decisions_too(store: Store) -> None:
    [prompt] = await pool(store, "decide")
    conversation = await store.conversations.start("terminal")
    said = await store.conversations.add_message(
        conversation_id=conversation, parent_id=None, role="user", text=prompt.text.upper()
    )
    answer = await store.conversations.add_message(
        conversation_id=conversation, parent_id=said.id, role="assistant", text="Deep."
    )
    anna = await store.members.of_user(ANNA)
    await store.ratings.add(answer.id, anna.id, 1)
    assert export(await store.snapshot(), "kto").rows == []


async def test_corrections_are_better_than_what_they_correct(store: Store) -> None:
    [prompt] = await pool(store)
    round = await a_round(store, prompt)
    comparison = await store.votes.comparison(round.comparison_id)
    assert comparison is not None
    bob = await store.members.of_user(BOB)
    await store.corrections.add(comparison.candidates[0], bob.id, "They dig holes.")
    newest = await store.corrections.add(comparison.candidates[0], bob.id, " They dig burrows. ")
    exported = export(await store.snapshot(), "preference")
    [row] = exported.rows
    assert row["chosen"] == [{"role": "assistant", "content": "They dig burrows."}]
    assert row["rejected"] == [{"role": "assistant", "content": "They dig."}]
    assert ("correction", newest.id) in exported.events
    await store.corrections.take_back(comparison.candidates[0], bob.id)
    assert export(await store.snapshot(), "preference").rows == []
    await store.corrections.add(comparison.candidates[0], bob.id, "They dig tunnels.")
    assert len(export(await store.snapshot(), "preference").rows) == 1
    await store.members.set_consent(bob.id, "none")
    assert export(await store.snapshot(), "preference").rows == []


async def test_erasing_who_submitted_a_prompt(store: Store) -> None:
    """Their prompt goes with the rounds that asked it, and everybody's votes on them."""
    anna = await store.members.of_user(ANNA)
    [text] = texts("train", 1)
    offered = await store.prompts.submit(anna.id, NewPrompt(text, "member", "CC0-1.0"))
    assert offered is not None
    prompt = await store.prompts.judge(offered.id, "accepted")
    round = await a_round(store, prompt)
    await vote(store, round, BOB, 0)
    await store.rounds.end(round.id)
    assert export(await store.snapshot(), "preference").rows  # the form's own consent
    kept = await store.privacy.kept_of(ANNA)
    assert kept is not None
    assert [one["text"] for one in kept["prompts"]] == [text]
    erasure = await store.privacy.erase(ANNA)
    assert erasure.counts["prompts"] == 1
    assert erasure.counts["rounds"] == 1
    assert erasure.counts["votes"] == 1
    assert await store.prompts.all() == []
    assert "wombats" not in repr(await store.snapshot())


async def test_erasing_a_voter_changes_what_a_round_says(store: Store) -> None:
    [prompt] = await pool(store)
    round = await a_round(store, prompt)
    await vote(store, round, ANNA, 0)
    await vote(store, round, BOB, 1)
    await store.rounds.end(round.id)
    await store.privacy.erase(ANNA)
    [ballots] = await store.rounds.ballots()
    assert [vote.ranking for vote in ballots.votes] == [(1, 0)]


async def test_who_votes_at_a_terminal_has_an_account(store: Store) -> None:
    member = await store.members.of_account("terminal", "anna")
    assert await store.members.of_account("terminal", "anna") == member
    assert await store.members.of_account("web", "anna") != member
    [prompt] = await pool(store)
    round = await a_round(store, prompt)
    await store.votes.cast(round.comparison_id, member.id, "tie")
    erasure = await store.privacy.erase_account("terminal", "anna")
    assert erasure.counts == {"votes": 1, "accounts": 1, "members": 1}
    assert await store.members.by_id(member.id) is None


async def test_a_round_that_is_being_closed_takes_no_vote_and_does_not_count_yet(
    store: Store, clock: Clock
) -> None:
    [prompt] = await pool(store)
    round = await a_round(store, prompt)
    await vote(store, round, ANNA, 0)
    assert await store.rounds.end(round.id, "closing")
    ended_at = clock.now
    assert not await store.rounds.end(round.id, "closing")
    with pytest.raises(RoundClosed):
        await vote(store, round, BOB, 1)
    assert await store.rounds.ballots() == []
    clock.pass_(hours=1)
    assert await store.rounds.end(round.id)
    [ballots] = await store.rounds.ballots()
    assert len(ballots.votes) == 1
    assert ballots.round.closed_at == ended_at
    assert not await store.rounds.end(round.id)


async def test_a_deleted_channel_ends_its_rounds_and_keeps_their_votes(store: Store) -> None:
    prompts = await pool(store, count=2)
    voted, silent = [await a_round(store, prompt) for prompt in prompts]
    await vote(store, voted, ANNA, 0)
    await store.places.delete_channels([8])
    found = {one.id: one for one in await store.rounds.in_state("closed", "cancelled")}
    assert found[voted.id].state == "closed"
    assert found[silent.id].state == "cancelled"
    assert found[voted.id].channel_id is None
    assert found[voted.id].closed_at is not None
    [ballots] = await store.rounds.ballots()
    assert len(ballots.votes) == 1
    assert await store.places.channels_of(7) == {}


async def test_a_guild_that_was_left_has_no_open_round(store: Store) -> None:
    prompts = await pool(store, count=2)
    voted, elsewhere = [await a_round(store, prompt) for prompt in prompts]
    await vote(store, voted, ANNA, 0)
    await store.places.guild_left(7)
    assert await store.rounds.in_state("open") == []
    [ballots] = await store.rounds.ballots()
    assert ballots.round.id == voted.id
    assert await store.rounds.end(elsewhere.id) is False
