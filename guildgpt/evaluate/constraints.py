"""Held-out prompts with constraints, answered by a model, and which constraints it kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from rich.table import Column, Table

from guildgpt.bases.base import Base
from guildgpt.chat import Message
from guildgpt.chat.repetition import loops
from guildgpt.data.constrained import ConstrainedPrompt, held_out_prompts
from guildgpt.evaluate.answers import write
from guildgpt.evaluate.kept import ConstrainedAnswer
from guildgpt.model.config import Dtype
from guildgpt.network.sampler import Sampled, Sampling
from guildgpt.network.trunk import trunk_for
from guildgpt.network.world import World
from guildgpt.text.figures import percent


def constrained_answers(
    base: Base,
    world: World,
    count: int,
    max_tokens: int,
    dtype: Dtype = "auto",
    on_progress: Callable[[str], None] = lambda _: None,
) -> dict[str, list[ConstrainedAnswer]]:
    """A model's greedy answers of at most `max_tokens` to the first `count` prompts of each set.

    They are written by a copy in the dtype of the computation; the model stays as it is.
    """
    wanted, chat = world.dtype(dtype), base.chat
    trunk = trunk_for(deepcopy(base.model).to(world.device, wanted).eval(), wanted)
    found = {}
    for name, prompts in held_out_prompts(count).items():
        on_progress(f"answering {len(prompts):,} prompts with constraints of {name}")
        turns = [(Message("user", one.prompt),) for one in prompts]
        written = write(trunk, chat, turns, Sampling(max_tokens, temperature=0), seed=0)
        found[name] = [
            _judged(*one) for one in zip(prompts, written.sampled, written.texts, strict=True)
        ]
    return found


def _judged(asked: ConstrainedPrompt, sampled: Sampled, text: str) -> ConstrainedAnswer:
    return ConstrainedAnswer(
        prompt=asked.prompt,
        answer=text,
        kinds=tuple(one.kind for one in asked.constraints),
        kept=tuple(one.kept(text) for one in asked.constraints),
        ended=sampled.ended,
        looped=loops(sampled.answer),
        tokens=len(sampled.answer),
    )


def kept_table(sets: Mapping[str, Any]) -> Table:
    """Constraints kept: of each set all of a prompt and each, then of each kind."""
    table = Table(
        "constraints kept",
        *(Column(heading, justify="right") for heading in ("asked", "kept", "95 % interval")),
        title="held-out prompts with constraints",
        title_justify="left",
    )
    for name, row in sets.items():
        for what, count, share in (
            ("all of a prompt", row["prompts"], row["all_kept"]),
            ("each", row["constraints"], row["each_kept"]),
        ):
            between = f"{percent(share['low'])} to {percent(share['high'])}"
            table.add_row(f"{name}, {what}", f"{count:,}", percent(share["rate"]), between)
        for kind, rate in row["by_kind"].items():
            table.add_row(f"  {kind.replace('_', ' ')}", "", percent(rate), "")
    return table
