"""Answers of several models to prompts that nobody here wrote, rated blind.

1. `python bench/blind.py write PROMPTS.jsonl FOLDER MODEL…` answers `--count` of the prompts with
   each model (a folder, a GGUF file, `starter`), greedily, and leaves FOLDER/sheet.jsonl, a prompt
   a line with its answers in an order drawn for it, and FOLDER/key.json, whose they are.
2. Somebody who has not seen the key writes FOLDER/ratings.jsonl: a line a prompt,
   `{"row": 0, "ratings": [2, 0, 1]}`, from 0 (of no use) to 3 (what was asked, and right).
3. `python bench/blind.py score FOLDER` says who is how useful, and who is preferred to whom.

PROMPTS.jsonl has an `instruction` a line, and perhaps `instances` with an `input`, as those of
Self-Instruct's users have (Apache-2.0, github.com/yizhongw/self-instruct,
human_eval/user_oriented_instructions.jsonl).
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from guildgpt.chat import CHATML, Message
from guildgpt.chat.repetition import loops
from guildgpt.engines.engine import SamplingParams
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.evaluate.samples import Sample, sample
from guildgpt.model.locate import locate

LONGEST = 600  # characters of a prompt
RESAMPLES = 2000


def read_prompts(path: Path, count: int, seed: int) -> list[str]:
    """`count` of the prompts in a file, drawn by the seed, of those that are not too long."""
    prompts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        given = [one["input"] for one in row.get("instances", [])[:1] if one.get("input")]
        prompts.append("\n\n".join([row["instruction"].strip(), *given]))
    prompts = [one for one in prompts if len(one) <= LONGEST]
    order = np.random.default_rng(seed).permutation(len(prompts))[:count]
    return [prompts[index] for index in order]


async def answer(model: str, prompts: Sequence[str], tokens: int) -> list[Sample]:
    """A model's greedy answers."""
    params = SamplingParams(temperature=0, max_tokens=tokens)
    turns = [(Message("user", one),) for one in prompts]
    async with LlamaCppEngine(locate(model).gguf, context=1024, slots=4) as engine:
        return await sample(engine, CHATML, turns, params, seed=0, concurrency=4)


def write(args: argparse.Namespace) -> None:
    """The sheet and its key."""
    args.folder.mkdir(parents=True, exist_ok=True)
    prompts = read_prompts(args.prompts, args.count, args.seed)
    answers = [asyncio.run(answer(model, prompts, args.tokens)) for model in args.models]
    random = np.random.default_rng(args.seed)
    orders = [random.permutation(len(args.models)).tolist() for _ in prompts]
    rows = [
        {
            "row": row,
            "prompt": prompt,
            "answers": [answers[side][row].answer_text for side in order],
        }
        for row, (prompt, order) in enumerate(zip(prompts, orders, strict=True))
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (args.folder / "sheet.jsonl").write_text(text, encoding="utf-8")
    plain = {
        model: {
            "tokens": float(np.mean([len(one.ids) for one in found])),
            "ended": float(np.mean([one.stop == "eos" for one in found])),
            "loops": float(np.mean([loops(one.ids) for one in found])),
        }
        for model, found in zip(args.models, answers, strict=True)
    }
    key = {"models": args.models, "orders": orders, "plain": plain}
    (args.folder / "key.json").write_text(json.dumps(key, indent=1), encoding="utf-8")


def score(args: argparse.Namespace) -> None:
    """Mean ratings and preferences with intervals of 95 %, prompts resampled."""
    key: dict[str, Any] = json.loads((args.folder / "key.json").read_text(encoding="utf-8"))
    lines = (args.folder / "ratings.jsonl").read_text(encoding="utf-8").splitlines()
    rated = {row["row"]: row["ratings"] for row in map(json.loads, lines)}
    by_model = np.array(
        [
            [rated[row][order.index(side)] for side in range(len(key["models"]))]
            for row, order in enumerate(key["orders"])
        ],
        dtype=float,
    )
    random = np.random.default_rng(0)
    again = random.integers(len(by_model), size=(RESAMPLES, len(by_model)))
    for side, model in enumerate(key["models"]):
        low, high = np.percentile(by_model[again, side].mean(1), [2.5, 97.5])
        print(f"{model}: {by_model[:, side].mean():.2f} of 3 ({low:.2f} to {high:.2f})", end="; ")
        print(", ".join(f"{name} {value:.3g}" for name, value in key["plain"][model].items()))
    for one, other in combinations(range(len(key["models"])), 2):
        better = by_model[:, other] - by_model[:, one]
        wins, losses = int((better > 0).sum()), int((better < 0).sum())
        print(f"{key['models'][other]} against {key['models'][one]}: {wins} better, {losses} worse")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    commands = parser.add_subparsers(required=True)
    writing = commands.add_parser("write")
    writing.add_argument("prompts", type=Path)
    writing.add_argument("folder", type=Path)
    writing.add_argument("models", nargs="+")
    writing.add_argument("--count", type=int, default=60)
    writing.add_argument("--tokens", type=int, default=300)
    writing.add_argument("--seed", type=int, default=0)
    writing.set_defaults(run=write)
    scoring = commands.add_parser("score")
    scoring.add_argument("folder", type=Path)
    scoring.set_defaults(run=score)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
