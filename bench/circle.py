"""What votes teach: methods against numbers of votes, with and without corrections.

Three simulated guilds, each with a taste and a seed of its own, vote on pairs of the ancestor's
answers, one vote in ten at random. Of each guild's votes the first 50, 150 and 500 teach the
ancestor by each method; the model that comes out answers prompts on which nobody voted, and the
guild's taste, which no command ever saw, says how often its answer is the better one. A vote is one
member's, on a pair of its own. Ten corrections are answers of the ancestor that a member worded by
the guild's taste.

All is kept under --out, and the same command goes on where it was: hours on 2 cores.

    python bench/circle.py --model runs/starter/sft/model [--guilds short:0] [--methods dpo kto]
    python bench/circle.py --table
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console

from guildgpt.chat import Message
from guildgpt.chat.repetition import loops
from guildgpt.engines.engine import SamplingParams, complete
from guildgpt.evaluate.intervals import interval
from guildgpt.feedback.records import Candidate
from guildgpt.feedback.storage.location import as_url, member_key
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.prompts import NewPrompt, purpose_of, sha256_of
from guildgpt.model.locate import locate
from guildgpt.talk.fleet import Fleet, OpenedModel, open_model
from guildgpt.talk.pairs import write_pair
from simguild.tastes import TASTES, Taste

GUILDS = ("short:0", "steps:1", "no-code:2")
METHODS = ("dpo", "kto", "ppo", "grpo")
VOTES = (50, 150, 500)
CORRECTIONS = (0, 10)
PARAMS = SamplingParams(temperature=0.8, max_tokens=96)
MEMBERS = 10
FIRST_USER = 10**17
AT_ONCE = 8
MEASURED = 120  # answers to prompts that nobody voted on, about
LICENCE = "CC0-1.0"


@dataclass(frozen=True, slots=True)
class Guild:
    """A guild: its taste by name, and its seed."""

    name: str
    seed: int

    @property
    def taste(self) -> Taste:
        """How its members vote."""
        return TASTES[self.name]

    def prompts(self, purpose: str) -> list[str]:
        """Prompts that it votes on (`train`), or is measured by (`decide`)."""
        asked = [one.prompt for one in self.taste.prompts()]
        return [one for one in asked if purpose_of(sha256_of(one)) == purpose]


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt, two of the ancestor's answers, and what a member says: 0, 1, or None for a tie."""

    prompt: str
    answers: tuple[str, str]
    version: str
    vote: int | None


# ---- What is written once for a guild


async def bank(guild: Guild, model: str, out: Path, count: int) -> list[Pair]:
    """So many pairs with a vote on each; what was written before is taken."""
    path = out / "pairs.jsonl"
    pairs = [Pair(**row | {"answers": tuple(row["answers"])}) for row in _rows(path)]
    prompts = guild.prompts("train")
    missing = [prompts[number % len(prompts)] for number in range(len(pairs), count)]
    if not missing:
        return pairs[:count]
    chance = Random(f"{guild} {len(pairs)}")
    async with opened(model) as fleet:
        for at in range(0, len(missing), AT_ONCE):
            chances = [Random(chance.random()) for _ in range(AT_ONCE)]
            written = await asyncio.gather(
                *(
                    write_pair(fleet, prompt, (None, None), PARAMS, own)
                    for prompt, own in zip(missing[at : at + AT_ONCE], chances, strict=False)
                )
            )
            for prompt, pair in zip(missing[at : at + AT_ONCE], written, strict=False):
                if pair is not None:
                    texts = (pair[0].text, pair[1].text)
                    made = Pair(prompt, texts, pair[0].version_id, guild.taste.vote(texts, chance))
                    pairs.append(made)
                    _append(path, asdict(made))
    return pairs[:count]


