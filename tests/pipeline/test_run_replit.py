"""Runs on both layouts of replit-code."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
import tiny
from rich.console import Console
from safetensors.torch import load_file

from guildgpt.chat import FileTokenizer
from guildgpt.model.gguf_file import read_head
from guildgpt.pipeline.plan import dry_run as plan_of
from guildgpt.recipe import load_recipe

from .replit import write_replit
from .runs import TUNE, greedy_llama, greedy_torch, prompt_ids, train


@pytest.mark.parametrize("shared", [False, True], ids=["stand-in", "shared"])
@pytest.mark.parametrize("layout", ["v1", "mpt"])
def test_replit_code_is_tuned_and_runs_in_llama_cpp(
    layout: str, shared: bool, tmp_path: Path
) -> None:
    base = write_replit(tmp_path / "replit-code", layout, shared)
    recipe = tiny.write_run(tmp_path, TUNE.replace("BASE", str(base)))
    # The shared ones hold 96 tokens: too few for the probes, enough for the rows.
    context = ["model.context=96"] if shared else []
    out = StringIO()
    plan = plan_of(load_recipe(recipe, context), Console(file=out, width=200))
    report, printed = train(recipe, tmp_path / "run", context)
    assert ("leave no room for an answer" in printed) == shared

    folder = tmp_path / "run" / "sft" / "model"
    gguf = folder / "model-F16.gguf"
    metadata = read_head(gguf).metadata
    assert metadata["general.architecture"] in (b"mpt", "mpt")
    ids = prompt_ids(folder)
    assert greedy_llama(gguf, ids, 6) == greedy_torch(folder, ids, 6)
    assert plan["stages"]["sft"]["steps"] == report.stages[0].outcome.steps == 3

    # The chat tokens were added, and of the embedding only their rows were trained.
    tokenizer = FileTokenizer(folder / "tokenizer.json")
    added = [tokenizer.token_id(name) for name in ("<|im_start|>", "<|im_end|>")]
    name = "transformer.wte.weight"
    was, now = load_file(base / "model.safetensors"), load_file(folder / "model.safetensors")
    moved = (now[name] - was[name]).abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == added
    assert not any(key.endswith("lm_head.weight") for key in now)
