"""How probable a text is after another, and whether greedy sampling would have written it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from guildgpt.data.examples import Example
from guildgpt.network.head import CHUNK, Head
from guildgpt.network.trunk import Trunk, length_groups

PLACES = 4096  # tokens of one pass


class Score(NamedTuple):
    """What a model makes of a text: the sum of its tokens' log-probabilities in nats, and whether
    each of them is the most probable one."""

    logprob: float
    greedy: bool


@torch.no_grad()
def score(
    trunk: Trunk,
    texts: Sequence[tuple[Sequence[int], int]],
    *,
    on_progress: Callable[[int], None] = lambda done: None,
    places: int = PLACES,
) -> list[Score]:
    """log p(ids[first:] | ids[:first]) for each (ids, first); 0 < first < len(ids).

    The last token of a text is predicted and never read, so `ids` may be one longer than what the
    model holds. `on_progress` is told how many are done.
    """
    head = Head(trunk.model)
    device = head.weight.device
    logits = head.for_generation(trunk.dtype, CHUNK)
    read = [_reading(ids, first) for ids, first in texts]
    found: dict[int, Score] = {}
    for group in length_groups([len(one) for one in read], places, padded=trunk.padded):
        examples = [read[index] for index in group]
        mask = np.concatenate([one.mask for one in examples])
        wanted = [np.array(texts[index][0][texts[index][1] :]) for index in group]
        hidden = trunk.hidden(examples, torch.from_numpy(mask.nonzero()[0]).to(device))
        logprobs = torch.empty(len(hidden), device=device, dtype=torch.float64)
        greedy = torch.empty(len(hidden), device=device, dtype=torch.bool)
        targets = torch.from_numpy(np.concatenate(wanted)).long().to(device)
        for start in range(0, len(hidden), CHUNK):
            rows = slice(start, start + CHUNK)
            of, goal = logits(hidden[rows]), targets[rows]
            chosen = of.gather(1, goal[:, None])[:, 0]
            logprobs[rows] = (chosen - of.logsumexp(-1)).double()
            greedy[rows] = of.argmax(-1) == goal
        borders = np.cumsum([len(one) for one in wanted])[:-1]
        for index, sums, best in zip(
            group,
            np.split(logprobs.cpu().numpy(), borders),
            np.split(greedy.cpu().numpy(), borders),
            strict=True,
        ):
            found[index] = Score(float(sums.sum()), bool(best.all()))
        on_progress(len(found))
    return [found[index] for index in range(len(texts))]


def _reading(ids: Sequence[int], first: int) -> Example:
    """What is read of a text; marked are the places that predict."""
    read = np.array(ids[:-1], np.int32)
    return Example(read, np.arange(len(read)) >= first - 1, 0, "")
