"""Who votes by position is found whatever the versions are; and votes like a machine's are seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import Connection, select, update

from feedback.conftest import KEY, Clock
from guildgpt.feedback.exporting.exports import export
from guildgpt.feedback.exporting.learnable import learnable
from guildgpt.feedback.records import Candidate, PoolPrompt, Purpose, Round, RoundMean, Verdict
from guildgpt.feedback.storage.schema import messages
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.deciding import look
from guildgpt.feedback.voting.cast import Cast
from guildgpt.feedback.voting.machines import like_a_machine
from guildgpt.feedback.voting.prompts import NewPrompt
from guildgpt.feedback.voting.seen import Seen
from guildgpt.feedback.voting.standings import standings
from guildgpt.feedback.voting.voters import Electorate, found_at, log_evidence

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
CLICKER, READER, FAN = 1, 2, 3
Choose = Callable[[Sequence[str]], int]


def cast(first: float | None, last: float | None = None, number: int = 0, answers: int = 2) -> Cast:
    """A vote in which the answer shown first won, or not."""
    last = 1 - first if last is None and first is not None else last
    at = START + timedelta(hours=number)
    return Cast(f"comparison {number}", at, at - timedelta(minutes=5), answers, 200, first, last)


def sequence(*first: float | None) -> list[Cast]:
    return [cast(said, number=number) for number, said in enumerate(first)]


# The rule itself


def test_who_always_takes_one_end_is_found_by_their_19th_vote() -> None:
    for end in (0.0, 1.0):
        assert found_at(sequence(*[end] * 18)) is None
        assert found_at(sequence(*[end] * 25)) == cast(1, number=18).at


def test_ties_are_passed_over() -> None:
    assert found_at(sequence(*[1.0, None] * 19)) == cast(1, number=36).at
    assert found_at(sequence(*[None] * 100)) is None


def test_nobody_who_reads_is_found() -> None:
    """Nor who leans to one side as people do; of 2000 none, where two would be as promised."""
    chance = Random(0)
    for share in (0.5, 0.55, 0.45):
        for _ in range(2000):
            votes = sequence(*(float(chance.random() < share) for _ in range(60)))
            assert found_at(votes) is None


def test_the_evidence_is_fair() -> None:
    """At the share that is tolerated its expectation is 1 after every vote: the sum over all
    sequences. Below it is less, and for three answers as for two."""
    for answers, chance in ((2, 0.6), (3, 0.4)):
        for length in (1, 2, 5):
            mean = 0.0
            for bits in range(2**length):
                said = [bits >> place & 1 for place in range(length)]
                ones = [
                    cast(float(one), 0.0 if one else 1.0, n, answers) for n, one in enumerate(said)
                ]
                first = _one_sided(ones)
                mean += first * chance ** sum(said) * (1 - chance) ** (length - sum(said))
            assert mean == pytest.approx(1)


def _one_sided(ones: list[Cast]) -> float:
    """E of the bet on the first answer alone: where the last never wins, its bet is known."""
    import numpy as np

    both = float(np.exp(log_evidence(ones)[-1]))
    swapped = [replace(one, first=one.last, last=one.last) for one in ones]
    last = float(np.exp(log_evidence(swapped)[-1]))
    return 2 * both - last


def test_looked_at_after_every_vote_or_once_it_is_the_same() -> None:
    chance = Random(1)
    votes = sequence(*(float(chance.random() < 0.9) for _ in range(80)))
    whole = found_at(votes)
    assert whole is not None
    by_then = [found_at(votes[:count]) for count in range(1, 81)]
    assert by_then == [whole if cast_.at >= whole else None for cast_ in votes]


# In a store


async def prompts(store: Store, count: int, purpose: Purpose = "train") -> list[PoolPrompt]:
    new = (NewPrompt(f"Question {n}?", "tests", "CC0-1.0") for n in range(4 * count))
    await store.prompts.add(new)
    there = await store.prompts.all("accepted")
    return [one for one in there if one.purpose == purpose][:count]


async def a_round(store: Store, prompt: PoolPrompt, new_first: bool, **more: object) -> Round:
    """Two answers, one of each version, whichever stands first."""
    answers = [
        Candidate(f"Old on {prompt.text}", "old@1"),
        Candidate(f"New: {prompt.text}", "new@2"),
    ]
    if new_first:
        answers.reverse()
    place = {"guild_id": 7, "channel_id": 8, **more}
    return await store.rounds.open(prompt, answers, "discord", **place)  # type: ignore[arg-type]


async def vote(store: Store, round: Round, user: int, best: int) -> None:
    member = await store.members.of_user(user)
    await store.votes.cast(round.comparison_id, member.id, "ranked", (best, 1 - best))


async def play(store: Store, clock: Clock, count: int, seed: int = 0) -> None:
    """One clicks the first, one reads, one always likes the new version best."""
    chance = Random(seed)
    for prompt in await prompts(store, count):
        new_first = chance.random() < 0.5
        held = await a_round(store, prompt, new_first)
        clock.pass_(seconds=chance.randrange(60, 6000))
        await vote(store, held, CLICKER, 0)
        clock.pass_(seconds=chance.randrange(60, 6000))
        await vote(store, held, READER, chance.randrange(2))
        await vote(store, held, FAN, 0 if new_first else 1)
        await store.rounds.end(held.id)
        clock.pass_(days=1)


async def test_one_is_found_and_the_others_are_not(store: Store, clock: Clock) -> None:
    await play(store, clock, 24)
    clicker = (await store.members.of_user(CLICKER)).id
    assert await store.voters.excluded() == {clicker}
    listed = await store.voters.all()
    assert [one.found_at is not None for one in listed] == [True, False, False]
    assert (listed[0].code, listed[0].votes, listed[0].first) == (store.seen.code(clicker), 24, 1.0)
    assert listed[0].last == 0.0
    assert Electorate.of(listed) == Electorate(people=3, by_position=1, like_a_machine=0)
    assert Electorate.of(listed).says == (
        "3 people voted; 1 by position: their votes do not count."
    )


def test_a_code_is_nobodys_name() -> None:
    seen = Seen(KEY)
    assert seen.code("anna") == seen.code("anna") != seen.code("ben")
    assert len(seen.code("anna")) == 8
    assert seen.code("anna") != Seen(b"x" * 32).code("anna")


@pytest.mark.parametrize("seed", range(5))
async def test_whose_answers_they_are_changes_nothing(
    store: Store, clock: Clock, seed: int
) -> None:
    """The versions are dealt anew among all answers; what is found of voters is the same."""
    await play(store, clock, 22, seed)
    before = await store.voters.all()

    def deal(connection: Connection) -> None:
        ids = list(connection.scalars(select(messages.c.id).where(messages.c.role == "assistant")))
        chance = Random(seed)
        for id in ids:
            version = chance.choice(["old@1", "new@2", "third@3", None])
            connection.execute(
                update(messages).where(messages.c.id == id).values(version_id=version)
            )

    await store.database.write(deal)
    assert await store.voters.all() == before
    assert before[0].found_at is not None


async def test_who_changes_their_vote_is_judged_by_the_first(store: Store, clock: Clock) -> None:
    await play(store, clock, 20)
    held = await a_round(store, (await prompts(store, 21))[20], False)
    before = await store.voters.all()
    for best in (0, 1, 0):
        await vote(store, held, READER, best)
        clock.pass_(seconds=1)
    after = await store.voters.all()
    own = store.seen.code((await store.members.of_user(READER)).id)
    [was], [now] = ([one for one in some if one.code == own] for some in (before, after))
    assert now.votes == was.votes + 1


async def test_the_web_page_shows_everybody_an_order_of_their_own(
    store: Store, clock: Clock
) -> None:
    """Who takes what they see first is found, though it is the second answer of the round as often;
    who takes the first of the round every time is not."""
    anna, ben = [(await store.members.of_user(user)).id for user in (4, 5)]
    for prompt in await prompts(store, 22):
        answers = [Candidate("This.", "old@1"), Candidate("That.", "old@1")]
        closes = clock() + timedelta(days=1)
        held = await store.rounds.open(prompt, answers, "web", closes_at=closes)
        order = store.seen.order(held.comparison_id, anna, 2)
        await store.votes.cast(held.comparison_id, anna, "ranked", order)
        await store.votes.cast(held.comparison_id, ben, "ranked", (0, 1))
        await store.rounds.end(held.id)
        clock.pass_(hours=1)
    assert await store.voters.excluded() == {anna}


# What follows


async def test_they_teach_nobody_and_move_no_version(store: Store, clock: Clock) -> None:
    await play(store, clock, 24)
    snapshot = await store.snapshot()
    found = export(snapshot, "arena")
    assert found.left_out["vote of somebody who votes by position"] == 24
    assert len(found.rows) == 48
    _, taken = learnable(snapshot)
    assert taken.left_out["vote of somebody who votes by position"] == 24
    stands = await standings(store)
    assert stands["new@2"].votes == 48


async def trial(store: Store) -> str:
    begun = await store.decisions.begin(candidate_id="new@2", baseline_id="old@1")
    await store.decisions.change(begun.id, state="canary")
    return begun.id


async def decide(store: Store, clock: Clock, decision: str, count: int) -> list[RoundMean]:
    """Rounds in which the clicker meets six who all prefer the new one."""
    chance = Random(3)
    for prompt in await prompts(store, count):
        new_first = chance.random() < 0.5
        held = await a_round(store, prompt, new_first, decision_id=decision)
        await vote(store, held, CLICKER, 0)
        for user in range(10, 16):
            await vote(store, held, user, 0 if new_first else 1)
        clock.pass_(hours=3)
        await store.rounds.end(held.id)
    return await store.rounds.means(decision)


async def test_rounds_hear_them_until_they_are_found(store: Store, clock: Clock) -> None:
    """Their 19th vote finds them: it is heard in its own round, and none is after it. What was
    noted stays."""
    decision = await trial(store)
    means = await decide(store, clock, decision, 24)
    assert [one.excluded for one in means] == [0] * 19 + [1] * 5
    assert [one.voters for one in means] == [7] * 19 + [6] * 5
    assert {one.mean for one in means[:19]} == {1.0, 6 / 7}
    assert {one.mean for one in means[19:]} == {1.0}
    assert means[-1].people == 7  # by whom it was settled that rounds decide


async def test_who_was_found_before_counts_as_nobody(store: Store, clock: Clock) -> None:
    await play(store, clock, 24)
    decision = await trial(store)
    for prompt in await prompts(store, 6):
        held = await a_round(store, prompt, False, decision_id=decision)
        for user in (CLICKER, READER, FAN, 20, 21):
            await vote(store, held, user, 0)
        await store.rounds.end(held.id)
    means = await store.rounds.means(decision)
    assert {(one.voters, one.people, one.excluded) for one in means} == {(4, 4, 1)}
    at = clock() + timedelta(days=2)
    _, standing = await look(store, await store.decisions.by_id(decision), now=at)  # type: ignore[arg-type]
    assert standing.operator_decides  # four people are no five


async def test_votes_of_a_round_do_not_settle_who_is_heard_in_it(
    store: Store, clock: Clock
) -> None:
    """Many rounds of a decision are open at once and close together: whoever is found by them is
    heard in the first ones, as if they had been held one after the other."""
    decision = await trial(store)
    chance, opened = Random(5), []
    for prompt in await prompts(store, 24):
        new_first = chance.random() < 0.5
        opened.append(await a_round(store, prompt, new_first, decision_id=decision))
        await vote(store, opened[-1], CLICKER, 0)
        await vote(store, opened[-1], FAN, 0 if new_first else 1)
        clock.pass_(hours=1)
    assert await store.voters.excluded()
    for held in opened:
        await store.rounds.end(held.id)
    means = await store.rounds.means(decision)
    assert [one.excluded for one in means] == [0] * 19 + [1] * 5


async def test_an_erasure_blanks_only_what_they_alone_said(store: Store, clock: Clock) -> None:
    """In the rounds after they were found the clicker was not heard: who was heard alone is another
    one, and their verdict stays until they go."""
    decision = await trial(store)
    chance = Random(5)
    for prompt in await prompts(store, 22):
        new_first = chance.random() < 0.5
        held = await a_round(store, prompt, new_first, decision_id=decision)
        await vote(store, held, CLICKER, 0)
        await vote(store, held, FAN, 0 if new_first else 1)
        clock.pass_(hours=1)
        await store.rounds.end(held.id)
    before = await store.rounds.means(decision)
    assert [one.mean for one in before[19:]] == [1.0] * 3
    await store.privacy.erase(CLICKER)
    assert [one.mean for one in await store.rounds.means(decision)] == [one.mean for one in before]
    await store.privacy.erase(FAN)
    assert [one.mean for one in await store.rounds.means(decision)][19:] == [0.5] * 3


async def test_members_read_that_their_votes_do_not_count(store: Store, clock: Clock) -> None:
    await play(store, clock, 24)
    kept = await store.privacy.kept_of(CLICKER)
    assert kept
    [found] = [one for one in await store.voters.all() if one.found_at]
    assert found.found_at
    assert kept["voter"] == {
        "code": found.code,
        "by_position_since": found.found_at.isoformat(),
    }
    other = await store.privacy.kept_of(READER)
    assert other
    assert other["voter"]["by_position_since"] is None


# Like a machine


def paced(waits: Sequence[float], verdict: Verdict = "ranked", characters: int = 600) -> list[Cast]:
    """Votes on answers that are posed an hour apart, each so many seconds later."""
    made = []
    for number, wait in enumerate(waits):
        posed = START + timedelta(hours=number)
        at = posed + timedelta(seconds=wait)
        made.append(Cast(str(number), at, posed, 2, characters, 1.0 if verdict else None, 0.0))
    return made


def human(count: int) -> list[float]:
    chance = Random(2)
    return [chance.lognormvariate(4, 0.8) + 8 for _ in range(count)]


def test_people_are_no_machines() -> None:
    assert like_a_machine(paced(human(60))) == ()
    assert like_a_machine(paced([2.0] * 19)) == ()  # too few to say anything


def test_what_is_faster_than_reading() -> None:
    chance = Random(4)
    fast = paced([chance.uniform(1, 5) for _ in range(30)])
    assert [flag for flag in like_a_machine(fast) if "faster than people read" in flag]
    short = paced([chance.uniform(2, 30) for _ in range(30)], characters=40)
    assert like_a_machine(short) == ()


def test_many_within_seconds() -> None:
    """They were posed long ago; between one vote and the next there is no time to read."""
    quick = [
        replace(one, at=START + timedelta(days=9, seconds=n))
        for n, one in enumerate(paced(human(30)))
    ]
    flags = like_a_machine(quick)
    assert "10 votes within 15 seconds" in flags
    assert "votes at regular intervals" in flags


def test_the_same_wait_each_time() -> None:
    chance = Random(6)
    waits = [45 + chance.uniform(-0.5, 0.5) for _ in range(40)]
    assert like_a_machine(paced(waits)) == ("the same wait before each vote",)
