"""How often simulated guilds promote a candidate: an equal one, a better and a worse one.

A member prefers the candidate on a prompt with a probability of their own. Members' leanings
scatter around the guild's true share, which is exact; each prompt moves all members to one side.
Decisions are looked at after every round, by rounds as `guildgpt.feedback.versions.betting` has
it and, for contrast, with every vote or every member taken as an observation of its own. All is
seeded.

    python bench/canaries.py [CANARIES]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from guildgpt.feedback.versions.betting import DecisionSettings, evidence
from guildgpt.feedback.voting.rankings import wilson

Floats = NDArray[np.float64]

RULE = DecisionSettings()
ROUNDS = RULE.max_rounds
LEAN = 0.15  # the standard deviation of members' leanings
AT_ONCE = 50  # canaries in memory


@dataclass(frozen=True)
class Guild:
    """Who votes on what. `voters` of the `members` are drawn for each round; `scatter` is the
    standard deviation of what prompts add to a leaning. Of a `sample` the leanings are drawn from
    people at large, whose mean is the true share, so that the guild's own is another."""

    true: float = 0.5
    members: int = 20
    voters: int = 10
    scatter: float = 0.2
    sample: bool = False


@dataclass(frozen=True)
class Votes:
    """Verdicts for the candidate, 0 or 1, and who cast them: (canaries, rounds, voters)."""

    verdicts: Floats
    voters: NDArray[np.int64]


def play(guild: Guild, canaries: int, chance: np.random.Generator) -> Votes:
    """Rounds that a guild votes in. There are no ties, which only make rounds scatter less."""
    width = 3**0.5  # of a uniform spread, in standard deviations to each side
    if guild.sample:
        spread = chance.uniform(-1, 1, (canaries, guild.members))
    else:
        steps = (np.arange(guild.members) + 0.5) / guild.members * 2 - 1
        spread = chance.permuted(np.tile(steps, (canaries, 1)), axis=1)
    leaning = guild.true + LEAN * width * spread
    present = min(guild.voters, guild.members)
    order = chance.random((canaries, ROUNDS, guild.members)).argsort(axis=-1)[..., :present]
    own = np.take_along_axis(leaning[:, None], order, axis=-1)
    prompt = guild.scatter * width * chance.uniform(-1, 1, (canaries, ROUNDS, 1))
    share = np.clip(own + prompt, 0, 1)  # about ½ the two ends take equally
    return Votes((chance.random(share.shape) < share).astype(float), order)


def batches(guild: Guild, canaries: int, seed: int) -> Iterator[Votes]:
    chance = np.random.default_rng(seed)
    for _ in range(0, canaries, AT_ONCE):
        yield play(guild, AT_ONCE, chance)


# What is taken as one observation: e-values against "not preferred" after every round or ten


def by_round(votes: Votes) -> Floats:
    return evidence(votes.verdicts.mean(axis=-1)).preferred


def by_vote(votes: Votes) -> Floats:
    """Looked at after every round, too."""
    voters = votes.verdicts.shape[-1]
    found = [evidence(canary.ravel()).preferred for canary in votes.verdicts]
    return np.stack(found)[:, voters - 1 :: voters]


def by_member(votes: Votes) -> Floats:
    """A member's observation is the mean of their votes so far; looked at every ten rounds."""
    shape = (*votes.verdicts.shape[:2], votes.voters.max() + 1)
    wins, counts = np.zeros(shape), np.zeros(shape)
    np.put_along_axis(wins, votes.voters, votes.verdicts, axis=-1)
    np.put_along_axis(counts, votes.voters, 1, axis=-1)
    wins, counts = (each.cumsum(axis=1)[:, 9::10] for each in (wins, counts))
    means = np.where(counts, wins / np.maximum(counts, 1), 0.5)  # who has not voted stakes nothing
    return np.stack([evidence(each).preferred[..., -1] for each in means])


def by_person_and_day(votes: Votes) -> Floats:
    """One round a day, in which all vote, and as many observations as there may be rounds."""
    return evidence(votes.verdicts.reshape(len(votes.verdicts), -1)[:, :ROUNDS]).preferred


