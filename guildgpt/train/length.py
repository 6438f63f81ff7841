"""What keeps a reward model from learning that longer is better.

Two ways, each an option of its own. *Balanced pairs*: a pair whose better answer could be foretold
from the two lengths counts less, one that goes against its lengths counts more, so that length
tells nothing. *A term*: score differences that go along with length differences cost something.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from guildgpt.data.examples import Ranking
from guildgpt.evaluate import logistic
from guildgpt.evaluate.equal_length import length_differences
from guildgpt.evaluate.intervals import Floats
from guildgpt.network.world import World

HEAVIEST = 5.0  # a pair's weight at most: one that goes against its lengths is no law by itself
RIDGE = 1e-3  # per pair: one pair, or some that agree, foretell nothing for sure
KEPT = 0.9  # of the window, from one step to the next
SUMS = 8  # prompts, m², m z (3), z² (3)


def gaps(row: Ranking) -> Floats:
    """Of each pair of a ranking, better less worse: what may be length in a score, (pairs, 3)."""
    tokens = np.array([float(answer.trained) for answer in row.answers])
    better, worse = map(list, zip(*row.pairs, strict=True))
    return length_differences(tokens[better], tokens[worse])


def spread_of(rows: Sequence[Ranking]) -> Floats:
    """The root mean square (3,) of all pairs' gaps; 1 where it is none."""
    squares = np.concatenate([np.square(gaps(row)) for row in rows]) if rows else np.ones((1, 3))
    root = np.sqrt(squares.mean(0))
    return np.where(root > 0, root, 1.0)


class Balance:
    """Weights of pairs under which length does not tell which answer is the better one.

    A logistic regression foretells from a pair's lengths which answer people preferred, with the
    chance p that it was the one they did prefer; the pair's weight is 1 / (2 p). Inverse
    probability weighting, Rosenbaum & Rubin 1983, with the lengths as what decides.
    """

    def __init__(self, rows: Sequence[Ranking]):
        self.spread = spread_of(rows)
        design = np.concatenate([gaps(row) for row in rows]) / self.spread
        preferred, width = np.ones(len(design)), design.shape[1]
        self.slope = logistic.fit(design, preferred, np.full(width, RIDGE * len(design)))
        self.scale = 1 / float(self._raw(design).mean())

    def weights(self, row: Ranking) -> Floats:
        """The weight (pairs,) of each pair; their mean over all rows is 1."""
        return self._raw(gaps(row) / self.spread) * self.scale

    def _raw(self, design: Floats) -> Floats:
        return np.minimum(1 / (2 * logistic.sigmoid(design @ self.slope)), HEAVIEST)


@dataclass
class LengthWindow:
    """How far score differences went along with length differences lately, and what that costs.

    The squared correlation ρ² is what ODIN makes small (Chen et al. 2024, arXiv 2402.07319, eq. 4,
    there |ρ| within a batch); correlations here are about zero, for a pair turned round is the same
    pair. A batch is cut into passes that do not know each other, so ρ is that of the steps before
    this one, each kept to nine tenths by the next: the gradient is that of ρ² with the spreads held
    fixed. All of it is sums, the same on every process and after a resume.
    """

    spread: Floats  # of the gaps: they count in it
    seen: list[float] = field(default_factory=lambda: [0.0] * SUMS)
    step: list[float] = field(default_factory=lambda: [0.0] * SUMS)  # of the step under way

    @property
    def correlations(self) -> Floats:
        """ρ (3,) of score differences m with each gap z; 0 where nothing varies."""
        squares, products, spreads = self._means()
        below = np.sqrt(squares * spreads)
        return np.divide(products, below, out=np.zeros(3), where=below > 0)

    def cost(self, margins: Tensor, row: Ranking) -> Tensor:
        """The term (pairs,) of a ranking's score differences (pairs,), which are noted as seen."""
        shapes = gaps(row) / self.spread
        seen = margins.detach().double().cpu().numpy()
        noted = [
            1.0,  # a prompt counts as one, as in the loss
            np.square(seen).mean(),
            *(shapes.T @ seen / len(seen)),
            *np.square(shapes).mean(0),
        ]
        self.step = [a + float(b) for a, b in zip(self.step, noted, strict=True)]
        squares, _, spreads = self._means()
        below = np.sqrt(squares * spreads)
        slope = np.divide(2 * self.correlations, below, out=np.zeros(3), where=below > 0)
        return margins * torch.from_numpy(shapes @ slope / len(slope)).to(margins)

    def close(self, world: World) -> float:
        """The step is over, in all processes; the root mean square of ρ, for the log."""
        own = [world.sum(one) for one in self.step]
        self.seen = [KEPT * a + b for a, b in zip(self.seen, own, strict=True)]
        self.step = [0.0] * SUMS
        return math.sqrt(float(np.square(self.correlations).mean()))

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"seen": self.seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.seen = list(state["seen"])

    def _means(self) -> tuple[float, Floats, Floats]:
        """The means of m², m z and z² over the prompts of the window, older ones counted for
        less."""
        count, *sums = self.seen
        means = np.array(sums) / max(count, 1e-9)
        return float(means[0]), means[1:4], means[4:]
