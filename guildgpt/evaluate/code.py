"""`guildgpt eval MODEL --code TASKS`: Python tasks, answered by a model, tried in the sandbox."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from guildgpt.chat import Message
from guildgpt.engines.cores import usable_cores
from guildgpt.engines.served_at import ServedAt
from guildgpt.errors import DataError
from guildgpt.evaluate.code_tasks import CodeTask, CodeTasks, read_code_tasks
from guildgpt.evaluate.intervals import paired_difference, wilson
from guildgpt.evaluate.opening import Opened, Written, open_model
from guildgpt.evaluate.served import ServedModel, open_served
from guildgpt.model.provenance import trained_on
from guildgpt.network.sampler import Sampling
from guildgpt.network.world import World
from guildgpt.rewards.confine import Limits, level
from guildgpt.rewards.sandbox import REMEDY, SandboxError
from guildgpt.rewards.verify import try_all
from guildgpt.terminal import say, visible
from guildgpt.text.figures import percent, signed

LIMITS = Limits(seconds=15.0, cpu_seconds=10)  # the slowest of the published solutions takes six
OUTCOMES = ("passed", "wrong", "error", "time out", "no code", "unfinished")
KS = (1, 10, 100)
HEAT = 0.2  # the temperature of several answers, if none is given: Chen et al.'s for pass@1


@dataclass(frozen=True)
class Tried:
    """What became of one model's answers: (problems, answers) outcomes and texts."""

    outcomes: list[list[str]]
    texts: list[list[str]]
    chat: bool

    @property
    def rates(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """pass@1 of each problem (N,)."""
        return np.array([pass_at(1, len(one), one.count("passed")) for one in self.outcomes])


def pass_at(k: int, answers: int, passed: int) -> float:
    """1 - C(n - c, k) / C(n, k): the unbiased estimate that one of k answers passes, from n of
    which c passed. Chen et al. 2021, equation 1."""
    return 1.0 - math.comb(answers - passed, k) / math.comb(answers, k)


def evaluate_code(
    model: str,
    source: str,
    world: World,
    *,
    against: str | None = None,
    answers: int = 1,
    temperature: float | None = None,
    max_tokens: int = 512,
    seed: int = 0,
    limit: int | None = None,
    chat: bool | None = None,
    at: ServedAt | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """What `guildgpt eval --code` reports, as plain values.

    A model is asked as a chat if its control tokens were trained, else it continues plain text;
    `chat` says otherwise. An answer that did not end within `max_tokens` counts as failed and is
    not run. With `against`, both models answer the same tasks, one of them in memory at a time, and
    the differences are those of the first model less the other. `at` is where they are served, if
    they are not computed here: asked as chats then, if `chat` does not say otherwise.
    """
    tasks = read_code_tasks(source)
    if level() == "none":
        raise SandboxError("this machine cannot confine code", where="--code", remedy=REMEDY)
    if temperature is None:
        temperature = HEAT if answers > 1 else 0.0
    if temperature == 0 and answers > 1:
        raise DataError(
            f"{answers} greedy answers to a task are one and the same",
            where="--temperature",
            remedy="Give a temperature above 0, or leave --answers out.",
        )
    asked = tasks.tasks[:limit]
    sampling = Sampling(max_tokens, temperature)
    names = [model, *([against] if against else [])]
    served = open_served(names, at, chat=chat is not False) if at else []
    tried = []
    for index, name in enumerate(names):
        shown = visible(name).plain
        on_progress(f"{shown}: loading")
        opened = served[index] if at else open_model(name, world, chat=chat)
        tried.append(_try(opened, asked, sampling, answers, seed, shown, on_progress))
        del opened
    ks = [k for k in KS if k <= answers]
    return {
        "tasks": tasks.name,
        "problems": len(asked),
        "answers": answers,
        "sampling": {"max_tokens": max_tokens, "temperature": temperature, "seed": seed},
        "models": [_figures(*one, ks) for one in zip(names, tried, strict=True)],
        "difference": _difference(*tried) if against else None,
        "notes": _notes(names, tried, tasks),
        "tried": [
            {"task": task.id, "answers": [_shown(one, index) for one in tried]}
            for index, task in enumerate(asked)
        ],
    }


def _try(
    opened: Opened | ServedModel,
    tasks: Sequence[CodeTask],
    sampling: Sampling,
    answers: int,
    seed: int,
    name: str,
    on_progress: Callable[[str], None],
) -> Tried:
    """Ask for every task so many answers, and run their code."""
    chat = opened.chat
    rows = [task for task in tasks for _ in range(answers)]
    written = _write(opened, rows, sampling, seed, name, on_progress)
    codes = [
        task.code(one.text, chat=chat) if one.ended else None
        for task, one in zip(rows, written, strict=True)
    ]
    on_progress(f"{name}: running {sum(code is not None for code in codes):,} programs")
    results = try_all(
        codes,
        [task.tests for task in rows],
        usable_cores(),
        LIMITS,
        where=[task.where for task in rows],
    )
    outcomes = [
        result.outcome if one.ended else "unfinished"
        for result, one in zip(results, written, strict=True)
    ]
    texts = [one.text for one in written]
    starts = range(0, len(rows), answers)
    return Tried(
        [outcomes[start : start + answers] for start in starts],
        [texts[start : start + answers] for start in starts],
        chat,
    )


def _write(
    opened: Opened | ServedModel,
    rows: Sequence[CodeTask],
    sampling: Sampling,
    seed: int,
    name: str,
    on_progress: Callable[[str], None],
) -> list[Written]:
    """An answer to each row. A question that leaves no room for one is not asked: it is not
    finished."""
    chat = opened.chat
    prompts = [
        opened.asking([Message("user", task.question)]) if chat else opened.plain(task.begun)
        for task in rows
    ]
    room = opened.holds - sampling.max_new_tokens
    fits = [index for index, ids in enumerate(prompts) if len(ids) <= room]
    if not fits:
        raise DataError(
            f"no task leaves room for an answer of {sampling.max_new_tokens:,} tokens",
            where=name,
            remedy=f"The model holds {opened.holds:,} tokens: lower --max-tokens.",
        )
    written = [Written("", ended=False, ids=())] * len(rows)
    found = opened.write(
        [prompts[index] for index in fits],
        sampling,
        seed=seed,
        stops=() if chat or not rows else rows[0].stops,
        on_progress=lambda done: on_progress(f"{name}: {done:,} of {len(rows):,} answers"),
    )
    for index, one in zip(fits, found, strict=True):
        written[index] = one
    return written


def _figures(name: str, tried: Tried, ks: Sequence[int]) -> dict[str, Any]:
    counts = [(len(one), one.count("passed")) for one in tried.outcomes]
    rate = float(tried.rates.mean())
    low, high = wilson(rate, len(counts))
    outcomes = Counter(outcome for one in tried.outcomes for outcome in one)
    return {
        "model": name,
        "chat": tried.chat,
        "pass_at": {str(k): float(np.mean([pass_at(k, n, c) for n, c in counts])) for k in ks},
        "low": low,
        "high": high,
        "outcomes": {outcome: outcomes[outcome] for outcome in OUTCOMES},
    }


def _difference(one: Tried, other: Tried) -> dict[str, Any]:
    apart = one.rates - other.rates
    value, low, high = paired_difference(apart)
    return {
        "value": value,
        "low": low,
        "high": high,
        "better": int((apart > 0).sum()),
        "worse": int((apart < 0).sum()),
        "clear": low > 0 or high < 0,
    }


def _notes(names: Sequence[str], tried: Sequence[Tried], tasks: CodeTasks) -> list[str]:
    notes = [
        f"{name} was trained on this very file: what it knows by heart counts, too."
        for name in dict.fromkeys(names)
        if tasks.sha256 and tasks.sha256 in trained_on(Path(name).expanduser())
    ]
    if len({one.chat for one in tried}) > 1:
        notes.append(
            "One is asked as a chat, the other continues plain text; --plain asks both alike."
        )
    return notes


def _shown(tried: Tried, index: int) -> list[dict[str, str]]:
    pairs = zip(tried.outcomes[index], tried.texts[index], strict=True)
    return [{"outcome": outcome, "answer": text} for outcome, text in pairs]


def show_code(result: Mapping[str, Any], console: Console) -> None:
    """`evaluate_code`'s figures as a table, and a comparison in a sentence."""
    models = result["models"]
    several = f", {result['answers']} answers each" if result["answers"] > 1 else ""
    table = Table(
        "",
        *(Column(visible(one["model"]), justify="right", overflow="fold") for one in models),
        title=visible(f"{result['tasks']}: {result['problems']:,} tasks{several}"),
        title_justify="left",
    )

    def row(name: str, *cells: str) -> None:
        table.add_row(name, *cells)

    row("asked", *("as a chat" if one["chat"] else "to continue" for one in models))
    for k in models[0]["pass_at"]:
        row(f"pass@{k}", *(percent(one["pass_at"][k]) for one in models))
        if k == "1":
            between = (f"{percent(one['low'])} to {percent(one['high'])}" for one in models)
            row("  95% interval", *between)
    table.add_section()
    for outcome in OUTCOMES:
        row(outcome, *(f"{one['outcomes'][outcome]:,}" for one in models))
    console.print(table)
    if result["difference"]:
        say(console, _compared(result))
    say(console, *result["notes"])


def _compared(result: Mapping[str, Any]) -> str:
    apart = result["difference"]
    first, other = (one["model"] for one in result["models"])
    points = f"{signed(apart['value'], ' points')}"
    between = f"95% interval {signed(apart['low'], '')} to {signed(apart['high'], '')}"
    verdict = (
        f"{first} is {'better' if apart['value'] > 0 else 'worse'} than {other}"
        if apart["clear"]
        else f"These tasks do not say which of the two is better, {first} or {other}"
    )
    return (
        f"{verdict}: {points} of pass@1 ({between}); it does better on {apart['better']:,} of "
        f"{result['problems']:,} tasks and worse on {apart['worse']:,}."
    )
