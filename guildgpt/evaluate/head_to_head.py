"""Two models answer the same prompts; a judge that neither learned from says whose are better.

A judge that likes length makes every longer-winded model a winner. How often one model's answers
win is therefore also given at equal length, by a regression of the verdicts on the difference in
length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from guildgpt.evaluate import logistic
from guildgpt.evaluate.agreement import Agreement, agree, judge_sentence
from guildgpt.evaluate.answers import Answers
from guildgpt.evaluate.intervals import Floats
from guildgpt.evaluate.preferences import Scorer, finite
from guildgpt.evaluate.samples import SampleMeasures
from guildgpt.network.trunk import Trunk, micro_batches, token_logprobs
from guildgpt.text.figures import percent

RESAMPLES = 500
RIDGE = 0.003  # on the slope; with 0.05 a judge of length alone left 74 % of an even match


@dataclass(frozen=True, slots=True)
class WinRate:
    """Shares of comparisons in 0..1; ties count half. Intervals are of 95 %, prompts resampled."""

    comparisons: int
    prompts: int
    wins: int
    losses: int
    ties: int
    rate: float
    low: float
    high: float
    controlled: float  # at equal length
    controlled_low: float
    controlled_high: float
    tokens: float  # mean length of the challenger's answers
    other_tokens: float

    @property
    def favours(self) -> bool | None:
        """Whether the judge prefers the challenger at equal length; None if its interval says that
        this may be chance."""
        if self.controlled_low > 0.5:
            return True
        return False if self.controlled_high < 0.5 else None

    @property
    def mirrored(self) -> WinRate:
        """The same verdicts, from the other model's side."""
        return WinRate(
            comparisons=self.comparisons,
            prompts=self.prompts,
            wins=self.losses,
            losses=self.wins,
            ties=self.ties,
            rate=1 - self.rate,
            low=1 - self.high,
            high=1 - self.low,
            controlled=1 - self.controlled,
            controlled_low=1 - self.controlled_high,
            controlled_high=1 - self.controlled_low,
            tokens=self.other_tokens,
            other_tokens=self.tokens,
        )


@dataclass(frozen=True, slots=True)
class HeadToHead:
    """A challenger held against what it came from, on prompts that neither was trained on."""

    verdicts: WinRate | None  # the judge's; none where there is no judge
    reward_before: float | None  # the mean score of the reward model that was trained against
    reward_after: float | None
    judge_before: float | None
    judge_after: float | None
    kl: float | None  # nats an answer, the challenger's answers under both models
    measures_before: SampleMeasures
    measures_after: SampleMeasures
    judge_data: tuple[str, ...] = ()  # what the judge learned from; older runs do not say
    agreement: Agreement | None = None  # of the judge with the reward model

    @property
    def judge_words(self) -> str:
        """What stands behind the judge's verdicts, in a sentence."""
        return judge_sentence(self.judge_data, self.agreement)


def head_to_head(
    before: Answers,
    after: Answers,
    *,
    judge: Scorer | None,
    reward: Scorer | None = None,
    kl: float | None = None,
    prompts: Sequence[int] | None = None,
    judge_data: Sequence[str] = (),
) -> HeadToHead:
    """The figures; `prompts` says which answers share a prompt, each its own if not given, and
    `judge_data` what the judge learned from."""
    judged = _both(judge, before, after)
    rewarded = _both(reward, before, after)
    groups = np.arange(len(before.texts)) if prompts is None else np.array(prompts)
    verdicts = agreement = None
    if judged is not None and rewarded is not None:
        agreement = agree(judged, rewarded, (before.texts, after.texts), groups)
    if judged is not None:
        same = np.array([a == b for a, b in zip(before.texts, after.texts, strict=True)])
        # Equal answers tie, whatever rounding makes of their scores.
        scores = np.where(same, judged[0], judged[1])
        verdicts = win_rate(scores, judged[0], after.lengths, before.lengths, groups)
    return HeadToHead(
        verdicts,
        reward_before=_mean(rewarded, 0),
        reward_after=_mean(rewarded, 1),
        judge_before=_mean(judged, 0),
        judge_after=_mean(judged, 1),
        kl=kl,
        measures_before=before.measures,
        measures_after=after.measures,
        judge_data=tuple(judge_data),
        agreement=agreement,
    )


