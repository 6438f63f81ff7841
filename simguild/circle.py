"""Turns of the circle with simulated members: `python -m simguild.circle --taste short --turns 3`.

Ten members keep a taste to themselves and vote blind by it, one vote in ten at random. Sixty rounds
teach `guildgpt learn` a candidate; further rounds decide whether it is promoted. The next turn
begins with sixty rounds more, on answers of who serves then. At the end a table says how the first
version and the one that serves do under the taste itself, which no command ever saw. The same
command goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from statistics import fmean

from rich.console import Console
from rich.table import Table

from guildgpt.engines.engine import SamplingParams
from guildgpt.feedback.records import OPEN_STATES, Candidate, Decision, PoolPrompt, Purpose
from guildgpt.feedback.storage.location import as_url, member_key
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.deciding import look
from guildgpt.feedback.voting.prompts import NewPrompt, purpose_of, sha256_of
from guildgpt.learn.turn import Options, decide, take_turn
from guildgpt.model.locate import locate, located_at
from guildgpt.model.version import version_of
from guildgpt.talk.fleet import Fleet, Open, open_model
from guildgpt.talk.pairs import write_pair
from simguild.tastes import TASTES, Taste

MEMBERS = 10
PARAMS = SamplingParams(temperature=0.8, max_tokens=96)
BEFORE, MOST = 60, 150  # rounds to learn from, and to decide in at most
TOGETHER = 4  # rounds whose answers are written at the same time
MEASURED = 120  # pairs
FIRST_USER = 10**17


@dataclass(frozen=True, slots=True)
class Measured:
    """The second version beside the first under the true taste: wins with a 95 % interval from
    resampled prompts; words and taste of an answer of each."""

    wins: float
    low: float
    high: float
    words: tuple[float, float]
    taste: tuple[float, float]


@dataclass
class Circle:
    """The guild, and what it votes on."""

    store: Store
    fleet: Fleet
    taste: Taste
    chance: Random

    async def rounds(
        self, count: int, versions: tuple[str, str], decision: Decision | None = None
    ) -> AsyncIterator[int]:
        """Rounds one after the other, each a prompt of the pool, two blind answers and ten votes;
        the answers of a few are written together. Yields the number of each that has closed."""
        done = 0
        while done < count:
            drawn: set[str] = set()
            chances = [Random(self.chance.random()) for _ in range(min(TOGETHER, count - done))]
            asked = await asyncio.gather(
                *(self._asked(versions, decision, drawn, chance) for chance in chances)
            )
            for prompt, pair in asked:
                await self._vote(prompt, pair, decision)
                done += 1
                yield done

    async def _vote(
        self, prompt: PoolPrompt, pair: tuple[Candidate, Candidate], decision: Decision | None
    ) -> None:
        made = await self.store.rounds.open(
            prompt, pair, "discord", decision_id=decision.id if decision else None
        )
        for number in range(MEMBERS):
            member = await self.store.members.of_user(FIRST_USER + number)
            best = self.taste.of(number).vote([one.text for one in pair], self.chance)
            if best is None:
                await self.store.votes.cast(made.comparison_id, member.id, "tie")
            else:
                await self.store.votes.cast(
                    made.comparison_id, member.id, "ranked", (best, 1 - best)
                )
        await self.store.rounds.end(made.id)

    async def _asked(
        self, versions: tuple[str, str], decision: Decision | None, drawn: set[str], chance: Random
    ) -> tuple[PoolPrompt, tuple[Candidate, Candidate]]:
        """A prompt to which the two answers differ, and these; not one that was drawn before."""
        purpose: Purpose = "decide" if decision else "train"
        id = decision.id if decision else None
        while prompt := await self.store.prompts.next(
            purpose, chance, decision_id=id, without=drawn
        ):
            drawn.add(prompt.id)
            pair = await write_pair(self.fleet, prompt.text, versions, PARAMS, chance)
            if pair is not None:
                return prompt, pair
        raise SystemExit("both versions say the same to every prompt")


async def gather_votes(
    url: str, model: str, taste: Taste, chance: Random, console: Console, turn: int = 1
) -> str:
    """Sixty rounds of votes a turn, on answers of who serves; in a new store that is the model. Who
    served first."""
    found = locate(model)
    async with await Store.open(url, key=member_key(url)) as store:
        history = await store.releases.history()
        if not history:
            first = version_of(found)
            await store.versions.register(first)
            await store.releases.add({first.id: 1.0}, "serve", "the demo's first")
            licence = "CC0-1.0"
            pool = [NewPrompt(one.prompt, "starter", licence) for one in taste.prompts()]
            await store.prompts.add(pool)
            history = await store.releases.history()
        [serves] = {one.version_id for one in await store.releases.current()}
        known = await store.versions.by_id(serves)
        assert known is not None
        fleet = Fleet()
        try:
            await fleet.open(_opening(known.path, slots=2 * TOGETHER))
            circle = Circle(store, fleet, taste, chance)
            held = await store.rounds.ballots()
            closed = sum(one.round.decision_id is None for one in held)
            async for number in circle.rounds(turn * BEFORE - closed, (serves, serves)):
                console.print(f"round {closed + number} of {turn * BEFORE}", end="\r")
        finally:
            await fleet.close()
        return history[-1][0].version_id


async def vote_on(
    url: str, decision: Decision, taste: Taste, chance: Random, console: Console
) -> Decision:
    """Rounds between who serves and the candidate, until they have decided."""
    fleet = Fleet()
    async with await Store.open(url, key=member_key(url)) as store:
        try:
            ids = (decision.baseline_id or "", decision.candidate_id or "")
            for id in ids:
                known = await store.versions.by_id(id)
                assert known is not None
                await fleet.open(_opening(known.path))
            circle = Circle(store, fleet, taste, chance)
            async for number in circle.rounds(MOST, ids, decision):
                decision, standing = await look(store, decision)
                said = f"{standing.mean:.2f}" if standing.mean is not None else "-"
                console.print(f"deciding round {number}: {said}", end="\r")
                if decision.state != "canary":
                    break
        finally:
            await fleet.close()
    return decision


def _opening(path: str, slots: int = TOGETHER) -> Open:
    found = located_at(Path(path), Path(path).stem)  # with its folder's own template
    return lambda: open_model(found, context=512, slots=slots)


Said = list[list[tuple[str, str]]]


async def write_both(ids: tuple[str, str], paths: tuple[str, str], taste: Taste, seed: int) -> Said:
    """Answers of both versions to prompts that no vote of training is on, as often as it takes for
    about 120 pairs; those to a prompt together."""
    fleet, chance = Fleet(), Random(f"measure {seed}")
    prompts = [
        one.prompt for one in taste.prompts() if purpose_of(sha256_of(one.prompt)) == "decide"
    ]
    turns = asyncio.Semaphore(TOGETHER)

    async def written(prompt: str) -> tuple[str, str] | None:
        async with turns:
            pair = await write_pair(fleet, prompt, ids, PARAMS, chance)
        said = {answer.version_id: answer.text for answer in pair or ()}
        return (said[ids[0]], said[ids[1]]) if pair else None

    async def asked(prompt: str) -> list[tuple[str, str]]:
        times = range(max(1, round(MEASURED / len(prompts))))
        return [one for one in await asyncio.gather(*(written(prompt) for _ in times)) if one]

    try:
        for path in paths:
            await fleet.open(_opening(path))
        return [group for group in await asyncio.gather(*map(asked, prompts)) if group]
    finally:
        await fleet.close()


def judged(groups: Said, taste: Taste) -> Measured:
    """What a taste says of both."""
    chance = Random("judged")
    wins = [[taste.wins(old, new) for old, new in group] for group in groups]
    draws = sorted(
        fmean(chain.from_iterable(chance.choices(wins, k=len(wins)))) for _ in range(2000)
    )
    old, new = ([pair[at] for pair in chain.from_iterable(groups)] for at in (0, 1))
    return Measured(
        wins=fmean(chain.from_iterable(wins)),
        low=draws[49],
        high=draws[1949],
        words=(_words(old), _words(new)),
        taste=(fmean(map(taste.value, old)), fmean(map(taste.value, new))),
    )


def _words(texts: Sequence[str]) -> float:
    return fmean(len(text.split()) for text in texts)


def main() -> None:
    """Take the turns, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--taste", choices=TASTES, default="short")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--model", default="runs/starter/sft/model", help="the ancestor")
    parser.add_argument("--out", type=Path, default=Path("runs/circle"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    given = parser.parse_args()
    console, begun = Console(), time.monotonic()
    taste = TASTES[given.taste]
    given.out.mkdir(parents=True, exist_ok=True)
    url = as_url(str(given.out / "feedback.db"))

    def clock(what: str) -> None:
        minutes = (time.monotonic() - begun) / 60
        console.print(f"[bold]{minutes:5.1f} min[/]  {what}", highlight=False)

    def agree(question: str) -> bool:
        console.print(f"{question} yes", highlight=False)
        return True

    options = Options(
        url,
        "learn",
        [f"model.base={given.model}", f"seed={given.seed}", *given.overrides],
        given.out / "learn",
        0.2,
        20,
        console,
        agree,
    )
    while (turn := asyncio.run(taken(url)) + 1) <= given.turns:
        chance = Random(f"{given.seed} {turn}")
        clock(f"{BEFORE} rounds, {MEMBERS} members who keep their taste to themselves")
        asyncio.run(gather_votes(url, given.model, taste, chance, console, turn))
        clock("guildgpt learn")
        decision = take_turn(options)
        clock(f"{decision.candidate_id} is tried out: {decision.state}")
        if decision.state == "canary":
            decision = asyncio.run(vote_on(url, decision, taste, chance, console))
            clock(f"the rounds have decided: {decision.state}")
        if decision.state == "preferred":
            decision = decide(options, decision)
        clock(f"{decision.state}: {decision.why}")
        if decision.state in OPEN_STATES:  # not decided yet: the same command goes on
            break
    ids, paths = asyncio.run(first_and_last(url))
    if ids[0] == ids[1]:
        console.print("Who served first serves still.")
        return
    said = asyncio.run(write_both(ids, paths, taste, given.seed))
    clock("measured under the true taste")
    for name, own in taste.parts(given.taste):
        console.print(measured_table(ids, name, judged(said, own)))


async def taken(url: str) -> int:
    """How many turns have been taken to their end."""
    async with await Store.open(url, key=member_key(url)) as store:
        return sum(one.state not in OPEN_STATES for one in await store.decisions.all())


async def first_and_last(url: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Who served first and who serves now, and where both lie."""
    async with await Store.open(url, key=member_key(url)) as store:
        history, now = await store.releases.history(), await store.releases.current()
    ids = (history[-1][0].version_id, now[0].version_id)
    return ids, await paths_of(url, ids)


def measured_table(names: tuple[str, str], taste: str, result: Measured) -> Table:
    """Both versions side by side."""
    table = Table("", *names)
    table.add_row("words an answer", *(f"{value:.0f}" for value in result.words))
    table.add_row(f"taste ({taste})", *(f"{value:.2f}" for value in result.taste))
    table.add_row("wins under it", "", f"{result.wins:.1%} ({result.low:.1%} to {result.high:.1%})")
    return table


async def paths_of(url: str, ids: tuple[str, str]) -> tuple[str, str]:
    """Where both versions lie."""
    async with await Store.open(url, key=member_key(url)) as store:
        found = [await store.versions.by_id(id) for id in ids]
    first, second = (one.path if one else "" for one in found)
    return first, second


if __name__ == "__main__":
    main()
