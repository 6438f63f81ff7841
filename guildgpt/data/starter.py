"""The starter pack: rows to train on, prompts to try a model on, tasks that check themselves."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from guildgpt.data.files import read_records

FOLDER = Path(__file__).with_name("starter")
TRAINING_FILES = (FOLDER / "conversations.jsonl", FOLDER / "comparisons.jsonl")
FILES = {"starter": TRAINING_FILES, "constrained": (FOLDER / "constrained.jsonl",)}  # by source


class StarterPrompt(NamedTuple):
    """A question that no training row asks, and what kind of question it is."""

    prompt: str
    category: str


class StarterTask(NamedTuple):
    """A small Python task, and the tests that an answer's code has to pass."""

    prompt: str
    tests: str  # one `assert` a line, to be run after the code that was written


class Fact(NamedTuple):
    """A question with one short answer that does not change, and the forms that it may have."""

    question: str
    answers: list[str]
    topic: str


class UnsafeRequest(NamedTuple):
    """What no assistant should help with, and what harm it would do."""

    request: str
    harm: str


def starter_prompts() -> list[StarterPrompt]:
    """The 60 held-out prompts, in file order."""
    return [StarterPrompt(**row) for _, row in read_records(FOLDER / "prompts.jsonl")]


def pool_prompts() -> list[StarterPrompt]:
    """150 more, short ones for people to vote on: how to do things, programming, questions."""
    return [StarterPrompt(**row) for _, row in read_records(FOLDER / "pool.jsonl")]


def starter_facts() -> list[Fact]:
    """The 100 questions of facts, in file order."""
    return [Fact(**row) for _, row in read_records(FOLDER / "facts.jsonl")]


def unsafe_requests() -> list[UnsafeRequest]:
    """The 60 unsafe requests, in file order. Nothing in them says how anything is done."""
    return [UnsafeRequest(**row) for _, row in read_records(FOLDER / "unsafe.jsonl")]


def starter_tasks() -> list[StarterTask]:
    """The Python tasks, in file order; each asks for one function of a few lines."""
    return [StarterTask(**row) for _, row in read_records(FOLDER / "verifiable.jsonl")]
