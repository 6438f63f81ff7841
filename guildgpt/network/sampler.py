"""The batched sampler: answers to many prompts at once, with the log-probabilities they came at.

It is what reinforcement learning writes its own texts with, and the reference that other engines
are checked against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guildgpt.network.decoders import decoder_for
from guildgpt.network.head import Head
from guildgpt.network.trunk import Trunk

BLOCK = 256  # entries of the vocabulary that are summed together when one is drawn


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    `temperature` divides the logits, 0 is greedy.
    """

    max_new_tokens: int = 64
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class Sampled:
    """One answer: its ids (T,), with the end-of-turn token where the model ended by itself, and the
    log-probability (T,) of each in nats under the distribution it was drawn from (greedy: under the
    model's own)."""

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    ended: bool

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def answer(self) -> tuple[int, ...]:
        """The ids without the end of turn."""
        return tuple(self.ids[: len(self) - self.ended].tolist())


@torch.no_grad()
def sample(
    trunk: Trunk,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    eos_id: int,
    seed: int,
    rows: int = 32,
    over: Callable[[Sequence[int]], bool] | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Sampled]:
    """An answer to each of `prompts` (token ids), at most `rows` of them at a time.

    What is drawn for a prompt depends on the seed and on its place in the list, not on which
    prompts share its batch. Every answer ends: at the end-of-turn token, where `over` says of its
    ids so far that it is over, or cut at `max_new_tokens`. No prompt is empty. `on_progress` is
    told how many are done.
    """
    chances = np.random.default_rng(seed).random((len(prompts), sampling.max_new_tokens))
    # Longest first: what does not fit into memory fails at once, and neighbours are alike.
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    answers: dict[int, Sampled] = {}
    for start in range(0, len(order), rows):
        batch = order[start : start + rows]
        asked = [prompts[index] for index in batch]
        done = _batch(trunk, asked, chances[batch], sampling, eos_id, over)
        answers |= dict(zip(batch, done, strict=True))
        on_progress(len(answers))
    return [answers[index] for index in range(len(prompts))]


def _batch(
    trunk: Trunk,
    prompts: Sequence[Sequence[int]],
    chances: NDArray[np.float64],
    sampling: Sampling,
    eos_id: int,
    over: Callable[[Sequence[int]], bool] | None,
) -> list[Sampled]:
    head = Head(trunk.model)
    device = head.weight.device
    logits = head.for_generation(trunk.dtype, len(prompts))
    steps = sampling.max_new_tokens
    ids = np.zeros((len(prompts), steps), dtype=np.int32)
    logprobs = np.zeros((len(prompts), steps), dtype=np.float32)
    lengths = np.full(len(prompts), steps)
    drawn = torch.from_numpy(chances).to(device)
    rows = np.arange(len(prompts))  # which prompt each row of the decoder's batch belongs to
    running = np.ones(len(prompts), dtype=bool)  # of these rows

    decoder = decoder_for(trunk)
    hidden = decoder.start([torch.tensor(p, device=device) for p in prompts])
    for step in range(steps):
        tokens, chosen = choose(logits(hidden), drawn[rows, step], sampling)
        alive = rows[running]
        ids[alive, step] = tokens.cpu().numpy()[running]
        logprobs[alive, step] = chosen.float().cpu().numpy()[running]
        ended = running & (tokens.cpu().numpy() == eos_id)
        if over is not None:
            ended |= running & [over(ids[row, : step + 1].tolist()) for row in rows]
        lengths[rows[ended]] = step + 1
        running &= ~ended
        if not running.any() or step + 1 == steps:
            break
        if running.sum() <= 0.875 * len(rows):  # the cache is copied, so not for every single row
            stay = running.nonzero()[0]
            index = torch.from_numpy(stay).to(device)
            decoder.keep(index)
            tokens, rows, running = tokens[index], rows[stay], running[stay]
        hidden = decoder.step(tokens)
    return [
        Sampled(ids[row, :length], logprobs[row, :length], bool(ids[row, length - 1] == eos_id))
        for row, length in enumerate(lengths)
    ]


def choose(logits: Tensor, chance: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Draw a token from each row of logits (B, V), by a number in [0, 1) for each (B,).

    The tokens (B,) and their log-probabilities (B,). The inverse of the distribution function is
    looked up, so that equal chances give equal tokens whatever else is in the batch. The logits are
    overwritten.
    """
    if sampling.temperature == 0:
        tokens = logits.argmax(-1)
        return tokens, logits.gather(1, tokens[:, None])[:, 0] - torch.logsumexp(logits, -1)
    if sampling.temperature != 1:
        logits.div_(sampling.temperature)
    return _draw(logits, chance)


def _draw(logits: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
    """The index (B,) at which the running sum of exp(logits) (B, V) passes `chance` times the
    whole, and the log of its share of the whole (B,).

    Summed by blocks first, these in double precision: the vocabulary is long, its tail thin.
    """
    size = logits.shape[-1]
    block = min(BLOCK, size)
    peak = logits.amax(-1, keepdim=True)
    weights = logits.sub_(peak).exp_()  # in place: a new tensor of this size costs more than both
    padded = torch.nn.functional.pad(weights, (0, -size % block)) if size % block else weights
    parts = padded.view(len(weights), -1, block)
    sums = parts.sum(-1).double()
    ends = sums.cumsum(-1)
    goal = chance.double()[:, None] * ends[:, -1:]
    place = torch.searchsorted(ends, goal, right=True).clamp_(max=sums.shape[-1] - 1)
    inside = parts[torch.arange(len(weights), device=weights.device), place[:, 0]].double()
    running = inside.cumsum(-1)
    goal = goal - (ends - sums).gather(1, place)
    goal = goal.clamp(min=0).minimum(running[:, -1:] * (1 - 1e-12))
    within = torch.searchsorted(running, goal, right=True).clamp_(max=block - 1)
    index = (place * block + within).clamp_(max=size - 1)
    logprobs = (weights.gather(1, index).double() / ends[:, -1:]).log().float()
    return index[:, 0], logprobs[:, 0]
