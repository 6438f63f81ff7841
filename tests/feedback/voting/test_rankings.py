"""Orders made of votes are held against their definitions, by brute force where they have one."""

from __future__ import annotations

from itertools import combinations, pairwise, permutations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from feedback.guild import Guild
from guildgpt.feedback.records import StoredComparison
from guildgpt.feedback.voting.rankings import (
    Ballot,
    agreement,
    ballot,
    common,
    latest,
    lock,
    margins,
    position_bias,
    ranked_pairs,
    wilson,
    win_rates,
)

ANSWERS = "abcde"


def order(text: str) -> Ballot:
    """`a>bc` is a ballot with a best and b and c equal."""
    return tuple(frozenset(tier) for tier in text.split(">"))


@st.composite
def ballots(draw: st.DrawFn, answers: str = "abcd") -> list[Ballot]:
    """Ballots over the same answers."""
    found = []
    for _ in range(draw(st.integers(1, 7))):
        places = draw(st.permutations(answers))
        cuts = [draw(st.booleans()) for _ in places[1:]]
        tiers = [[places[0]]]
        for answer, cut in zip(places[1:], cuts, strict=True):
            if cut:
                tiers.append([answer])
            else:
                tiers[-1].append(answer)
        found.append(tuple(frozenset(tier) for tier in tiers))
    return found


def flat(places: list[list[str]]) -> list[str]:
    return [answer for place in places for answer in place]


def test_one_ballot_is_its_own_order() -> None:
    assert ranked_pairs([order("c>a>b")]) == [["c"], ["a"], ["b"]]
    assert ranked_pairs([order("c>ab")]) == [["c"], ["a", "b"]]
    assert ranked_pairs([order("abc")]) == [["a", "b", "c"]]
    assert ranked_pairs([]) == []


def test_the_weakest_pair_of_a_circle_gives_way() -> None:
    votes = [order("a>b>c")] * 4 + [order("b>c>a")] * 3 + [order("c>a>b")] * 2
    # a over b by 3, b over c by 5, c over a by 1.
    assert ranked_pairs(votes) == [["a"], ["b"], ["c"]]


def test_tidemans_order_of_tennessees_towns() -> None:
    """The example with which voting rules are usually explained."""
    votes = (
        [order("m>n>c>k")] * 42
        + [order("n>c>k>m")] * 26
        + [order("c>k>n>m")] * 15
        + [order("k>c>n>m")] * 17
    )
    assert flat(ranked_pairs(votes)) == list("nckm")


def test_only_what_all_rankers_saw_is_ordered() -> None:
    assert common([order("a>b>c"), order("c>b>d")]) == {"b", "c"}
    assert ranked_pairs([order("a>b>c"), order("b>c"), order("c>b>d")]) == [["b"], ["c"]]
    assert ranked_pairs([order("a>b"), order("c>d")]) == []


def test_scores_decide_where_the_votes_are_equal() -> None:
    tied = [order("a>b"), order("b>a")]
    assert ranked_pairs(tied) == [["a", "b"]]
    assert ranked_pairs(tied, {"b": 1}) == [["b"], ["a"]]
    assert ranked_pairs([*tied, order("a>b")], {"b": 9}) == [["a"], ["b"]]


def test_answers_are_equal_only_if_none_of_them_beats_another() -> None:
    """c ties with a and with b, but a beats b: the three cannot share one place."""
    votes = [order("a>b>c"), order("c>a>b")]
    assert margins(votes) == {("a", "b"): 2}
    places = ranked_pairs(votes)
    assert places == [["a"], ["b", "c"]]


@given(ballots())
def test_who_beats_every_other_comes_first_and_alone(votes: list[Ballot]) -> None:
    leads = margins(votes)
    for one in "abcd":
        if all((one, other) in leads for other in "abcd" if other != one):
            assert ranked_pairs(votes)[0] == [one]
        if all((other, one) in leads for other in "abcd" if other != one):
            assert ranked_pairs(votes)[-1] == [one]


@given(ballots())
def test_who_more_than_half_put_first_comes_first(votes: list[Ballot]) -> None:
    for one in "abcd":
        if 2 * sum(tiers[0] == {one} for tiers in votes) > len(votes):
            assert ranked_pairs(votes)[0] == [one]


