"""Which votes make an observation: a round's, or a person's of a day, whatever they say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from guildgpt.feedback.observations import (
    CastVote,
    ClosedRound,
    Place,
    decide_rounds,
    observations_of,
    value_of,
)

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
LATER = START + timedelta(days=365)
FIVE = dict.fromkeys("abcde", 1.0)


def held(votes: dict[str, float], place: Place = "guild", day: int = 0) -> ClosedRound:
    when = START + timedelta(days=day)
    return ClosedRound(place, tuple(CastVote(name, when, value) for name, value in votes.items()))


def test_a_guilds_round_is_one_observation() -> None:
    rounds = [held(FIVE), held({}), held({"a": 0.0, "b": 0.5}), held({"c": 0.0})]
    found = observations_of(rounds, "guild", now=LATER)
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
    found = observations_of(rounds, "guild", now=LATER)
    assert found.values == pytest.approx((5 / 12, 1.0, 0.25))
    assert (found.unit, found.people, found.operator_decides) == ("day", 4, True)


def test_with_the_fifth_voter_the_rounds_count_from_the_first() -> None:
    few = [held({"a": 1.0, "b": 0.0}), held({"c": 1.0, "d": 1.0})]
    assert observations_of(few, "guild", now=LATER).values == (0.75,)
    assert observations_of([*few, held({"e": 0.0})], "guild", now=LATER).values == (0.5, 1.0, 0.0)


def test_at_a_terminal_a_persons_day_is_one_observation() -> None:
    alone = [({"a": 1.0}, 0), ({"a": 0.0}, 0), ({"b": 0.0}, 0), ({"a": 1.0}, 1)]
    rounds = [held(votes, "terminal", day) for votes, day in alone]
    found = observations_of(rounds, "terminal", now=LATER)
    assert found.values == (0.5, 0.0, 1.0)
    assert (found.unit, found.people, found.operator_decides) == ("person_and_day", 2, True)


def test_what_people_say_does_not_settle_what_is_counted() -> None:
    for value in (0.0, 0.5, 1.0):
        rounds = [held(dict.fromkeys("abcd", value)), held({"e": value})]
        assert observations_of(rounds, "guild", now=LATER).unit == "round"
        assert observations_of(rounds[:1], "guild", now=LATER).unit == "day"


def test_guild_and_terminal_are_never_mixed() -> None:
    rounds = [held(FIVE), *(held({name: 0.0}, "terminal") for name in "afghij")]
    guild = observations_of(rounds, "guild", now=LATER)
    terminal = observations_of(rounds, "terminal", now=LATER)
    assert (guild.values, guild.people) == ((1.0,), 5)
    assert (terminal.values, terminal.people) == ((0.0,) * 6, 6)
    assert terminal.operator_decides  # however many sat there, each alone


def test_a_day_counts_when_it_is_over_in_utc() -> None:
    late = datetime(
        2026, 11, 2, 1, tzinfo=timezone(timedelta(hours=2))
    )  # 23:00 in UTC, the day before
    evening = ClosedRound("terminal", (CastVote("a", late, 1.0),))
    rounds = [held({"a": 0.0}, "terminal"), evening, held({"a": 1.0}, "terminal", day=1)]
    midnight = datetime(2026, 11, 2, tzinfo=UTC)
    assert observations_of(rounds, "terminal", now=midnight - timedelta(seconds=1)).values == ()
    assert observations_of(rounds, "terminal", now=midnight).values == (0.5,)
    assert observations_of(rounds, "terminal", now=midnight + timedelta(days=1)).values == (0.5, 1)


def test_the_newest_vote_of_a_person_in_a_round_counts() -> None:
    votes = [CastVote("a", START + timedelta(seconds=s), v) for s, v in ((2, 0.0), (1, 1.0))]
    rest = held(dict.fromkeys("bcde", 1.0)).votes
    found = observations_of([ClosedRound("guild", (*votes, *rest))], "guild", now=LATER)
    assert found.values == (0.8,)


def test_stored_verdicts_are_seen_from_the_candidate() -> None:
    assert value_of("ranked", [1, 0], candidate=1) == 1
    assert value_of("ranked", [1], candidate=0) == 0
    assert value_of("tie", [], candidate=0) == value_of("both_bad", [], candidate=0) == 0.5
    assert value_of("skip", [], candidate=0) is None


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        CastVote("a", datetime(2026, 11, 1), 1.0)
    with pytest.raises(ValueError, match="no time zone"):
        observations_of([], "guild", now=datetime(2026, 11, 1))
    for bad in (0.7, float("nan"), 2.0):
        with pytest.raises(ValueError, match="0, ½ or 1"):
            CastVote("a", START, bad)


def test_only_a_guild_decides_by_itself() -> None:
    rounds = [held(FIVE) for _ in range(7)]
    decided = decide_rounds(rounds, "guild", now=LATER)
    assert (decided.state, decided.operator_decides) == ("preferred", False)
    alone = [held({"a": 1.0}, "terminal", day=day) for day in range(7)]
    assert decide_rounds(alone, "guild", now=LATER).rounds == 0
    advice = decide_rounds(alone, "terminal", now=LATER)
    assert (advice.state, advice.operator_decides) == ("preferred", True)
