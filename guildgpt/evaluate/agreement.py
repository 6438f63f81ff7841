"""What stands behind a judge's word: the data it learned from, and how far it agrees with the
reward model on the answers that it judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guildgpt.evaluate.intervals import Floats, interval
from guildgpt.model.provenance import read_provenance
from guildgpt.network.reward_model import read_record
from guildgpt.text.figures import percent


@dataclass(frozen=True, slots=True)
class Agreement:
    """In which share of pairs of answers to one prompt judge and reward model prefer the same one;
    a tie of one of them counts half. The interval is of 95 %, prompts resampled."""

    pairs: int
    share: float
    low: float
    high: float


def agree(
    judged: Sequence[Floats],
    rewarded: Sequence[Floats],
    texts: Sequence[Sequence[str]],
    prompts: NDArray[np.int64],
) -> Agreement | None:
    """The agreement on all pairs of different answers to one prompt, whichever model wrote them.

    `judged` and `rewarded` hold the scores (N,) of each model's answers, `texts` their words,
    `prompts` (N,) which of them share a prompt. None where all answers to a prompt are the same.
    """
    scores = np.stack([np.concatenate(judged), np.concatenate(rewarded)])
    words = np.array([text for some in texts for text in some], dtype=object)
    places = np.concatenate([prompts] * len(texts))
    same: list[float] = []
    trees: list[str] = []
    for prompt in np.unique(places):
        group = np.flatnonzero(places == prompt)
        for n, one in enumerate(group):
            for other in group[:n]:
                if words[one] != words[other]:
                    judge, reward = np.sign(scores[:, one] - scores[:, other])
                    same.append(float((judge * reward + 1) / 2))
                    trees.append(str(prompt))
    if not same:
        return None
    found = interval(np.array(same), trees)
    return Agreement(found.pairs, found.accuracy, found.low, found.high)


def judge_data(folder: Path) -> tuple[str, ...]:
    """What a judge learned from, in words: its comparisons by source; of folders that do not say,
    all data behind them."""
    if learned := read_record(folder).learned:
        return tuple(f"{count:,} comparisons of {name}" for name, count in learned.items())
    return tuple(item.name for item in read_provenance(folder) if item.kind == "data")


def judge_sentence(data: Sequence[str], agreement: Agreement | None) -> str:
    """What a reader must know beside a win rate."""
    learned = f"The judge learned from {' and '.join(data) or 'data that its folder does not name'}"
    if agreement is None:
        return f"{learned}; how far it agrees with the reward model is not known."
    return (
        f"{learned}; it agrees with the reward model on {percent(agreement.share)} of "
        f"{agreement.pairs:,} pairs of these answers (95% interval {percent(agreement.low)} to "
        f"{percent(agreement.high)})."
    )