@given(ballots(), st.randoms(use_true_random=False))
def test_the_order_of_the_ballots_does_not_matter(votes: list[Ballot], chance) -> None:
    shuffled = list(votes)
    chance.shuffle(shuffled)
    assert ranked_pairs(shuffled) == ranked_pairs(votes)


@given(ballots(), st.permutations("abcd"))
def test_names_do_not_matter(votes: list[Ballot], names: list[str]) -> None:
    """With scores that leave nothing to the names, renaming answers renames the result."""
    scores = {answer: score for score, answer in enumerate("abcd")}
    name = dict(zip("abcd", names, strict=True))
    renamed = [tuple(frozenset(name[a] for a in tier) for tier in tiers) for tiers in votes]
    expected = [[name[a] for a in place] for place in ranked_pairs(votes, scores)]
    assert ranked_pairs(renamed, {name[a]: score for a, score in scores.items()}) == expected


@given(st.lists(st.permutations("abcd"), min_size=6, max_size=6))
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_the_order_is_the_only_stack(orders: list[list[str]]) -> None:
    """Zavist and Tideman: with all margins distinct it is the one order in which every answer
    holds its place above another along pairs no weaker than the lead against it."""
    votes = [
        tuple(frozenset(answer) for answer in places)
        for places, count in zip(orders, (1, 2, 4, 8, 16, 32), strict=True)
        for _ in range(count)
    ]
    leads = margins(votes)
    assume(len(set(leads.values())) == 6)
    stacks = [list(one) for one in permutations("abcd") if is_stack(one, leads)]
    assert stacks == [flat(ranked_pairs(votes))]


def is_stack(ranking: tuple[str, ...], leads: dict[tuple[str, str], int]) -> bool:
    return all(
        strongest_path(ranking[i : j + 1], leads) >= leads.get((ranking[j], ranking[i]), 0)
        for i, j in combinations(range(len(ranking)), 2)
    )


def strongest_path(between: tuple[str, ...], leads: dict[tuple[str, str], int]) -> float:
    """From the first answer down to the last, by any of those between them."""
    first, *middle, last = between
    paths = [
        (first, *stops, last)
        for count in range(len(middle) + 1)
        for stops in combinations(middle, count)
    ]
    return max(min(leads.get(step, -1) for step in pairwise(path)) for path in paths)


@given(ballots(ANSWERS))
def test_what_stands_has_no_circle_and_holds_what_it_implies(votes: list[Ballot]) -> None:
    held = lock(margins(votes), sorted(ANSWERS))
    assert not any((b, a) in held for a, b in held)
    assert all((a, d) in held for a, b in held for c, d in held if b == c)


@given(ballots())
def test_the_places_never_contradict_what_stands(votes: list[Ballot]) -> None:
    places = ranked_pairs(votes)
    assert sorted(flat(places)) == list("abcd")
    place = {answer: index for index, answers in enumerate(places) for answer in answers}
    assert all(place[a] < place[b] for a, b in lock(margins(votes), sorted("abcd")))


# Votes


def compared(guild: Guild, count: int = 2) -> StoredComparison:
    question = guild.say("q")
    return guild.compare(question, *(guild.answer(f"a{i}", question) for i in range(count)))


def test_a_changed_mind_counts_once() -> None:
    guild = Guild()
    comparison = compared(guild)
    guild.vote(comparison, "skeptic", 0, 1)
    second = guild.vote(comparison, "newcomer", 1, 0)
    third = guild.vote(comparison, "skeptic", 1, 0)
    assert latest(guild.rows.votes) == [second, third]
    assert latest(reversed(guild.rows.votes)) == [second, third]


def test_votes_without_a_member_replace_none() -> None:
    guild = Guild()
    comparison = compared(guild)
    votes = [guild.vote(comparison, None, 0, 1), guild.vote(comparison, None, 1, 0)]
    assert latest(votes) == votes