# Tables


def rate(count: int, of: int) -> str:
    """A share in percent with Wilson's interval of 95 %: 2.4 % (2.0 to 2.9)."""
    found = wilson(count, of)
    assert found.share is not None
    assert found.low is not None
    assert found.high is not None
    return f"{100 * found.share:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


def false_promotions(guild: Guild, canaries: int, *units: Callable[[Votes], Floats]) -> list[str]:
    """How often each unit promotes within all rounds, no candidate being dropped before."""
    counts, done = [0] * len(units), 0
    for votes in batches(guild, canaries, seed=0):
        done += len(votes.verdicts)
        for place, unit in enumerate(units):
            counts[place] += int((unit(votes) >= 1 / RULE.alpha).any(axis=-1).sum())
    return [rate(count, done) for count in counts]


def outcomes(guild: Guild, canaries: int) -> list[str]:
    """By the whole rule, rounds as observations: promoted, dropped, undecided; the median round in
    which those promoted were, and those dropped."""
    ends = []
    for votes in batches(guild, canaries, seed=1):
        found = evidence(votes.verdicts.mean(axis=-1))
        ends.append([first(found.preferred), first(found.not_preferred)])
    won, lost = np.concatenate(ends, axis=1)
    promoted, dropped = (won <= lost) & (won < ROUNDS), lost < won
    shares = [rate(int(those.sum()), len(won)) for those in (promoted, dropped)]
    open_still = f"{100 * (~promoted & ~dropped).mean():.1f} %"
    return [*shares, open_still, middle(won[promoted]), middle(lost[dropped])]


def first(values: Floats) -> NDArray[np.int64]:
    """The index of the first crossing in each row; `ROUNDS` where there is none."""
    crossed = values >= 1 / RULE.alpha
    return np.where(crossed.any(axis=-1), crossed.argmax(axis=-1), ROUNDS)


def middle(rounds: NDArray[np.int64]) -> str:
    return f"{np.median(rounds) + 1:.0f}" if len(rounds) > 20 else "-"


def table(head: list[str], rows: Iterable[list[str]]) -> None:
    """Print it in Markdown, row by row."""
    print(f"\n| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def named(guild: Guild) -> list[str]:
    return [str(guild.members), str(guild.voters), str(guild.scatter)]


def main() -> None:
    canaries = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    who = ["members", "voters a round", "scatter of prompts"]
    sizes = [(5, 3), (5, 5), (20, 3), (20, 10), (100, 3), (100, 10)]
    guilds = [Guild(members=m, voters=v, scatter=s) for m, v in sizes for s in (0.1, 0.2)]

    kinds = {"by rounds": by_round, "by members": by_member, "by votes": by_vote}
    for some, shown in (
        (guilds, list(kinds)),
        ([Guild(members=n, voters=n) for n in (20, 100)], ["by rounds", "by members"]),
    ):
        units = [kinds[kind] for kind in shown]
        table(
            [*who, *(f"promoted falsely {kind}" for kind in shown)],
            ([*named(guild), *false_promotions(guild, canaries, *units)] for guild in some),
        )
    table(
        [*who, "members drawn from people at large, who are torn: promoted falsely"],
        (
            [*named(guild), *false_promotions(replace(guild, sample=True), canaries, by_round)]
            for guild in (Guild(scatter=0.1), Guild(), Guild(members=100))
        ),
    )
    few = [Guild(members=n, voters=n, scatter=s) for n in (2, 3, 4) for s in (0.1, 0.2)]
    table(
        [*who, "one round a day, promoted falsely by days", "by persons and days"],
        (
            [*named(guild), *false_promotions(guild, canaries, by_round, by_person_and_day)]
            for guild in few
        ),
    )
    table(
        ["true share", *who, "promoted", "dropped", "undecided", "in round", "dropped in round"],
        (
            [f"{true:.2f}", *named(guild), *outcomes(replace(guild, true=true), canaries)]
            for true in (0.45, 0.5, 0.55, 0.6, 0.65)
            for guild in guilds
        ),
    )


if __name__ == "__main__":
    main()
