"""What people wrote, shown beside what a method learns from, as far as it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guildgpt.data.examples import Example
from guildgpt.network.trunk import micro_batches
from guildgpt.network.world import World
from guildgpt.train.config import DemonstrationsConfig
from guildgpt.train.schedule import share, shuffled


@dataclass(frozen=True)
class Demonstrations:
    """Conversations as one forward pass sees them; `weight` is what a trained token of theirs
    counts beside one term of the method's own loss: a token, or a prompt's pairs."""

    examples: list[Example]
    weight: float


def demonstrated(
    rows: Sequence[Example],
    config: DemonstrationsConfig,
    update: int,
    terms: float,
    *,
    seed: int,
    world: World,
    micro_tokens: int,
    padded: bool,
) -> list[Demonstrations]:
    """Those of an optimizer step, this process's, beside so many terms of the method's own loss:
    the mean of -log p over all their trained tokens counts `config.weight` times the mean of it."""
    if not rows:
        return []
    places = range(update * config.rows, (update + 1) * config.rows)
    chosen = [rows[one] for one in shuffled(len(rows), places, seed)]
    weight = config.weight * terms / sum(example.trained for example in chosen)
    cut = micro_batches(share(chosen, world), micro_tokens, padded=padded)
    return [Demonstrations(some, weight) for some in cut]