def test_a_vote_as_an_order_of_answers() -> None:
    guild = Guild()
    comparison = compared(guild, 3)
    one, two, three = comparison.candidates
    assert ballot(comparison, guild.vote(comparison, "m", 2, 0, 1)) == ({three}, {one}, {two})
    assert ballot(comparison, guild.vote(comparison, "m", 1)) == ({two}, {one, three})
    assert ballot(comparison, guild.vote(comparison, "m", 1, 1, 7)) == ({two}, {one, three})
    for verdict in ("tie", "both_bad"):
        vote = guild.vote(comparison, "m", verdict=verdict)
        assert ballot(comparison, vote) == ({one, two, three},)
    assert ballot(comparison, guild.vote(comparison, "m", verdict="skip")) is None


def test_alpha_of_the_textbooks_example() -> None:
    """Krippendorff's own reliability data for nominal values: alpha is 0.691."""
    coders = ["*****34121133*3", "1*213343*******", "**21344*21133*4"]
    guild = Guild()
    for unit in range(15):
        comparison = compared(guild, 5)
        for coder, values in enumerate(coders):
            if values[unit] != "*":
                guild.vote(comparison, f"coder-{coder}", int(values[unit]))
    found = agreement(guild.rows.votes)
    assert found.alpha == pytest.approx(0.691, abs=5e-4)
    assert (found.comparisons, found.votes) == (12, 26)


def test_agreement_where_little_is_known() -> None:
    guild = Guild()
    comparison = compared(guild)
    assert agreement([]).share is None
    guild.vote(comparison, "newcomer", 0, 1)
    guild.vote(comparison, "skeptic", verdict="skip")
    found = agreement(guild.rows.votes)
    assert (found.pairs, found.share, found.alpha) == (0, None, None)
    guild.vote(comparison, "skeptic", 0, 1)
    found = agreement(guild.rows.votes)
    assert (found.pairs, found.share, found.alpha) == (1, 1.0, None)  # chance would agree too
    guild.vote(comparison, "tinkerer", verdict="tie")
    found = agreement(guild.rows.votes)
    assert (found.pairs, found.agreeing) == (3, 1)
    assert found.alpha == pytest.approx(0)


def test_wilsons_interval() -> None:
    assert wilson(0, 0).share is None
    assert (wilson(0, 10).low, wilson(10, 10).high) == (0, 1)
    assert wilson(0, 10).high == pytest.approx(0.2775, abs=1e-4)
    half = wilson(5, 10)
    assert (half.low, half.high) == (
        pytest.approx(0.2366, abs=1e-4),
        pytest.approx(0.7634, abs=1e-4),
    )


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilsons_interval_holds_the_share(one: int, other: int) -> None:
    found = wilson(one, one + other)
    if found.share is not None and found.low is not None and found.high is not None:
        assert 0 <= found.low <= found.share <= found.high <= 1


def test_position_bias_asks_only_decided_votes_between_two() -> None:
    guild = Guild()
    for ranking in [(0, 1), (0, 1), (0,), (1, 0)]:
        guild.vote(compared(guild), "m", *ranking)
    guild.vote(compared(guild), "m", verdict="tie")
    guild.vote(compared(guild), "m", verdict="skip")
    guild.vote(compared(guild, 3), "m", 0, 1, 2)
    found = position_bias(guild.rows.comparisons, guild.rows.votes)
    assert (found.count, found.of, found.share) == (3, 4, 0.75)


def test_win_rates_by_version() -> None:
    guild = Guild()
    question = guild.say("q")
    old, new = (
        guild.answer("o", question, version="old"),
        guild.answer("n", question, version="new"),
    )
    again = guild.answer("n2", question, version="new")
    human = guild.say("h", question, role="assistant")
    comparison = guild.compare(question, old, new, again, human)
    guild.vote(comparison, "newcomer", 1, 0, 2, 3)
    guild.vote(comparison, "skeptic", verdict="tie")
    versions = {m.id: m.version_id for m in guild.rows.messages if m.version_id}
    rates = win_rates(guild.rows.comparisons, guild.rows.votes, versions)
    assert list(rates) == ["new", "old"]
    assert (rates["new"].wins, rates["new"].losses, rates["new"].ties) == (1, 1, 2)
    assert rates["old"].rate == 0.5
