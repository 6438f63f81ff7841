"""The whole road from text to feedback, as short as it can be, and policies alone on its way."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from tiny import FEEDBACK, write_feedback_run

from guildgpt.pipeline import run as pipeline
from guildgpt.recipe import load_recipe
from guildgpt.report.report import Report

STAGES = ["pretrain", "sft", "reward", "judge", "ppo"]
SHORT = (
    FEEDBACK.replace("steps = 24", "steps = 6")
    .replace('gguf = ["Q8_0"]', "gguf = []")
    .replace("max_tokens = 8", "max_tokens = 8\njudged_prompts = 8")
    .replace("epochs = 2", "epochs = 1")
)
# A policy alone, on what the whole road's `sft` left.
ALONE = """
[STAGE]
steps = 2
batch_size = 4
lora = {rank = 4, alpha = 8}
checkpoint_minutes = 0
dtype = "float32"
"""


@dataclass(frozen=True)
class Road:
    recipe: Path
    folder: Path
    report: Report
    printed: str


def train(
    recipe: Path, folder: Path, stages: Any = None, overrides: Any = (), reuse: Path | None = None
) -> tuple[Report, str]:
    out = StringIO()
    console = Console(file=out, width=200)
    loaded = load_recipe(recipe, overrides)
    text = recipe.read_text()
    report = pipeline.run(loaded, text, folder, stages=stages, reuse=reuse, console=console)
    return report, out.getvalue()


def alone(road: Road, folder: Path, stage: str, more: str = "") -> Path:
    """A recipe of one policy stage that starts from the road's fine-tuned model."""
    text = SHORT[: SHORT.index("[pretrain]")] + SHORT[SHORT.index("[evaluate]") :]
    text = text[: text.index("[reward]")] + ALONE.replace("STAGE", stage) + more
    lines = text.splitlines()
    start, end = lines.index("[model.scratch]"), lines.index("[data]")
    text = "\n".join(lines[:start] + lines[end:])
    text = text.replace('base = "scratch"', f'base = "{road.folder / "sft" / "model"}"')
    listed = ", ".join(f'"{one}"' for one in STAGES)
    return write_feedback_run(folder, text.replace(f"[{listed}]", f'["{stage}"]'))
