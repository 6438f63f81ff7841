"""A model small enough to train in milliseconds, rows for it, and a watcher that remembers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from guildgpt.data.examples import Example
from guildgpt.network.world import World
from guildgpt.train.config import TrainConfig
from guildgpt.train.loop import Job
from guildgpt.train.progress import Watcher
from guildgpt.train.schedule import Schedule

VOCABULARY = 64


class Remembering(Watcher):
    """A `Watcher` that keeps what it is told."""

    def __init__(self) -> None:
        self.starts: list[tuple[int, int]] = []
        self.steps: list[dict[str, float]] = []
        self.evaluations: list[tuple[int, Mapping[str, Mapping[str, float]]]] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def started(self, steps: int, done: int) -> None:
        self.starts.append((steps, done))

    def stepped(self, metrics: Mapping[str, float]) -> None:
        self.steps.append(dict(metrics))

    def measured(self, step: int, held_out: Mapping[str, Mapping[str, float]]) -> None:
        self.evaluations.append((step, held_out))

    def noted(self, message: str) -> None:
        self.notes.append(message)

    def warned(self, message: str) -> None:
        self.warnings.append(message)

    @property
    def losses(self) -> list[float]:
        return [step["loss"] for step in self.steps]


def job(folder: Path, watcher: Watcher, seed: int = 0, world: World | None = None) -> Job:
    """Training in a folder, by this process alone if no other world is given."""
    return Job(folder, seed, watcher, world or World(torch.device("cpu")))


def order(rows: Sequence[object], config: TrainConfig, seed: int = 0) -> Schedule:
    """Which of the rows come when, all of them in this process."""
    return Schedule.of(len(rows), config, seed, World(torch.device("cpu")))


@pytest.fixture
def watcher() -> Remembering:
    return Remembering()


@pytest.fixture
def model() -> LlamaForCausalLM:
    """A fresh Llama of 10 thousand weights, always the same one."""
    return tiny_llama()


def tiny_llama() -> LlamaForCausalLM:
    """What `model` gives."""
    torch.manual_seed(3)
    shape = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(shape).train()


def example(length: int, seed: int = 0, untrained: int = 1) -> Example:
    """Random ids, of which the first `untrained` are only read."""
    ids = np.random.default_rng(seed).integers(0, VOCABULARY, length, dtype=np.int32)
    mask = np.ones(length, dtype=np.bool_)
    mask[:untrained] = False
    return Example(ids, mask, length, "made")
