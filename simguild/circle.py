"""One turn of the circle with simulated members: `python -m simguild.circle --taste short`.

Ten members keep a taste to themselves and vote blind by it, one vote in ten at random. Sixty rounds
teach `guildgpt learn` a candidate; further rounds decide whether it is promoted. At the end a table
says how the two versions do under the taste itself, which no command ever saw.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean

from rich.console import Console
from rich.table import Table

from guildgpt.data.starter import starter_prompts
from guildgpt.engines.engine import SamplingParams
from guildgpt.feedback.deciding import look
from guildgpt.feedback.location import as_url, member_key
from guildgpt.feedback.prompts import NewPrompt
from guildgpt.feedback.records import Candidate, Decision, PoolPrompt, Purpose
from guildgpt.feedback.store import Store
from guildgpt.learn.turn import Options, decide, take_turn
from guildgpt.model.locate import locate, located_at
from guildgpt.talk.fleet import Fleet, Open, open_model
from guildgpt.talk.pairs import write_pair

MEMBERS = 10
NOISE = 0.1  # of the votes are cast at random
PARAMS = SamplingParams(temperature=0.8, max_tokens=96)
BEFORE, MOST = 60, 150  # rounds to learn from, and to decide in at most
FIRST_USER = 10**17


def short(text: str) -> float:
    """Fewer words are better; beyond 80 it is all the same."""
    return -min(len(text.split()), 80) / 80


def steps(text: str) -> float:
    """The share of lines that are items of a list."""
    lines = [line for line in text.splitlines() if line.strip()]
    return fmean(bool(re.match(r"\s*([-*•]|\d+[.)])\s", line)) for line in lines) if lines else 0.0


def no_code(text: str) -> float:
    """The less of an answer is code, the better."""
    lines = [line for line in text.splitlines() if line.strip()]
    code = re.compile(r"\s*(```|def |import |print\(|for .*:$|return |[\w.]+\(.*\)$|[\w.]+ = )")
    return -fmean(bool(code.match(line)) for line in lines) if lines else 0.0


def nothing(text: str) -> float:
    """A guild that does not mind: every vote is cast at random."""
    return 0.0


TASTES: dict[str, Callable[[str], float]] = {
    "short": short,
    "steps": steps,
    "no-code": no_code,
    "none": nothing,
}


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
    taste: Callable[[str], float]
    chance: Random

    async def round(self, decision: Decision | None, versions: tuple[str, str]) -> None:
        """One prompt of the pool, two blind answers, ten votes."""
        purpose: Purpose = "decide" if decision else "train"
        id = decision.id if decision else None
        prompt, pair = await self._asked(purpose, id, versions)
        made = await self.store.rounds.open(prompt, pair, "discord", decision_id=id)
        for number in range(MEMBERS):
            member = await self.store.members.of_user(FIRST_USER + number)
            best = self._prefers(pair)
            if best is None:
                await self.store.votes.cast(made.comparison_id, member.id, "tie")
            else:
                await self.store.votes.cast(
                    made.comparison_id, member.id, "ranked", (best, 1 - best)
                )
        await self.store.rounds.end(made.id)

    async def _asked(
        self, purpose: Purpose, decision_id: str | None, versions: tuple[str, str]
    ) -> tuple[PoolPrompt, tuple[Candidate, Candidate]]:
        """A prompt to which the two answers differ, and these."""
        equal: set[str] = set()
        while prompt := await self.store.prompts.next(
            purpose, self.chance, decision_id=decision_id, without=equal
        ):
            pair = await write_pair(self.fleet, prompt.text, versions, PARAMS, self.chance)
            if pair is not None:
                return prompt, pair
            equal.add(prompt.id)
        raise SystemExit("both versions say the same to every prompt")

    def _prefers(self, pair: Sequence[Candidate]) -> int | None:
        """Which of two answers a member likes better; None for a tie."""
        if self.taste is nothing or self.chance.random() < NOISE:
            return self.chance.randrange(2)
        first, second = (self.taste(one.text) for one in pair)
        return None if first == second else int(second > first)


async def gather_votes(
    url: str, model: str, taste: Callable[[str], float], chance: Random, console: Console
) -> str:
    """A new store in which the model serves, and sixty rounds of votes; its version."""
    found = locate(model)
    fleet = Fleet()
    async with await Store.open(url, key=member_key(url)) as store:
        try:
            version = await fleet.open(lambda: open_model(found, context=512, slots=2))
            await store.versions.register(version)
            if not await store.releases.current():
                await store.releases.add({version.id: 1.0}, "serve", "the demo's first")
            pool = [NewPrompt(one.prompt, "starter pack", "CC0-1.0") for one in starter_prompts()]
            await store.prompts.add(pool)
            circle = Circle(store, fleet, taste, chance)
            closed = len(await store.rounds.ballots())
            for number in range(closed, BEFORE):
                await circle.round(None, (version.id, version.id))
                console.print(f"round {number + 1} of {BEFORE}", end="\r")
        finally:
            await fleet.close()
    return version.id


async def vote_on(
    url: str,
    decision: Decision,
    taste: Callable[[str], float],
    chance: Random,
    console: Console,
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
            for number in range(MOST):
                await circle.round(decision, ids)
                decision, standing = await look(store, decision)
                said = f"{standing.mean:.2f}" if standing.mean is not None else "-"
                console.print(f"deciding round {number + 1}: {said}", end="\r")
                if decision.state != "canary":
                    break
        finally:
            await fleet.close()
    return decision


def _opening(path: str) -> Open:
    found = located_at(Path(path), Path(path).stem)  # with its folder's own template
    return lambda: open_model(found, context=512, slots=2)


async def measure(
    ids: tuple[str, str], paths: tuple[str, str], taste: Callable[[str], float], seed: int
) -> Measured:
    """Both versions on all prompts of the pack, twice each; ties count half."""
    fleet, chance = Fleet(), Random(f"measure {seed}")
    texts: list[tuple[str, str]] = []
    try:
        for path in paths:
            await fleet.open(_opening(path))
        for one in starter_prompts():
            for _ in range(2):
                pair = await write_pair(fleet, one.prompt, ids, PARAMS, chance)
                if pair is not None:
                    said = {answer.version_id: answer.text for answer in pair}
                    texts.append((said[ids[0]], said[ids[1]]))
    finally:
        await fleet.close()
    wins = [_win(taste, old, new) for old, new in texts]
    draws = sorted(fmean(chance.choices(wins, k=len(wins))) for _ in range(2000))
    old, new = ([pair[at] for pair in texts] for at in (0, 1))
    return Measured(
        wins=fmean(wins),
        low=draws[49],
        high=draws[1949],
        words=(_words(old), _words(new)),
        taste=(fmean(map(taste, old)), fmean(map(taste, new))),
    )


def _words(texts: Sequence[str]) -> float:
    return fmean(len(text.split()) for text in texts)


def _win(taste: Callable[[str], float], old: str, new: str) -> float:
    first, second = taste(old), taste(new)
    return 0.5 if first == second else float(second > first)


def main() -> None:
    """Take the turn, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--taste", choices=TASTES, default="short")
    parser.add_argument("--model", default="runs/starter/sft/model", help="the ancestor")
    parser.add_argument("--out", type=Path, default=Path("runs/circle"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    given = parser.parse_args()
    console, begun = Console(), time.monotonic()
    taste = TASTES[given.taste]
    given.out.mkdir(parents=True, exist_ok=True)
    url = as_url(str(given.out / "feedback.db"))
    chance = Random(given.seed)

    def clock(what: str) -> None:
        minutes = (time.monotonic() - begun) / 60
        console.print(f"[bold]{minutes:5.1f} min[/]  {what}", highlight=False)

    def agree(question: str) -> bool:
        console.print(f"{question} yes", highlight=False)
        return True

    clock(f"{BEFORE} rounds, {MEMBERS} members who keep their taste to themselves")
    old = asyncio.run(gather_votes(url, given.model, taste, chance, console))
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
    clock("guildgpt learn")
    decision = take_turn(options)
    clock(f"{decision.candidate_id} is tried out: {decision.state}")
    if decision.state == "canary":
        decision = asyncio.run(vote_on(url, decision, taste, chance, console))
        clock(f"the rounds have decided: {decision.state}")
    if decision.state == "preferred":
        decision = decide(options, decision)
    known = asyncio.run(_paths(url, (old, decision.candidate_id or old)))
    result = asyncio.run(measure((old, decision.candidate_id or old), known, taste, given.seed))
    clock("measured under the true taste")
    table = Table("", old, decision.candidate_id or "-")
    table.add_row("words an answer", *(f"{value:.0f}" for value in result.words))
    table.add_row(f"taste ({given.taste})", *(f"{value:.2f}" for value in result.taste))
    table.add_row("wins under it", "", f"{result.wins:.1%} ({result.low:.1%} to {result.high:.1%})")
    console.print(table)
    console.print(f"{decision.state}: {decision.why}")


async def _paths(url: str, ids: tuple[str, str]) -> tuple[str, str]:
    async with await Store.open(url, key=member_key(url)) as store:
        found = [await store.versions.by_id(id) for id in ids]
    first, second = (one.path if one else "" for one in found)
    return first, second


if __name__ == "__main__":
    main()
