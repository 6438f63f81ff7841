"""Small policies, what they are asked, and what they are paid for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from guildgpt.chat import Message
from guildgpt.data.examples import Example
from guildgpt.model.config import AdapterConfig
from guildgpt.network.hats import Hats
from guildgpt.network.world import World
from guildgpt.train.config import GrpoConfig, PpoConfig
from guildgpt.train.grpo import Grpo
from guildgpt.train.on_policy import train_on_policy
from guildgpt.train.ppo import Ppo, value_model
from guildgpt.train.rollout import Episode, Prompt, Sampler, Scorer, Scores

from .conftest import Remembering, job, tiny_llama

EOS, WANTED = 3, 17
CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "steps": 40,
    "batch_size": 32,
    "max_new_tokens": 8,
    "learning_rate": 1e-2,
    "lora": AdapterConfig(rank=8, alpha=16),
    "missing_eos": "score",
    "kl": {"beta": 0.0},
    "guards": {"min_entropy": 0.0, "max_kl": 1e9, "max_loops": 1.0},
    "show_every": 0,
    "checkpoint_minutes": 0,
    "dtype": "float32",
    "decay": "constant",
}


def outspoken() -> Any:
    """The tiny model with a head large enough that a policy can be sure of something."""
    model = tiny_llama()
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(10)
    return model


def hats_of(model: Any, dtype: torch.dtype = torch.float32) -> Hats:
    return Hats(model, dtype, CPU)


class Letters:
    """A tokenizer of sorts: what the scorer reads are ids."""

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))


def asked(count: int = 16, length: int = 5) -> list[Prompt]:
    rows = np.random.default_rng(5).integers(4, 60, size=(count, length)).tolist()
    return [Prompt((Message("user", str(ids)),), tuple(ids)) for ids in rows]


def paid_for_one_token(episodes: Sequence[Episode]) -> Scores:
    """The share of an answer's tokens that are `WANTED`."""
    scores = np.array([float((e.sampled.ids == WANTED).mean()) for e in episodes])
    return Scores(scores, {"wanted": scores})


def paid_for_small_ids(episodes: Sequence[Episode]) -> Scores:
    """The share of an answer's tokens that are below 32: there are some from the start."""
    scores = np.array([float((e.sampled.ids < 32).mean()) for e in episodes])
    return Scores(scores, {"small": scores})


def ppo(
    folder: Path,
    watcher: Remembering,
    seed: int = 0,
    *,
    hats: Hats | None = None,
    scorer: Scorer = paid_for_one_token,
    prompts: Sequence[Prompt] | None = None,
    world: World | None = None,
    shown: Sequence[Example] = (),
    **changes: Any,
) -> Hats:
    """Train a policy with PPO; the hats afterwards."""
    hats = hats or hats_of(outspoken())
    config = PpoConfig(**{**SETTINGS, **changes})
    method = Ppo(config, value_model(hats, None, config, seed))
    letters: Any = Letters()
    where = job(folder, watcher, seed, world)
    rest = (letters, EOS, where)
    train_on_policy(method, hats, prompts or asked(), scorer, *rest, demonstrations=shown)
    return hats


def grpo(
    folder: Path,
    watcher: Remembering,
    seed: int = 0,
    *,
    hats: Hats | None = None,
    scorer: Scorer = paid_for_one_token,
    world: World | None = None,
    sampler: Sampler | None = None,
    **changes: Any,
) -> Hats:
    """Train a policy with GRPO; the hats afterwards."""
    hats = hats or hats_of(outspoken())
    config = GrpoConfig(**{**SETTINGS, **changes})
    letters: Any = Letters()
    where = job(folder, watcher, seed, world)
    train_on_policy(Grpo(config), hats, asked(), scorer, letters, EOS, where, sampler)
    return hats
