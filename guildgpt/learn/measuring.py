"""A gate's measurements, one after the other: each kept as soon as it is there."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from guildgpt.evaluate.config import GateConfig
from guildgpt.learn.answering import PROMPTS, Answered, Answers, answers_of, asked_at
from guildgpt.learn.bounds import Measure, failures
from guildgpt.learn.judge import Judged, judged
from guildgpt.learn.measures import in_order, of_answers, of_judge, of_weights
from guildgpt.learn.weights import Read, Written, has_weights, held_out_rows, read
from guildgpt.network.world import World
from guildgpt.pipeline.folder import read_json, write_json
from guildgpt.recipe import Recipe
from guildgpt.terminal import say

FORMAT = 1
# What is asked. The others are bounds: what was measured may be held to another one.
ASKS = {
    *("prompts", "constrained", "facts", "unsafe", "rows", "max_tokens", "temperature"),
    *("judge_share", "judge_from"),
}


@dataclass(frozen=True, slots=True)
class Contest:
    """Who is held against whom: versions' ids, or models' names, and where they lie."""

    candidate: str
    candidate_at: str
    serving: str
    serving_at: str
    ancestor: str


def measure(
    contest: Contest, recipe: Recipe, folder: Path, console: Console, *, turn: Path | None = None
) -> dict[str, Any]:
    """What `decisions.gate` holds; see `gate.py`. What lies in `folder` of the same contest is not
    measured again. The votes of a judge lie in the folder of a `turn`.

    Raises what opening a model raises.
    """
    config = recipe.gate
    _claim(folder, contest, recipe)
    say(console, f"The gate: {contest.candidate} is held against {contest.serving}.")
    ours = _answers(contest.candidate, contest.candidate_at, config, folder / "candidate", console)
    theirs = _answers(contest.serving, contest.serving_at, config, folder / "serving", console)
    weights = _read(contest, config, ours, folder, console)
    said = _judge(contest, recipe, ours, theirs, folder, console, turn)
    measures = of_answers(ours, theirs, config)
    measures += of_weights(*weights, config)
    return _result(contest, in_order([*measures, of_judge(said, config)]))


def _answers(name: str, at: str, config: GateConfig, folder: Path, console: Console) -> Answers:
    say(console, f"{name} answers")
    return answers_of(at, asked_at(config), config, folder, lambda line: say(console, line))


def unmeasured(contest: Contest) -> dict[str, Any]:
    """The same where the gate is switched off."""
    return _result(contest, []) | {"on": False}


def _result(contest: Contest, measures: Sequence[Measure]) -> dict[str, Any]:
    why = failures(measures)
    return {
        "format": FORMAT,
        "on": True,
        "passed": not why,
        "why": why,
        "candidate": contest.candidate,
        "serving": contest.serving,
        "ancestor": contest.ancestor,
        "measures": [asdict(one) for one in measures],
    }


def _claim(folder: Path, contest: Contest, recipe: Recipe) -> None:
    """What lies there is of this contest; of another one it is thrown away."""
    inputs = {
        "format": FORMAT,
        **asdict(contest),
        "gate": recipe.gate.model_dump(mode="json", include=ASKS),
        "reward": recipe.reward.model_dump(mode="json"),
    }
    file = folder / "inputs.json"
    if read_json(file) == inputs:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, inputs)


def _read(
    contest: Contest, config: GateConfig, ours: Answers, folder: Path, console: Console
) -> tuple[Read | str, Read | str, Read | str]:
    """What torch reads of candidate, who serves and the ancestor; in words, where it cannot."""
    if not has_weights(contest.candidate_at):
        why = "the candidate has no weights that torch reads: a GGUF alone tells no probabilities"
        return why, why, why
    # Bits of who serves are the ancestor's, where nothing else can be read.
    other = contest.serving_at if has_weights(contest.serving_at) else contest.ancestor
    answers = [
        Written(prompt, answer)
        for prompt, answer in zip(_prompts(config), ours.get(PROMPTS, []), strict=True)
    ]
    world = World()
    models = (contest.candidate_at, other, contest.ancestor)
    rows = held_out_rows(models, config.rows)
    say(console, f"reading {len(rows):,} held-out rows and {len(answers):,} answers")
    heat = config.temperature
    candidate = read(models[0], rows, answers, heat, world, folder / "candidate-read.json")
    ancestor = read(models[2], rows, answers, heat, world, folder / "ancestor-read.json")
    if other == contest.ancestor:
        return candidate, ancestor, ancestor
    serving = read(other, rows, [], heat, world, folder / "serving-read.json")
    return candidate, serving, ancestor


def _judge(
    contest: Contest,
    recipe: Recipe,
    ours: Answers,
    theirs: Answers,
    folder: Path,
    console: Console,
    turn: Path | None,
) -> Judged | str:
    if turn is None:
        return "a judge is trained in a turn of the circle, from votes that were set aside"
    mine, others = _of_prompts(ours), _of_prompts(theirs)
    if not mine:
        return "nothing was asked"
    return judged(
        turn, contest.ancestor, recipe, _prompts(recipe.gate), mine, others, folder, console
    )


def _prompts(config: GateConfig) -> Sequence[str]:
    asked = asked_at(config).get(PROMPTS)
    return asked.prompts if asked else ()


def _of_prompts(answers: Answers) -> list[Answered]:
    return answers.get(PROMPTS, [])
