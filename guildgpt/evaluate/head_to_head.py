"""Two models answer the same prompts; a judge that neither learned from says whose are better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from guildgpt.chat import Message
from guildgpt.data.examples import Example
from guildgpt.evaluate.preferences import Scorer
from guildgpt.evaluate.samples import SampleMeasures, measure
from guildgpt.evaluate.win_rate import HeadToHead, win_rate
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.network.reward_model import closed
from guildgpt.network.sampler import Sampled, Sampling, sample
from guildgpt.network.trunk import Trunk, length_groups, token_logprobs


@dataclass(frozen=True, slots=True)
class Answers:
    """One model's answers to the prompts, in their order."""

    examples: tuple[Example, ...]  # prompt and answer, of which the answer is predicted
    sampled: tuple[Sampled, ...]
    texts: tuple[str, ...]

    def measures(self, eos_id: int) -> SampleMeasures:
        """Their figures without a judge."""
        ids = [one.ids[one.ids != eos_id].tolist() for one in self.sampled]
        return measure(ids, [one.ended for one in self.sampled])

    @property
    def lengths(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Tokens (N,) of each answer, its end of turn included."""
        return np.array([float(len(one)) for one in self.sampled])


def write(
    trunk: Trunk,
    chat: ChatTokenizer,
    prompts: Sequence[tuple[Message, ...]],
    sampling: Sampling,
    *,
    seed: int,
) -> Answers:
    """A model's answers."""
    asked = [chat.template.prompt(messages, chat.tokenizer) for messages in prompts]
    sampled = sample(trunk, asked, sampling, eos_id=chat.eos_id, seed=seed)
    examples = []
    for ids, one in zip(asked, sampled, strict=True):
        whole = np.concatenate([np.array(ids, np.int32), one.ids])
        examples.append(Example(whole, np.arange(len(whole)) >= len(ids), 0, "written"))
    texts = tuple(chat.tokenizer.decode(one.ids.tolist()) for one in sampled)
    return Answers(tuple(examples), tuple(sampled), texts)


def head_to_head(
    before: Answers,
    after: Answers,
    eos_id: int,
    *,
    judge: Scorer | None,
    reward: Scorer | None = None,
    kl: float | None = None,
    prompts: Sequence[int] | None = None,
) -> HeadToHead:
    """The figures; `prompts` says which answers share a prompt, each its own if not given."""
    judged = _both(judge, before, after, eos_id)
    rewarded = _both(reward, before, after, eos_id)
    verdicts = None
    if judged is not None:
        same = np.array([a == b for a, b in zip(before.texts, after.texts, strict=True)])
        # Equal answers tie, whatever rounding makes of their scores.
        scores = np.where(same, judged[0], judged[1])
        groups = np.arange(len(scores)) if prompts is None else np.array(prompts)
        verdicts = win_rate(scores, judged[0], after.lengths, before.lengths, groups)
    return HeadToHead(
        verdicts,
        reward_before=_mean(rewarded, 0),
        reward_after=_mean(rewarded, 1),
        judge_before=_mean(judged, 0),
        judge_after=_mean(judged, 1),
        kl=kl,
        measures_before=before.measures(eos_id),
        measures_after=after.measures(eos_id),
    )


@torch.no_grad()
def divergence(
    challenger: Trunk, other: Trunk, written: Answers, temperature: float, micro_tokens: int
) -> float:
    """The mean over answers of Σ_t log π(a_t) - log π_other(a_t), in nats: KL(π || π_other) where
    the answers are the challenger's own."""
    total = 0.0
    examples = written.examples
    for group in length_groups([len(e) for e in examples], micro_tokens, padded=challenger.padded):
        batch = [examples[index] for index in group]
        ours = token_logprobs(challenger, batch, temperature)
        theirs = token_logprobs(other, batch, temperature)
        total += float((ours - theirs).sum())
    return total / len(examples)


_Scores = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def _mean(scores: _Scores | None, side: int) -> float | None:
    return float(scores[side].mean()) if scores is not None else None


def _both(scorer: Scorer | None, before: Answers, after: Answers, eos_id: int) -> _Scores | None:
    if scorer is None:
        return None
    first, second = (
        scorer.scores([closed(example, eos_id) for example in written.examples]).double().numpy()
        for written in (before, after)
    )
    return first, second
