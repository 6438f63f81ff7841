"""The starter pack: rows to train on, prompts to try a model on, tasks that check themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

from guildgpt.data.lines import read_json_lines

TRAINING_FILES = ("conversations.jsonl", "comparisons.jsonl")


class StarterPrompt(NamedTuple):
    """A question that no training row asks, and what kind of question it is."""

    prompt: str
    category: str


class StarterTask(NamedTuple):
    """A small Python task, and the tests that an answer's code has to pass."""

    prompt: str
    tests: str  # one `assert` a line, to be run after the code that was written


@contextmanager
def training_files() -> Iterator[tuple[Path, ...]]:
    """Paths of the pack's rows to train on, for as long as the context lasts (a wheel may be
    zipped)."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(_file(name)) for name in TRAINING_FILES)


def starter_prompts() -> list[StarterPrompt]:
    """The 60 held-out prompts, in file order."""
    with _file("prompts.jsonl") as path:
        return [
            StarterPrompt(str(row["prompt"]), str(row["category"]))
            for _, row in read_json_lines(path)
        ]


def starter_tasks() -> list[StarterTask]:
    """The Python tasks, in file order; each asks for one function of a few lines."""
    with _file("verifiable.jsonl") as path:
        return [
            StarterTask(str(row["prompt"]), str(row["tests"])) for _, row in read_json_lines(path)
        ]


@contextmanager
def _file(name: str) -> Iterator[Path]:
    with as_file(files("guildgpt.data") / "starter" / name) as path:
        yield path
