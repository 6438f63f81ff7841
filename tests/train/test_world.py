"""Several processes train what one would: their rows are shared out, their losses and gradients
summed, and only the main one writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, multiprocessing

from guildgpt.data.rated import of_rankings
from guildgpt.network.world import World
from guildgpt.train.config import DpoConfig, KtoConfig, RowsConfig
from guildgpt.train.dpo import train_dpo
from guildgpt.train.kto import train_kto
from guildgpt.train.loop import Job
from guildgpt.train.next_token import train_whole
from guildgpt.train.on_policy import POLICY
from guildgpt.train.schedule import Schedule, share

from .comparisons import planted
from .conftest import Remembering, example, tiny_llama
from .policies import grpo, hats_of, outspoken, paid_for_small_ids, ppo

CPU = torch.device("cpu")
# Lengths differ, so that a mean over each process's own tokens would be another loss.
ROWS = [[example(4 + 3 * (index % 5), seed=index)] for index in range(22)]
SETTINGS: dict[str, Any] = {"batch_size": 5, "dtype": "float32", "checkpoint_minutes": 0}


def next_token(folder: Path, world: World) -> None:
    held_out = {"rows": [example(9, seed=100 + n) for n in range(3)]}
    config = RowsConfig(steps=6, evaluations=2, learning_rate=1e-2, **SETTINGS)
    job = Job(folder, 0, Remembering(), world)
    model, _ = train_whole(tiny_llama(), ROWS, held_out, config, job)
    keep(folder, world, dict(model.named_parameters()))


def preferences(folder: Path, world: World) -> None:
    hats = hats_of(outspoken())
    config = DpoConfig(steps=5, evaluations=0, learning_rate=1e-2, **SETTINGS)
    train_dpo(hats, planted(24, seed=0), {}, config, Job(folder, 0, Remembering(), world))
    keep(folder, world, hats.parameters(POLICY))


def verdicts(folder: Path, world: World) -> None:
    """Of an odd number, so that the processes' shares of a step differ."""
    hats = hats_of(outspoken())
    config = KtoConfig(steps=5, evaluations=0, learning_rate=1e-2, **SETTINGS)
    rows = of_rankings(planted(24, seed=0))[:-1]
    train_kto(hats, rows, {}, config, Job(folder, 0, Remembering(), world))
    keep(folder, world, hats.parameters(POLICY))


def on_policy(folder: Path, world: World) -> None:
    hats = grpo(
        folder,
        Remembering(),
        world=world,
        scorer=paid_for_small_ids,
        steps=4,
        batch_size=12,
        group=4,
        show_every=1,
    )
    keep(folder, world, hats.parameters(POLICY))


def an_answer_a_minibatch(folder: Path, world: World) -> None:
    """With fewer answers in a minibatch than there are processes, one of them has none: here the
    same one in every minibatch."""
    hats = ppo(
        folder,
        Remembering(),
        world=world,
        scorer=paid_for_small_ids,
        steps=3,
        batch_size=4,
        minibatches=4,
        passes=2,
    )
    keep(folder, world, hats.parameters(POLICY))


def beside_demonstrations(folder: Path, world: World) -> None:
    """Five rows an update, so that the processes' shares differ."""
    hats = ppo(
        folder,
        Remembering(),
        world=world,
        scorer=paid_for_small_ids,
        shown=[row for [row] in ROWS],
        steps=3,
        learning_rate=1e-3,
        batch_size=8,
        minibatches=2,
        demonstrations={"weight": 0.5, "rows": 5},
    )
    keep(folder, world, hats.parameters(POLICY))


STAGES = {
    "next token": next_token,
    "dpo": preferences,
    "kto": verdicts,
    "grpo": on_policy,
    "an answer a minibatch": an_answer_a_minibatch,
    "beside demonstrations": beside_demonstrations,
}


NOTED = ("approx_kl", "clip_fraction", "ratio", "value_loss")  # the means over a policy's passes


def keep(folder: Path, world: World, weights: Any) -> None:
    """The weights that a process came to, each process for itself."""
    kept = {name: tensor.detach().clone() for name, tensor in weights.items()}
    save_file(kept, folder / f"rank-{world.rank}.safetensors")


def one_of_two(rank: int, stage: str, folder: Path) -> None:
    torch.set_num_threads(1)
    meeting = (folder.parent / "meeting").as_uri()
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    try:
        STAGES[stage](folder, World(CPU, rank, 2))
    finally:
        distributed.destroy_process_group()


def logged(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_come_to_the_weights_of_one(tmp_path: Path, stage: str) -> None:
    alone, both = tmp_path / "one", tmp_path / "two"
    alone.mkdir()
    both.mkdir()
    STAGES[stage](alone, World(CPU))
    multiprocessing.spawn(one_of_two, args=(stage, both), nprocs=2)  # type: ignore[no-untyped-call]

    expected = load_file(alone / "rank-0.safetensors")
    assert expected
    for rank in (0, 1):
        found = load_file(both / f"rank-{rank}.safetensors")
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5, msg=name)
    # Only the main process writes, and what it writes is of both.
    one, two = logged(alone), logged(both)
    assert [line["step"] for line in two] == [line["step"] for line in one]
    for name in ("loss", "tokens", "trained", "grad_norm", *NOTED):
        for line, other in zip(one, two, strict=True):
            if name in line:
                assert other[name] == pytest.approx(line[name], abs=1e-5), name
    checkpoints = [path.name for path in sorted((both / "checkpoints").iterdir())]
    assert checkpoints == [path.name for path in sorted((alone / "checkpoints").iterdir())]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_row_is_one_process_s(size: int) -> None:
    rows = list(range(7))
    shares = [share(rows, World(CPU, rank, size)) for rank in range(size)]
    assert [row for some in shares for row in some] == rows
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    config = RowsConfig(batch_size=4, epochs=2)
    whole = Schedule.of(10, config, 0, World(CPU))
    for step in range(whole.steps):
        parts = [
            Schedule.of(10, config, 0, World(CPU, rank, size)).own_rows(step)
            for rank in range(size)
        ]
        assert [row for part in parts for row in part] == whole.rows(step)
