"""PPO on a model of two layers: it finds what it is paid for, and starts where theory says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from guildgpt.model.config import AdapterConfig
from guildgpt.model.hats import Hats
from guildgpt.train.config import PpoConfig
from guildgpt.train.ppo import train_ppo
from guildgpt.train.rollout import Answer, Prompt

from .conftest import Remembering, tiny_llama

EOS, WANTED = 3, 17


def outspoken() -> Any:
    """The tiny model with a head large enough that a policy can be sure of something."""
    model = tiny_llama()
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(10)
    return model


class Letters:
    """A tokenizer of sorts: what the scorer reads are ids."""

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))


def paid_for_one_token(answers: Sequence[Answer]) -> tuple[Any, Mapping[str, Any]]:
    """The share of an answer's tokens that are `WANTED`."""
    scores = np.array([float((a.sampled.ids == WANTED).mean()) for a in answers])
    return scores, {"wanted": scores}


def run(folder: Path, watcher: Remembering, seed: int = 0, **changes: Any) -> Any:
    settings = {
        "steps": 40,
        "batch_size": 32,
        "max_new_tokens": 8,
        "learning_rate": 1e-2,
        "lora": AdapterConfig(rank=8, alpha=16),
        "missing_eos": None,
        "kl": {"beta": 0.0},
        "guards": {"min_entropy": 0.0, "max_kl": 1e9, "max_loops": 1.0},
        "show_every": 0,
        "checkpoint_minutes": 0,
        "dtype": "float32",
        "decay": "constant",
        **changes,
    }
    hats = Hats(outspoken(), torch.float32, torch.device("cpu"))
    generator = np.random.default_rng(5)
    prompts = [Prompt((), tuple(generator.integers(4, 60, size=5).tolist())) for _ in range(16)]
    return train_ppo(
        hats,
        None,
        None,
        prompts,
        paid_for_one_token,
        PpoConfig(**settings),
        Letters(),  # type: ignore[arg-type]
        EOS,
        folder,
        seed=seed,
        watcher=watcher,
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_known_reward_is_reached(tmp_path: Path, watcher: Remembering, seed: int) -> None:
    run(tmp_path, watcher, seed)
    rewards = [step["reward"] for step in watcher.steps]
    assert rewards[0] < 0.1
    assert np.mean(rewards[-3:]) > 0.7  # the frozen head allows 0.82 at most