async def answers(guild: Guild, model: str, path: Path, seed: int) -> list[dict[str, Any]]:
    """A model's answers to the prompts that nobody voted on, several to each: prompt, text, why it
    ended, and whether it loops."""
    if path.exists():
        return list(_rows(path))
    prompts = guild.prompts("decide")
    asked = [one for one in prompts for _ in range(max(1, round(MEASURED / len(prompts))))]
    turns, chance = asyncio.Semaphore(AT_ONCE), Random(f"answers {guild} {seed}")
    seeds = [chance.getrandbits(31) for _ in asked]

    async def one(prompt: str, seed: int) -> dict[str, Any]:
        async def work(opened: OpenedModel) -> dict[str, Any]:
            ids = await asyncio.to_thread(opened.prompt, [Message("user", prompt)])
            params = SamplingParams(**asdict(PARAMS) | {"seed": seed})
            said = await complete(opened.engine, ids, params)
            text = said.text.strip()
            looped = loops(said.ids)
            return {"prompt": prompt, "text": text, "stop": said.stop, "loops": looped}

        async with turns:
            return await fleet.ask(work, version=None)

    async with opened(model) as fleet:
        rows = await asyncio.gather(*map(one, asked, seeds))
    for row in rows:
        _append(path.with_suffix(".part"), row)
    path.with_suffix(".part").rename(path)
    return list(rows)


@asynccontextmanager
async def opened(model: str) -> AsyncIterator[Fleet]:
    """A fleet with one model, as long as it is entered."""
    found, fleet = locate(model), Fleet()
    await fleet.open(lambda: open_model(found, context=512, slots=2 * AT_ONCE))
    try:
        yield fleet
    finally:
        await fleet.close()


# ---- A store with a guild's votes, and what is learned from it


async def fill(url: str, guild: Guild, pairs: Sequence[Pair], corrections: int) -> None:
    """Rounds with these votes, one a round, by ten members in turn; and corrections of the better
    answers of the first of them, one a prompt."""
    async with await Store.open(url, key=member_key(url)) as store:
        asked = list(dict.fromkeys(pair.prompt for pair in pairs))
        await store.prompts.add([NewPrompt(one, "bench", LICENCE) for one in asked])
        prompts = {one.text: one for one in await store.prompts.all("accepted")}
        corrected: set[str] = set()
        for number, pair in enumerate(pairs):
            member = await store.members.of_user(FIRST_USER + number % MEMBERS)
            written = [Candidate(text, pair.version) for text in pair.answers]
            made = await store.rounds.open(prompts[pair.prompt], written, "discord")
            if pair.vote is None:
                await store.votes.cast(made.comparison_id, member.id, "tie")
            else:
                ranking = (pair.vote, 1 - pair.vote)
                await store.votes.cast(made.comparison_id, member.id, "ranked", ranking)
            await store.rounds.end(made.id)
            if len(corrected) < corrections and pair.prompt not in corrected:
                comparison = await store.votes.comparison(made.comparison_id)
                better = pair.vote or 0
                text = guild.taste.worded(pair.answers[better])
                if comparison and text not in ("", pair.answers[better]):
                    corrected.add(pair.prompt)
                    answer = comparison.candidates[better]
                    await store.corrections.add(answer, member.id, text)


def train(url: str, model: str, method: str, seed: int, out: Path, console: Console) -> Path:
    """The model that the ancestor becomes by what is in the store."""
    from guildgpt.learn.methods import recipe_for
    from guildgpt.pipeline.run import run

    recipe, text = recipe_for("learn", method, [f"model.base={model}", f"seed={seed}"], store=url)
    run(recipe, text, out, console=console)
    return out / recipe.stages[-1] / "model"


# ---- One line of the table


