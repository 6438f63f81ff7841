"""How models answer where no judge is needed: loops, endings, length, and bits per byte.

Each model (a folder, `starter`) answers the starter pack's 60 held-out prompts and `--count`
instructions of a Dolly file greedily, `--tokens` at most, and predicts the rows of `--data`: of
these, and of the instructions, nothing may have been trained on. What is printed stands in
docs/results.md.

    python bench/answers.py starter runs/starter/sft/model runs/starter/ppo/model --dolly FILE \
        --data dolly:FILE oasst:FILE
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from guildgpt.bases.base import load_base
from guildgpt.bases.config import BaseConfig
from guildgpt.chat import Message
from guildgpt.chat.repetition import loops
from guildgpt.data import SourceSpec, load, starter_prompts
from guildgpt.data.split import digest
from guildgpt.evaluate.answers import write
from guildgpt.evaluate.command import evaluate_model
from guildgpt.network.sampler import Sampling
from guildgpt.network.trunk import trunk_for
from guildgpt.network.world import World

Turns = tuple[Message, ...]
LONGEST = 600  # characters of a prompt


def instructions(path: str, count: int) -> list[Turns]:
    """So many of a Dolly file's short instructions, always the same."""
    rows = load(SourceSpec.parse(f"dolly:{path}")).conversations
    asked = {row.messages[0].content for row in rows if len(row.messages[0].content) <= LONGEST}
    chosen = sorted(asked, key=lambda text: digest("bench", text))[:count]
    return [(Message("user", text),) for text in chosen]


def positive(text: str) -> int:
    """A number of at least one."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def answered(model: str, sets: dict[str, list[Turns]], tokens: int) -> list[str]:
    """Cells of the table: for each set how many answers loop, end, and how long the others are."""
    base, world = load_base(BaseConfig(base=model, context=32)), World()
    trunk = trunk_for(base.model.to(world.device), world.dtype("auto"))
    cells = []
    for asked in sets.values():
        found = write(trunk, base.chat, asked, Sampling(tokens, 0.0), seed=0)
        looped = np.array([loops(one.answer) for one in found.sampled])
        ended = np.mean([one.ended for one in found.sampled])
        others = "-" if looped.all() else f"{found.lengths[~looped].mean():.0f}"
        cells.append(f"{100 * looped.mean():.1f} %; {100 * ended:.0f} %; {others}")
    return cells


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--dolly", required=True, help="a file of Dolly's rows")
    parser.add_argument("--data", nargs="*", default=[], help="rows to predict")
    parser.add_argument("--count", type=positive, default=60)
    parser.add_argument("--tokens", type=positive, default=128)
    parser.add_argument("--limit", type=positive, default=90, help="rows of each source at most")
    args = parser.parse_args(arguments)
    sets: dict[str, list[Turns]] = {
        "pack": [(Message("user", one.prompt),) for one in starter_prompts()],
        "Dolly": instructions(args.dolly, args.count),
    }
    titles = [f"{name}: loops; ends; tokens of the others" for name in sets]
    print("|", " | ".join(["model", *titles, *(f"bits per byte, {one}" for one in args.data)]), "|")
    for model in args.models:
        cells = answered(model, sets, args.tokens)
        if args.data:
            result = evaluate_model(model, args.data, World(), limit=args.limit)
            cells += [f"{row['bits_per_byte']:.3f}" for row in result["sources"].values()]
        print("|", " | ".join([model, *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
