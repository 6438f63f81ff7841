"""A run small enough to train in seconds: documents, conversations and a recipe for them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

PLACES = ["bell", "gate", "river", "lamp", "forge", "mill", "boat", "tower", "garden", "clock"]
LINKS = ("stands by", "looks at", "belongs to", "was built near", "is older than")

RECIPE = """\
name = "tiny"
stages = ["pretrain", "sft"]

[model]
base = "scratch"
context = 512

[model.scratch]
vocabulary = 512
hidden_size = 32
layers = 2
heads = 2
kv_heads = 1
intermediate_size = 64

[data]
sources = [{source = "jsonl:rows.jsonl", licence = "own", written_by = "people"}]
held_out = 0.2

[pretrain]
documents = ["documents"]
licence = "own"
written_by = "people"
held_out = 0.2
steps = 24
batch_size = 1
learning_rate = 5e-3
evaluations = 2
checkpoint_minutes = 0
dtype = "float32"

[sft]
adapter = "none"
steps = 24
batch_size = 8
learning_rate = 1e-2
evaluations = 2
checkpoint_minutes = 0
dtype = "float32"

[evaluate]
prompts = 0
max_tokens = 8

[export]
gguf = ["Q8_0"]
"""


def write_run(folder: Path, recipe: str = RECIPE) -> Path:
    """Documents, rows and the recipe, its paths made absolute; the recipe's path."""
    write_documents(folder / "documents")
    write_rows(folder / "rows.jsonl")
    text = recipe.replace("jsonl:rows.jsonl", f"jsonl:{folder / 'rows.jsonl'}")
    text = text.replace('["documents"]', json.dumps([str(folder / "documents")]))
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path


def write_documents(folder: Path, count: int = 40) -> None:
    """Texts in few words, so that a little training shows."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        lines = []
        for _ in range(6):
            a, b, c = Random(f"{number} {len(lines)}").choices(PLACES, k=3)
            link = LINKS[(number + len(lines)) % len(LINKS)]
            lines.append(f"The {a} {link} the {b}, and the guild keeps the {c}.")
        (folder / f"{number:02}.txt").write_text("\n".join(lines), encoding="utf-8")


def write_rows(path: Path, houses: int = 6) -> None:
    """Questions about ten places in each of some houses."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Where is the {place} of house {house}?"},
                {"role": "assistant", "content": f"The {place} stands by the {other}."},
            ]
        }
        for house in range(houses)
        for place, other in zip(PLACES, PLACES[1:] + PLACES[:1], strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# The whole road, from text to feedback, in seconds.
FEEDBACK = (
    RECIPE.replace(
        'stages = ["pretrain", "sft"]', 'stages = ["pretrain", "sft", "reward", "judge", "ppo"]'
    ).replace(
        'sources = [{source = "jsonl:rows.jsonl", licence = "own", written_by = "people"}]',
        "sources = [\n"
        '  {source = "jsonl:rows.jsonl", licence = "own", written_by = "people"},\n'
        '  {source = "jsonl:pairs.jsonl", licence = "own", written_by = "people"},\n'
        "]",
    )
    + """
[reward]
epochs = 2
batch_size = 4
lora = {rank = 4, alpha = 8}
evaluations = 2
checkpoint_minutes = 0
dtype = "float32"

[ppo]
steps = 3
batch_size = 4
max_new_tokens = 8
lora = {rank = 4, alpha = 8}
checkpoint_minutes = 0
dtype = "float32"
"""
)


def write_feedback_run(folder: Path, recipe: str = FEEDBACK) -> Path:
    """`write_run` with comparisons besides: the better answer says where, the worse one rambles."""
    pairs = [
        {
            "prompt": f"Where is the {place} of house {house}?",
            "chosen": f"The {place} stands by the {other}.",
            "rejected": f"The {place} the {place} the {place} the {other}.",
        }
        for house in range(10, 14)
        for place, other in zip(PLACES, PLACES[1:] + PLACES[:1], strict=True)
    ]
    text = "".join(json.dumps(row) + "\n" for row in pairs)
    (folder / "pairs.jsonl").write_text(text, encoding="utf-8")
    path = write_run(folder, recipe)
    path.write_text(
        path.read_text(encoding="utf-8").replace(
            "jsonl:pairs.jsonl", f"jsonl:{folder / 'pairs.jsonl'}"
        ),
        encoding="utf-8",
    )
    return path
