"""Runs in a test: taken, and what they leave looked at."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import (
    AutoModelForCausalLM,
)

from guildgpt.chat import ChatTemplate, FileTokenizer, Message
from guildgpt.engines.engine import SamplingParams, complete
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.pipeline import run as pipeline
from guildgpt.recipe import load_recipe
from guildgpt.report.report import Report

SHARED = Path(__file__).parents[2] / ".." / "shared"
QUESTION = (Message("user", "Where is the bell of house 2?"),)

# Fine-tuning alone, on a base that the test puts in.
TUNE = """\
name = "tuned"

[model]
base = "BASE"
context = 512
licence = "CC-BY-SA-4.0"
written_by = "people"

[data]
sources = [{source = "jsonl:rows.jsonl", licence = "own", written_by = "people"}]
held_out = 0.2

[sft]
steps = 3
batch_size = 4
evaluations = 0
learning_rate = 1e-2
dtype = "float32"  # bfloat16 would round what is frozen

[evaluate]
prompts = 0
max_tokens = 4

[export]
gguf = ["F16"]
"""


def train(
    recipe: Path, folder: Path, overrides: Sequence[str] = (), stages: Any = None
) -> tuple[Report, str]:
    """A run of a recipe, and what it printed."""
    out = StringIO()
    console = Console(file=out, width=200)
    loaded = load_recipe(recipe, overrides)
    report = pipeline.run(loaded, recipe.read_text(), folder, stages=stages, console=console)
    return report, out.getvalue()


def hashes(folder: Path) -> dict[str, str]:
    """Every file's hash, by its path in the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def greedy_llama(gguf: Path, ids: Sequence[int], count: int) -> tuple[int, ...]:
    async def ask() -> tuple[int, ...]:
        async with LlamaCppEngine(gguf, context=len(ids) + count + 8, threads=1) as engine:
            params = SamplingParams(temperature=0.0, max_tokens=count)
            return (await complete(engine, ids, params)).ids

    return asyncio.run(ask())


@torch.no_grad()
def greedy_torch(folder: Path, ids: Sequence[int], count: int) -> tuple[int, ...]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    got: list[int] = []
    for _ in range(count):
        token = int(model(torch.tensor([[*ids, *got]])).logits[0, -1].argmax())
        if token == model.config.eos_token_id:
            break
        got.append(token)
    return tuple(got)


def prompt_ids(folder: Path) -> list[int]:
    template = ChatTemplate.load(folder)
    return list(template.prompt(QUESTION, FileTokenizer(folder / "tokenizer.json")))