@torch.no_grad()
def divergence(
    challenger: Trunk, other: Trunk, written: Answers, temperature: float, micro_tokens: int
) -> float:
    """The mean over answers of Σ_t log π(a_t) - log π_other(a_t), in nats: KL(π || π_other) where
    the answers are the challenger's own."""
    total = 0.0
    for batch in micro_batches(written.examples, micro_tokens, padded=challenger.padded):
        ours = token_logprobs(challenger, batch, temperature)
        theirs = token_logprobs(other, batch, temperature)
        total += float((ours - theirs).sum())
    return total / len(written.examples)


def _mean(scores: tuple[Floats, Floats] | None, side: int) -> float | None:
    return float(scores[side].mean()) if scores is not None else None


def _both(scorer: Scorer | None, before: Answers, after: Answers) -> tuple[Floats, Floats] | None:
    if scorer is None:
        return None
    first, second = (finite(scorer.scores(one.examples)) for one in (before, after))
    return first, second


def win_rate(
    scores: Floats,
    others: Floats,
    lengths: Floats,
    other_lengths: Floats,
    prompts: NDArray[np.int64],
) -> WinRate:
    """The challenger's `scores` (N,) held against the `others` (N,), both the judge's.

    Equal scores are a tie. `prompts` (N,) says which comparisons share a prompt, for the interval.
    Each answer is scored by itself, so the order in which two are shown cannot matter: with the
    sides exchanged the rate is one minus itself.
    """
    difference = scores - others
    verdicts = (np.sign(difference) + 1) / 2
    gap = length_gap(lengths, other_lengths)
    groups = [np.flatnonzero(prompts == one) for one in np.unique(prompts)]
    generator = np.random.default_rng(0)
    plain, level = [], []
    for _ in range(RESAMPLES):
        drawn = np.concatenate(
            [groups[i] for i in generator.integers(len(groups), size=len(groups))]
        )
        plain.append(verdicts[drawn].mean())
        level.append(controlled_rate(verdicts[drawn], gap[drawn]))
    low, high = np.percentile(plain, [2.5, 97.5])
    level_low, level_high = np.percentile(level, [2.5, 97.5])
    return WinRate(
        comparisons=len(scores),
        prompts=len(groups),
        wins=int((verdicts == 1).sum()),
        losses=int((verdicts == 0).sum()),
        ties=int((verdicts == 0.5).sum()),
        rate=float(verdicts.mean()),
        low=float(low),
        high=float(high),
        controlled=controlled_rate(verdicts, gap),
        controlled_low=float(level_low),
        controlled_high=float(level_high),
        tokens=float(lengths.mean()),
        other_tokens=float(other_lengths.mean()),
    )


def verdict_sentence(
    verdicts: WinRate, challenger: str = "the answers with feedback", other: str = "those before it"
) -> str:
    """Which model's answers the judge prefers, and whether the interval allows saying so."""
    rate, many = percent(verdicts.controlled), f"{verdicts.comparisons:,} comparisons"
    between = f"{percent(verdicts.controlled_low)} to {percent(verdicts.controlled_high)}"
    ruling = verdicts.favours
    if ruling is None:
        return (
            f"The judge names no clear winner: at equal length {challenger} win {rate} of {many}, "
            f"and the 95% interval, {between}, includes half."
        )
    if ruling:
        return (
            f"The judge prefers {challenger} to {other}: at equal length they win {rate} of "
            f"{many} (95% interval {between})."
        )
    return (
        f"The judge prefers {other} to {challenger}: at equal length {challenger} win only "
        f"{rate} of {many} (95% interval {between})."
    )


def length_gap(lengths: Floats, others: Floats) -> Floats:
    """tanh(Δ / sd(Δ)) of the difference in tokens, (N,): 0 where both are equally long."""
    gap = lengths - others
    spread = gap.std()
    return np.tanh(gap / spread) if spread > 0 else np.zeros_like(gap)


def controlled_rate(verdicts: Floats, gap: Floats) -> float:
    """σ(θ) of P(win) = σ(θ + φ gap), fitted by maximum likelihood with a small ridge on both.

    The rate that would be seen were all answers equally long. After Dubois et al. 2024
    (length-controlled AlpacaEval), arXiv 2404.04475, eq. 2, without its terms for prompts.
    """
    design = np.stack([np.ones_like(gap), gap], axis=1)
    weights = logistic.fit(design, verdicts, np.array([1e-3, RIDGE]) * len(gap))
    return float(logistic.sigmoid(weights[0]))
