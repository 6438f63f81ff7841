"""Which votes make an observation: a round's, or a person's of a day, whatever they say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import pytest

from guildgpt.feedback.records import Ballots, Place, Round, RoundState, Verdict, Vote
from guildgpt.feedback.versions import observations
from guildgpt.feedback.voting import ballots

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
LATER = START + timedelta(days=365)
FIVE = dict.fromkeys("abcde", 1.0)
SAID: dict[float, tuple[Verdict, tuple[int, ...]]] = {
    1.0: ("ranked", (1, 0)),
    0.5: ("tie", ()),
    0.0: ("ranked", (0, 1)),
}

observations_of = partial(observations.observations_of, candidate="new")
decide_rounds = partial(observations.decide_rounds, candidate="new")


def ballot(name: str | None, value: float, when: datetime = START) -> Vote:
    """A vote on a round whose second answer is the candidate's."""
    return Vote(f"{name}'s", "pair", name, *SAID[value], when)


def held(
    votes: dict[str, float],
    place: Place = "discord",
    day: int = 0,
    state: RoundState = "closed",
) -> Ballots:
    when = START + timedelta(days=day)
    round = Round("round", "prompt", "pair", "decision", place, 1, 2, 3, state, when)
    cast = tuple(ballot(name, value, when) for name, value in votes.items())
    return Ballots(round, "decide", ("old", "new"), cast)


def test_a_guilds_round_is_one_observation() -> None:
    rounds = [held(FIVE), held({}), held({"a": 0.0, "b": 0.5}), held({"c": 0.0})]
    found = observations_of(rounds, where="guild", now=LATER)
    assert found.values == (1.0, 0.25, 0.0)
    assert (found.unit, found.people, found.operator_decides) == ("round", 5, False)


def test_where_fewer_than_five_vote_a_day_is_one_observation() -> None:
    """They share its prompts; and who voted twice weighs no more than who voted once."""
    rounds = [
        held({"a": 1.0, "b": 0.0}),
        held({"a": 1.0, "b": 0.0}),
        held({"a": 0.5}),
        held({"a": 1.0}, day=1),
        held({"d": 0.5, "c": 0.0}, day=2),
    ]
    found = observations_of(rounds, where="guild", now=LATER)
    assert found.values == pytest.approx((5 / 12, 1.0, 0.25))
    assert (found.unit, found.people, found.operator_decides) == ("day", 4, True)


def test_with_the_fifth_voter_the_rounds_count_from_the_first() -> None:
    few = [held({"a": 1.0, "b": 0.0}), held({"c": 1.0, "d": 1.0})]
    assert observations_of(few, where="guild", now=LATER).values == (0.75,)
    assert observations_of([*few, held({"e": 0.0})], where="guild", now=LATER).values == (
        0.5,
        1.0,
        0.0,
    )


def test_at_a_terminal_a_persons_day_is_one_observation() -> None:
    alone = [({"a": 1.0}, 0), ({"a": 0.0}, 0), ({"b": 0.0}, 0), ({"a": 1.0}, 1)]
    rounds = [held(votes, "terminal", day) for votes, day in alone]
    found = observations_of(rounds, where="terminal", now=LATER)
    assert found.values == (0.5, 0.0, 1.0)
    assert (found.unit, found.people, found.operator_decides) == ("person_and_day", 2, True)


def test_what_people_say_does_not_settle_what_is_counted() -> None:
    for value in (0.0, 0.5, 1.0):
        rounds = [held(dict.fromkeys("abcd", value)), held({"e": value})]
        assert observations_of(rounds, where="guild", now=LATER).unit == "round"
        assert observations_of(rounds[:1], where="guild", now=LATER).unit == "day"


def test_guild_and_terminal_are_never_mixed() -> None:
    rounds = [held(FIVE), *(held({name: 0.0}, "terminal") for name in "afghij")]
    guild = observations_of(rounds, where="guild", now=LATER)
    terminal = observations_of(rounds, where="terminal", now=LATER)
    assert (guild.values, guild.people) == ((1.0,), 5)
    assert (terminal.values, terminal.people) == ((0.0,) * 6, 6)
    assert terminal.operator_decides  # however many sat there, each alone


def test_a_day_counts_when_it_is_over_in_utc() -> None:
    ahead = timezone(timedelta(hours=2))
    late = ballot("a", 1.0, datetime(2026, 11, 2, 1, tzinfo=ahead))  # 23:00 of the first in UTC
    evening = replace(held({}, "terminal"), votes=(late,))
    rounds = [held({"a": 0.0}, "terminal"), evening, held({"a": 1.0}, "terminal", day=1)]
    midnight = datetime(2026, 11, 2, tzinfo=UTC)
    for now, values in (
        (midnight - timedelta(seconds=1), ()),
        (midnight, (0.5,)),
        (midnight + timedelta(days=1), (0.5, 1.0)),
    ):
        assert observations_of(rounds, where="terminal", now=now).values == values


def test_days_are_in_order_though_a_clock_jumped() -> None:
    rounds = [held({"a": 1.0}, day=3), held({"a": 0.0}, day=1), held({"a": 0.5}, day=500)]
    assert observations_of(rounds, where="guild", now=LATER).values == (0.0, 1.0)


def test_only_closed_rounds_in_which_the_candidate_wrote_one_answer_count() -> None:
    good = held(FIVE)
    others: list[RoundState] = ["posting", "open", "cancelled"]
    rounds = [
        good,
        *(held(FIVE, state=state) for state in others),
        *(replace(good, versions=pair) for pair in (("old", None), ("new", "new"), ())),
    ]
    assert observations_of(rounds, where="guild", now=LATER).values == (1.0,)
    mirrored = replace(good, versions=("new", "old"))
    assert observations_of([mirrored], where="guild", now=LATER).values == (0.0,)


def test_what_a_vote_says_of_the_candidate() -> None:
    vote = ballot("a", 0.5)
    for verdict, ranking, candidate, value in (
        ("ranked", (1, 0), 1, 1.0),
        ("ranked", (1,), 0, 0.0),
        ("tie", (), 0, 0.5),
        ("both_bad", (), 1, 0.5),
        ("skip", (), 0, None),
    ):
        said = replace(vote, verdict=verdict, ranking=ranking)
        assert ballots.value_of(said, candidate) == value


def test_who_skips_is_no_voter() -> None:
    skipped = replace(ballot("e", 0.5), verdict="skip")
    four = held(dict.fromkeys("abcd", 1.0))
    found = observations_of([replace(four, votes=(*four.votes, skipped))], where="guild", now=LATER)
    assert (found.people, found.unit) == (4, "day")
    alone = replace(four, votes=(skipped,))
    assert observations_of([held(FIVE), alone], where="guild", now=LATER).values == (1.0,)


def test_votes_of_nobody_are_one_persons() -> None:
    unnamed = replace(held({}), votes=tuple(ballot(None, 1.0) for _ in range(5)))
    found = observations_of([unnamed], where="guild", now=LATER)
    assert (found.people, found.unit) == (1, "day")


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        observations_of([], where="guild", now=datetime(2026, 11, 1))


def test_only_a_guild_decides_by_itself() -> None:
    rounds = [held(FIVE) for _ in range(7)]
    decided = decide_rounds(rounds, where="guild", now=LATER)
    assert (decided.state, decided.operator_decides) == ("preferred", False)
    alone = [held({"a": 1.0}, "terminal", day=day) for day in range(7)]
    assert decide_rounds(alone, where="guild", now=LATER).rounds == 0
    advice = decide_rounds(alone, where="terminal", now=LATER)
    assert (advice.state, advice.operator_decides) == ("preferred", True)
