"""A judge for the gate: a reward model that learns from votes which the candidate never saw.

They were set aside (`aside.py`). The judge is tried on the rows that the candidate learned from,
none of which it saw itself: if it is right there no more often than a coin, it agrees with nobody,
and what it says is advice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from guildgpt.bases.base import Base, load_base
from guildgpt.chat import Message
from guildgpt.data import load
from guildgpt.data.examples import Example, Ranking, answering, rankings
from guildgpt.data.spec import SourceSpec
from guildgpt.data.split import digest
from guildgpt.evaluate.head_to_head import WinRate, win_rate
from guildgpt.evaluate.intervals import Share
from guildgpt.evaluate.opening import as_trained
from guildgpt.evaluate.preferences import finite, measure_preferences
from guildgpt.feedback.exporting.learnable import ROWS
from guildgpt.learn.answering import Answered
from guildgpt.learn.aside import ASIDE, FEWEST, rows_in, votes_of
from guildgpt.network.reward_model import RewardModel
from guildgpt.network.world import World
from guildgpt.pipeline.folder import once
from guildgpt.recipe import Recipe
from guildgpt.train.loop import Job
from guildgpt.train.progress import ProgressWatcher
from guildgpt.train.reward import train_reward

TRIED_ON = 200  # rows at most that a judge is tried on


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge said: how often it prefers the candidate's answers; how many rows taught it,
    with how many votes behind all; and how often it is right where people have said it."""

    rows: int
    votes: int
    wins: WinRate
    right: Share


def judged(
    folder: Path,
    ancestor: str,
    recipe: Recipe,
    prompts: Sequence[str],
    ours: Sequence[Answered],
    theirs: Sequence[Answered],
    work: Path,
    console: Console,
) -> Judged | str:
    """What the judge of a turn says of both models' answers, or what was kept of that; in words,
    why there is none."""
    own, others = rows_in(folder / ASIDE), rows_in(folder / ROWS)
    if len(own) < FEWEST:
        return "no votes were set aside for a judge: all of them taught the candidate"

    context = recipe.model.context

    def measure() -> Judged:
        world, base = World(), load_base(as_trained(ancestor))
        rows, _ = _rankings(folder / ASIDE, base, context)
        seen, _ = _rankings(folder / ROWS, base, context)
        seen = sorted(seen, key=lambda row: digest("judge", row.tree))[:TRIED_ON]
        job = Job(work / "judge", 0, ProgressWatcher(console, "judge"), world)
        model = train_reward(base, rows, {}, [], recipe.reward, job).model
        figures = measure_preferences(model, {"votes": seen})["votes"]
        right = Share(figures.pairs, figures.accuracy, figures.low, figures.high)
        wins = _wins(model, base, prompts, ours, theirs)
        return Judged(len(rows), votes_of([*own, *others]), wins, right)

    return once(work / "judged.json", Judged, measure)


def _wins(
    model: RewardModel,
    base: Base,
    prompts: Sequence[str],
    ours: Sequence[Answered],
    theirs: Sequence[Answered],
) -> WinRate:
    """How often the candidate's answers score higher, read in the judge's own tokens; equal ones
    tie."""

    def examples(answers: Sequence[Answered]) -> list[Example]:
        template, tokenizer = base.chat.template, base.chat.tokenizer
        return [
            answering(
                template.prompt([Message("user", prompt)], tokenizer),
                template.answer(one.text, tokenizer),
                "written",
                end=base.chat.eos_id,
            )
            for prompt, one in zip(prompts, answers, strict=True)
        ]

    mine, other = examples(ours), examples(theirs)
    scores, others = (finite(model.scores(some)) for some in (mine, other))
    same = np.array([a.text == b.text for a, b in zip(ours, theirs, strict=True)])
    scores = np.where(same, others, scores)
    lengths, other_lengths = (
        np.array([float(one.trained) for one in some]) for some in (mine, other)
    )
    return win_rate(scores, others, lengths, other_lengths, np.arange(len(prompts)))


def _rankings(file: Path, base: Base, context: int) -> tuple[list[Ranking], Any]:
    source = load(SourceSpec(source=f"jsonl:{file}", licence="own", written_by="own model"))
    return rankings(source.comparisons, base.chat.tokenizer, base.chat.template, context=context)
