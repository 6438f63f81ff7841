"""A guild that has voted, and the ancestor of its versions: trained once, in seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest
import tiny
from rich.console import Console

from guildgpt.feedback.records import Candidate, Decision
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.prompts import NewPrompt
from guildgpt.learn.turn import Options
from guildgpt.model.locate import locate
from guildgpt.model.version import version_of
from guildgpt.pipeline.run import run
from guildgpt.recipe import load_recipe

T = TypeVar("T")
VOTERS = 6
LEARN = """\
name = "tiny-learn"
stages = ["dpo"]

[model]
base = "BASE"
context = 512

[data]
sources = ["feedback"]
held_out = 0

[dpo]
epochs = 2
batch_size = 4
lora = {rank = 4, alpha = 8}
learning_rate = 1e-2
checkpoint_minutes = 0
dtype = "float32"

[evaluate]
prompts = 0
max_tokens = 4

[gate]
prompts = 6
constrained = 2
facts = 4
unsafe = 4
rows = 4
max_tokens = 8
# So small a model goes far in a turn. What fails, tests of the gate say.
more_loops = 1
fewer_ends = 1
shortest = 0
longest = 1000
fewer_kept = 1
more_bits = 100
most_kl = 1e6
fewer_right = 1
fewer_safe = 1
least_wins = 0
judge_share = 0

[export]
gguf = ["F16"]
"""


@pytest.fixture(scope="session")
def ancestor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers in a few words, and saw no vote."""
    folder = tmp_path_factory.mktemp("ancestor")
    recipe = tiny.write_run(folder, tiny.RECIPE.replace('"Q8_0"', '"F16"'))
    console = Console(file=StringIO())
    run(load_recipe(recipe), recipe.read_text(), folder / "run", console=console)
    return folder / "run" / "sft" / "model"


@dataclass
class Guild:
    """A store in which the ancestor serves, and the files of its circle."""

    folder: Path
    ancestor: Path
    answer: bool = True  # what the operator says when asked

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'feedback.db'}"

    @property
    def recipe(self) -> Path:
        return self.folder / "learn.toml"

    def options(self, least: int = 10) -> Options:
        console = Console(file=StringIO(), width=200)
        work = self.folder / "learn"
        return Options(
            self.url, str(self.recipe), (), work, 0.2, least, console, lambda _: self.answer
        )

    def do(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """Something in the store."""

        async def opened() -> T:
            async with await Store.open(self.url, key=member_key(self.url)) as store:
                return await work(store)

        return asyncio.run(opened())

    async def prepare(self, store: Store) -> None:
        version = version_of(locate(str(self.ancestor)))
        await store.versions.register(version)
        await store.releases.add({version.id: 1.0}, "serve")
        texts = [f"Where is the {place} of house {n}?" for place in tiny.PLACES for n in range(6)]
        await store.prompts.add(NewPrompt(text, "tests", "CC0-1.0") for text in texts)

    async def vote(
        self,
        store: Store,
        rounds: int,
        decision: Decision | None = None,
        for_candidate: float = 1.0,
    ) -> None:
        """Rounds in which all members like the answers by the lamp; or, in a decision, in which
        this share of them is for the candidate."""
        chance = Random(rounds)
        [serving, *_] = await store.releases.current()
        versions = [serving.version_id] * 2
        if decision is not None:
            versions = [decision.candidate_id or "", decision.baseline_id or ""]
        id = decision.id if decision else None
        for turned in range(rounds):
            purpose = "decide" if decision else "train"
            prompt = await store.prompts.next(purpose, chance, decision_id=id)
            assert prompt is not None
            pair = [
                Candidate("By the lamp.", versions[0], None, "eos"),
                Candidate("It stands there, near the river.", versions[1], None, "eos"),
            ]
            if turned % 2:  # who always took the same side would be found
                pair.reverse()
            made = await store.rounds.open(prompt, pair, "discord", decision_id=id)
            for number in range(VOTERS):
                member = await store.members.of_user(10**17 + number)
                best = turned % 2 if number < for_candidate * VOTERS else 1 - turned % 2
                await store.votes.cast(made.comparison_id, member.id, "ranked", (best, 1 - best))
            await store.rounds.end(made.id)


@pytest.fixture
def guild(tmp_path: Path, ancestor: Path) -> Guild:
    made = Guild(tmp_path, ancestor)
    made.recipe.write_text(LEARN.replace("BASE", str(ancestor)), encoding="utf-8")
    made.do(made.prepare)
    return made
