"""Many votes become one order; and how far the votes can be trusted.

Ranked pairs: T. N. Tideman, "Independence of clones as a criterion for voting rules", Social Choice
and Welfare 4 (1987); ties as in T. M. Zavist and T. N. Tideman, "Complete independence of clones in
the ranked pairs rule", ibid. 6 (1989). Alpha: K. Krippendorff, "Content Analysis" (4th ed., 2019),
chapter 12. Interval: E. B. Wilson, "Probable inference, the law of succession, and statistical
inference", JASA 22 (1927).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

from guildgpt.feedback.records import Ranking, StoredComparison, Vote

Ballot = tuple[frozenset[str], ...]  # what one ranker saw: best first, equals together
Pair = tuple[str, str]  # (better, worse)


def latest(votes: Iterable[Vote]) -> list[Vote]:
    """Each member's newest vote on each comparison, in the order cast.

    A vote without a member (cast at the operator's terminal) replaces none.
    """
    ordered = sorted(votes, key=lambda vote: (vote.created_at, vote.id))
    newest = {(vote.comparison_id, vote.member_id or vote.id): vote for vote in ordered}
    kept = {vote.id for vote in newest.values()}
    return [vote for vote in ordered if vote.id in kept]


def as_ranking(places: Iterable[int | Iterable[int]]) -> Ranking:
    """A ranking as votes have it, from lists, say: whoever is alone in a place stands for it."""
    ranking: list[int | tuple[int, ...]] = []
    for place in places:
        equals = (place,) if isinstance(place, int) else tuple(place)
        if equals:
            ranking.append(equals[0] if len(equals) == 1 else equals)
    return tuple(ranking)


def positions_of(ranking: Ranking) -> list[int]:
    """Every position that a ranking names, the best first."""
    return [
        position
        for place in ranking
        for position in ((place,) if isinstance(place, int) else place)
    ]


def ballot(comparison: StoredComparison, vote: Vote) -> Ballot | None:
    """The vote as an order of the answers shown; None if it was skipped.

    `tie` and `both_bad` hold all answers equal. Answers that a ranking passes over share its last
    place.
    """
    shown = comparison.candidates
    if vote.verdict == "skip":
        return None
    if vote.verdict != "ranked":
        return (frozenset(shown),)
    left = set(range(len(shown)))
    tiers = []
    for place in vote.ranking:
        named = left & ({place} if isinstance(place, int) else set(place))
        left -= named
        if named:
            tiers.append(frozenset(shown[position] for position in named))
    rest = frozenset(shown[position] for position in left)
    return tuple(tiers + [rest] * bool(rest))


def seen(ballot: Ballot) -> frozenset[str]:
    """Every answer on the ballot."""
    return frozenset().union(*ballot)


def common(ballots: Iterable[Ballot]) -> frozenset[str]:
    """The answers that all rankers saw."""
    views = [seen(ballot) for ballot in ballots]
    return frozenset.intersection(*views) if views else frozenset()


def margins(ballots: Iterable[Ballot]) -> dict[Pair, int]:
    """For each pair: rankers who saw both and prefer the first, minus those who prefer the second.

    Only positive margins are listed.
    """
    net: Counter[Pair] = Counter()
    for tiers in ballots:
        for one, other in _pairs(tiers):
            net[one, other] += 1
            net[other, one] -= 1
    return {pair: margin for pair, margin in net.items() if margin > 0}


def lock(margins: Mapping[Pair, int], order: Sequence[str]) -> set[Pair]:
    """The pairs that stand: largest margin first, each unless it would close a circle.

    Equal margins are taken in the order of their better answer in `order`, then of their worse.
    The result is acyclic and holds every pair that it implies.
    """
    place = {answer: index for index, answer in enumerate(order)}
    held: set[Pair] = set()
    for one, other in sorted(margins, key=lambda p: (-margins[p], place[p[0]], place[p[1]])):
        if not held & {(one, other), (other, one)}:
            above = {one} | {a for a, b in held if b == one}
            below = {other} | {b for a, b in held if a == other}
            held |= {(a, b) for a in above for b in below}
    return held


def ranked_pairs(
    ballots: Sequence[Ballot], scores: Mapping[str, int] | None = None
) -> list[list[str]]:
    """Tideman's order of the answers that all rankers saw, best first, equals together.

    Where the votes say nothing (which of equal margins is held first, which of two answers comes
    first if neither beats the other) the higher score does, else the smaller id. The next answer
    shares the place before it if nothing there beats it and the scores are equal.
    """
    answers = common(ballots)
    score = {answer: (scores or {}).get(answer, 0) for answer in answers}
    left = sorted(answers, key=lambda answer: (-score[answer], answer))
    of_all = [tuple(tier & answers for tier in ballot if tier & answers) for ballot in ballots]
    held = lock(margins(of_all), left)
    places: list[list[str]] = []
    while left:
        best = next(one for one in left if not any((other, one) in held for other in left))
        left.remove(best)
        if places and all(
            (other, best) not in held and score[other] == score[best] for other in places[-1]
        ):
            places[-1].append(best)
        else:
            places.append([best])
    return places


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike members vote on the same comparison; skips do not count.

    `alpha` is Krippendorff's for nominal data, 1 - D_o / D_e, over the verdicts as shown ("first
    answer", "tie", …): 1 is full agreement, 0 what chance gives. It is None where no comparison
    has two votes and where all votes are the same, so that chance would agree as well.
    """

    comparisons: int  # with two or more votes
    votes: int  # on those
    pairs: int  # of votes on the same comparison
    agreeing: int
    alpha: float | None

    @property
    def share(self) -> float | None:
        """Agreeing pairs by all pairs."""
        return self.agreeing / self.pairs if self.pairs else None


def agreement(votes: Iterable[Vote]) -> Agreement:
    """The agreement of members' latest votes."""
    units: dict[str, list[tuple[object, ...]]] = {}
    for vote in latest(votes):
        if vote.verdict != "skip":
            units.setdefault(vote.comparison_id, []).append((vote.verdict, *vote.ranking))
    rated = [unit for unit in units.values() if len(unit) > 1]
    pairs = sum(len(unit) * (len(unit) - 1) // 2 for unit in rated)
    agreeing = sum(_same_pairs(Counter(unit)) // 2 for unit in rated)
    total = sum(len(unit) for unit in rated)
    # D_o: disagreeing ordered pairs within a comparison, each vote weighing one in all.
    observed = sum(
        (len(unit) * (len(unit) - 1) - _same_pairs(Counter(unit))) / (len(unit) - 1)
        for unit in rated
    )
    # D_e: the same among all votes, whatever their comparison.
    pooled = Counter(value for unit in rated for value in unit)
    expected = (total * (total - 1) - _same_pairs(pooled)) / (total - 1) if total > 1 else 0.0
    alpha = 1 - observed / expected if expected else None
    return Agreement(len(rated), total, pairs, agreeing, alpha)


def _same_pairs(counts: Counter[tuple[object, ...]]) -> int:
    return sum(count * (count - 1) for count in counts.values())


@dataclass(frozen=True, slots=True)
class Share:
    """A share with Wilson's 95 % interval; all None where nothing was counted. Ties count half."""

    count: float
    of: int
    share: float | None
    low: float | None
    high: float | None


def wilson(count: float, of: int, z: float = 1.959963984540054) -> Share:
    """`count` out of `of`: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n), p = count / n."""
    if not of:
        return Share(count, of, None, None, None)
    p, square = count / of, z * z / of
    middle = (p + square / 2) / (1 + square)
    half = z * sqrt(p * (1 - p) / of + square / (4 * of)) / (1 + square)
    # At the ends rounding may step over p itself.
    return Share(count, of, p, max(0.0, min(middle - half, p)), min(1.0, max(middle + half, p)))


def position_bias(
    comparisons: Iterable[StoredComparison],
    votes: Iterable[Vote],
    first: Mapping[str, int] | None = None,
) -> Share:
    """The share of decided votes between two answers that the left one, shown first, has won.

    Candidates are shuffled, so without a bias it is one half: the interval should hold 0.5. `first`
    has the position that a vote's member was shown first, by the vote's id, where that is not 0.
    """
    left = first or {}
    two = {item.id for item in comparisons if len(item.candidates) == 2}
    decided = [v for v in latest(votes) if v.comparison_id in two and v.verdict == "ranked"]
    won = sum(vote.ranking[0] == left.get(vote.id, 0) for vote in decided)
    return wilson(won, len(decided))


@dataclass(frozen=True, slots=True)
class WinRate:
    """A version against all others it met. `rate` counts a tie (or both bad) as half a win."""

    wins: int
    losses: int
    ties: int

    @property
    def rate(self) -> float | None:
        """Wins and half the ties, by all; None without any."""
        met = self.wins + self.losses + self.ties
        return (self.wins + self.ties / 2) / met if met else None


def win_rates(
    comparisons: Iterable[StoredComparison], votes: Iterable[Vote], versions: Mapping[str, str]
) -> dict[str, WinRate]:
    """Each version's record over the pairs of answers in members' latest votes.

    `versions` names the version of each answer; pairs within one version, or with an answer of
    none, do not count.
    """
    shown = {item.id: item for item in comparisons}
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for vote in latest(votes):
        tiers = ballot(shown[vote.comparison_id], vote) if vote.comparison_id in shown else None
        ordered = [("wins", "losses", *pair) for pair in _pairs(tiers or ())]
        equal = [pair for tier in tiers or () for pair in combinations(tier, 2)]
        for won, lost, first, second in ordered + [("ties", "ties", *pair) for pair in equal]:
            one, other = versions.get(first), versions.get(second)
            if one is not None and other is not None and one != other:
                counts[one][won] += 1
                counts[other][lost] += 1
    return {
        version: WinRate(count["wins"], count["losses"], count["ties"])
        for version, count in sorted(counts.items())
    }


def _pairs(tiers: Ballot) -> Iterable[Pair]:
    for better, worse in combinations(tiers, 2):
        yield from ((one, other) for one in better for other in worse)
