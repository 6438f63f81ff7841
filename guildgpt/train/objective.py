"""What a stage tells the loop: how many steps, the passes of each, and the loss of each pass."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from guildgpt.data.examples import Example, Ranking
from guildgpt.network.lean import causal_model
from guildgpt.network.trunk import Trunk
from guildgpt.train.config import RowsConfig
from guildgpt.train.schedule import Schedule, spread

Figures = Mapping[str, Mapping[str, float]]  # of held-out rows, by their source


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is in a pass."""

    terms: float  # of the summed loss: trained tokens, or prompts
    tokens: int  # that the model reads
    flops: float  # floating-point operations of the products, forward and backward


class Objective(Protocol):
    """What a stage trains."""

    steps: int
    measured_at: Collection[int] = ()  # after how many steps held-out rows are measured

    def updates(self, step: int) -> Iterable[Sequence[Any]]:
        """The optimizer steps that step `step` takes, each as its forward and backward passes.

        Most stages take one. Reinforcement learning writes its answers first, then goes over them
        several times.
        """

    def counts(self, batch: Any) -> Counts:
        """How much there is in a pass."""

    def loss(self, batch: Any) -> Tensor:
        """The summed loss of a pass, a scalar."""

    def measure(self) -> Figures:
        """The figures of held-out rows, as the model is now."""
        return {}

    def figures(self) -> Mapping[str, float]:
        """What else is to be logged of the step that was just taken."""
        return {}

    def check(self) -> None:
        """Raise a GuildError if what was just logged should end the run."""
        return

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides weights and optimizer, as plain values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        return


class Shape:
    """Sizes of a model that the count of a pass's floating-point operations needs."""

    def __init__(self, trunk: Trunk):
        self.trunk = trunk
        causal = causal_model(trunk.model)
        config = causal.config
        table = causal.get_input_embeddings().weight
        modules = [m for m in (causal.get_input_embeddings(), causal.get_output_embeddings()) if m]
        tables = {parameter for module in modules for parameter in module.parameters()}
        self.all_trained = all(p.requires_grad for p in trunk.model.parameters())
        self.body = sum(p.numel() for p in trunk.model.parameters() if p not in tables)
        self.head = table.numel()
        layers = getattr(config, "num_hidden_layers", None) or config.n_layers
        self.attention = 4 * layers * table.shape[1]
        trained = [name for name, one in trunk.model.named_parameters() if one.requires_grad]
        places = [int(found[1]) for name in trained if (found := re.search(r"\.(\d+)\.", name))]
        lowest = min(places, default=0) if len(places) == len(trained) else 0  # tables lie below
        self.upper = 1 - lowest / layers  # the share of layers that gradients flow through

    def flops(
        self,
        batch: Sequence[Example],
        *,
        logits: int,
        backward: bool = True,
        upper_only: bool = False,
    ) -> float:
        """2 per weight and token forward, 2 for the gradient of what flows back, and 2 more where
        weights are trained; attention's products (4 L² d a layer forward, twice that backward).
        `logits` is the number of tokens that the vocabulary head sees. What the trunk computes once
        for several examples counts once. Nothing flows back below the lowest layer that is
        trained; with `upper_only` nothing is computed there either."""
        tokens, pairs = self.trunk.work(batch)
        products, attention = tokens * self.body, pairs * self.attention
        forward = (2 * products + attention) * (self.upper if upper_only else 1)
        forward += 2 * logits * self.head
        if not backward:
            return float(forward)
        per_weight = 4 if self.all_trained else 2
        through = self.upper * (per_weight * products + 2 * attention)
        return float(forward + through + per_weight * logits * self.head)


@dataclass
class RowObjective(Objective):
    """What learns from rows, and is measured on the way on held-out ones, `few` of each source."""

    trunk: Trunk
    rows: Sequence[Any]
    config: RowsConfig
    schedule: Schedule
    held_out: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limit = self.config.evaluation_rows
        self.few = {name: some[:limit] for name, some in self.held_out.items() if some}
        self.steps = self.schedule.steps
        self.measured_at = spread(self.steps, self.config.evaluations) if self.few else ()
        self.shape = Shape(self.trunk)

    def updates(self, step: int) -> Iterator[Sequence[Any]]:
        """See `Objective.updates`: one."""
        yield self.batches(step)

    def batches(self, step: int) -> list[Any]:
        """The step's rows, those of this process, as passes."""
        return self.cut([self.rows[index] for index in self.schedule.own_rows(step)])

    @abstractmethod
    def cut(self, rows: Sequence[Any]) -> list[Any]:
        """Some rows as passes of at most `micro_tokens`."""


class ComparisonObjective(RowObjective):
    """All pairs of each ranking, averaged within the prompt; prompts are the terms of the loss."""

    def cut(self, rows: Sequence[Ranking]) -> list[list[Ranking]]:
        """Some prompts as passes; a prompt's answers stay together."""
        return ranking_batches(rows, self.config.micro_tokens, padded=self.trunk.padded)


def answers_of(batch: Sequence[Ranking]) -> list[Example]:
    """The answers to each prompt, laid end to end."""
    return [answer for ranking in batch for answer in ranking.answers]


def by_pair(values: Tensor, batch: Sequence[Ranking]) -> list[tuple[Tensor, Tensor]]:
    """From a value for each answer those of the better and of the worse one in each pair: two
    tensors (pairs,) for each ranking."""
    found = []
    pieces = torch.split(values, [len(ranking.answers) for ranking in batch])
    for ranking, piece in zip(batch, pieces, strict=True):
        better, worse = map(list, zip(*ranking.pairs, strict=True))
        found.append((piece[better], piece[worse]))
    return found


def ranking_batches(rows: Sequence[Ranking], limit: int, *, padded: bool) -> list[list[Ranking]]:
    """Prompts in groups of similar length, of at most `limit` tokens, padding included; one prompt
    at least."""
    groups: list[list[Ranking]] = []
    size, longest, answers = 0, 0, 0
    for row in sorted(rows, key=len):
        longest = max(longest, *map(len, row.answers))
        answers += len(row.answers)
        size = longest * answers if padded else size + len(row)
        if not groups or size > limit:
            groups.append([])
            longest, answers, size = max(map(len, row.answers)), len(row.answers), len(row)
        groups[-1].append(row)
    return groups
