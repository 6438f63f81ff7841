"""Stages that learn from feedback, killed with SIGKILL and started again: equal, bit for bit, to no
kill."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from tiny import FEEDBACK, write_feedback_run

from .test_resume import kill_at, numbers, start, steps, train_here

STAGES = {"reward": 8, "dpo": 5, "kto": 5, "grpo": 5, "ppo": 6}  # and the steps of each
ROAD = (
    FEEDBACK.replace('"reward", "judge", "ppo"]', ", ".join(f'"{stage}"' for stage in STAGES) + "]")
    .replace("steps = 24", "steps = 4")
    .replace("epochs = 2", f"steps = {STAGES['reward']}")
    .replace("steps = 3\n", f"steps = {STAGES['ppo']}\nshow_every = 2\nminibatches = 2\n")
    .replace('gguf = ["Q8_0"]', "gguf = []")
    .replace("max_tokens = 8", "max_tokens = 8\njudged_prompts = 4\njudged_answers = 1")
    + f"""
[ppo.kl]
beta = 0.1
adaptive = true
target = 0.5
horizon = 20

[dpo]
steps = {STAGES["dpo"]}
batch_size = 4
lora = {{rank = 4, alpha = 8}}
learning_rate = 1e-3
checkpoint_minutes = 0
evaluations = 2
dtype = "float32"

[kto]
steps = {STAGES["kto"]}
batch_size = 4
lora = {{rank = 4, alpha = 8}}
learning_rate = 1e-3
checkpoint_minutes = 0
evaluations = 2
dtype = "float32"

[grpo]
steps = {STAGES["grpo"]}
batch_size = 4
group = 2
max_new_tokens = 8
lora = {{rank = 4, alpha = 8}}
checkpoint_minutes = 0
dtype = "float32"
"""
)


def kept(stage: Path) -> dict[str, bytes]:
    """What a finished stage left that depends on no clock."""
    names = [
        "model/*.safetensors",
        "samples.jsonl",
        "*to_head.json",
        "after.json",
        "preferences.json",
    ]
    return {
        str(path.relative_to(stage)): path.read_bytes()
        for name in names
        for path in sorted(stage.glob(name))
    }


@pytest.mark.slow
def test_killed_in_every_stage(tmp_path: Path) -> None:
    recipe = write_feedback_run(tmp_path, ROAD)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_here(recipe, whole)

    places = Random(11)
    for stage, count in STAGES.items():
        step = places.randrange(1, count - 1)
        kill_at(step, cut / stage / "metrics.jsonl", recipe, "--out", cut)
        assert (cut / stage / "checkpoints").is_dir()
    assert "going on from step" in start(recipe, "--out", cut).finish()

    for stage, count in STAGES.items():
        log = cut / stage / "metrics.jsonl"
        assert [row["step"] for row in steps(log)] == list(range(1, count + 1))
        assert numbers(log) == numbers(whole / stage / "metrics.jsonl")
        one, other = kept(whole / stage), kept(cut / stage)
        assert one.keys() == other.keys()
        assert [name for name in one if one[name] != other[name]] == []
        assert any(name.endswith(".safetensors") for name in one)
    betas = [row["kl_beta"] for row in steps(whole / "ppo" / "metrics.jsonl")]
    assert len(set(betas)) == len(betas)  # the price was steered
    shown = [json.loads(line)["step"] for line in kept(cut / "ppo")["samples.jsonl"].splitlines()]
    assert shown == [1, 1, 3, 3, 5, 5, 6, 6]