def cell(
    guild: Guild, model: str, method: str, votes: int, corrections: int, out: Path, console: Console
) -> dict[str, Any]:
    """Teach the ancestor, and hold its answers against the ancestor's."""
    pairs = asyncio.run(bank(guild, model, out, max(VOTES)))
    old = asyncio.run(answers(guild, model, out / "ancestor.jsonl", -1))
    name = f"{method}-{votes}-{corrections}"
    folder, url = out / name, as_url(str(out / name / "feedback.db"))
    if not (folder / "filled").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        asyncio.run(fill(url, guild, pairs[:votes], corrections))
        (folder / "filled").touch()
    begun = time.monotonic()
    trained = train(url, model, method, guild.seed, folder / "run", console)
    minutes = (time.monotonic() - begun) / 60
    new = asyncio.run(answers(guild, str(trained), folder / "answers.jsonl", votes))
    shutil.rmtree(folder / "run", ignore_errors=True)  # half a gigabyte each
    wins = [guild.taste.wins(a["text"], b["text"]) for a, b in zip(old, new, strict=True)]
    found = interval(np.array(wins), [row["prompt"] for row in old])
    return {
        "guild": f"{guild.name}:{guild.seed}",
        "method": method,
        "votes": votes,
        "corrections": corrections,
        "wins": found.accuracy,
        "low": found.low,
        "high": found.high,
        "words": fmean(len(row["text"].split()) for row in new),
        "ends": fmean(row["stop"] == "eos" for row in new),
        "loops": fmean(row["loops"] for row in new),
        "minutes": minutes,
    }


def table(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """What came out, as it stands in docs/results.md."""
    methods = [one for one in METHODS if any(row["method"] == one for row in rows)]
    console.print(f"| votes, corrections, guild | {' | '.join(methods)} |")
    console.print(f"|---|{'---|' * len(methods)}")
    found = {(r["votes"], r["corrections"], r["guild"], r["method"]): r for r in rows}
    for votes, corrections, guild in product(
        VOTES, CORRECTIONS, sorted({r["guild"] for r in rows})
    ):
        cells = []
        for method in methods:
            row = found.get((votes, corrections, guild, method))
            cells.append(_in_words(row) if row else "")
        if any(cells):
            console.print(f"| {votes}, {corrections}, {guild} | {' | '.join(cells)} |")


def _in_words(row: dict[str, Any]) -> str:
    return (
        f"{row['wins']:.1%} ({row['low']:.1%} to {row['high']:.1%}); ends {row['ends']:.0%}, "
        f"loops {row['loops']:.0%}, {row['words']:.0f} words"
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def at(name: str, out: Path) -> tuple[Guild, Path]:
    """A guild by what it is called, and its folder."""
    taste, _, seed = name.partition(":")
    folder = out / f"{taste}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    return Guild(taste, int(seed)), folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="runs/starter/sft/model", help="the ancestor")
    parser.add_argument("--out", type=Path, default=Path("runs/circle-bench"))
    parser.add_argument("--guilds", nargs="+", default=GUILDS, metavar="TASTE:SEED")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--votes", nargs="+", type=int, default=VOTES)
    parser.add_argument("--corrections", nargs="+", type=int, default=CORRECTIONS)
    parser.add_argument("--pairs", action="store_true", help="write the guilds' pairs, no more")
    parser.add_argument("--table", action="store_true", help="print what is there, do nothing")
    given = parser.parse_args()
    console, results = Console(soft_wrap=True, highlight=False), given.out / "results.jsonl"
    if given.table:
        table(list(_rows(results)), console)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    if given.pairs:
        for name in given.guilds:
            guild, folder = at(name, given.out)
            asyncio.run(bank(guild, given.model, folder, max(VOTES)))
            asyncio.run(answers(guild, given.model, folder / "ancestor.jsonl", -1))
        return
    for corrections, votes, method, name in product(
        given.corrections, given.votes, given.methods, given.guilds
    ):
        done = {(r["guild"], r["method"], r["votes"], r["corrections"]) for r in _rows(results)}
        if (name, method, votes, corrections) in done:
            continue
        guild, folder = at(name, given.out)
        row = cell(guild, given.model, method, votes, corrections, folder, console)
        _append(results, row)
        console.print(f"{name} {method} {votes} {corrections}: {_in_words(row)}")


if __name__ == "__main__":
    main()
