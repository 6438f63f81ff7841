"""The starter pack: a few hundred rows that come with GuildGPT, and prompts to try a model on."""

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


@contextmanager
def _file(name: str) -> Iterator[Path]:
    with as_file(files("guildgpt.data") / "starter" / name) as path:
        yield path
