"""A rollout: the policy answers prompts, the answers are scored, and held against the reference.

Shapes: R answers, T tokens of the longest, right-padded; `mask` (R, T) is true where a token is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from guildgpt.chat import FileTokenizer, Message
from guildgpt.chat.repetition import loops
from guildgpt.data.examples import Example, answering
from guildgpt.errors import GuildError
from guildgpt.network.reward_model import RewardModel
from guildgpt.network.sampler import Sampled, Sampling, sample
from guildgpt.network.trunk import Trunk, length_groups, token_logprobs
from guildgpt.rewards.terms import Rewards, Written
from guildgpt.rewards.wanted import Wanted
from guildgpt.train.advantages import Floats, Mask
from guildgpt.train.config import RolloutConfig


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the policy is asked: turns and their ids (with the header that asks for an answer),
    what its answer has to pass, where that can be checked, and what the row it is of rests on."""

    messages: tuple[Message, ...]
    ids: tuple[int, ...]
    wanted: Wanted = field(default_factory=Wanted)
    origin: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Episode:
    """A prompt and what the policy answered, as scorers see it."""

    prompt: Prompt
    sampled: Sampled
    example: Example  # prompt and answer, closed, of which the answer is predicted
    ids: tuple[int, ...]  # of the answer, without the end of turn
    text: str

    @classmethod
    def of(cls, prompt: Prompt, sampled: Sampled, tokenizer: FileTokenizer, eos_id: int) -> Episode:
        """That of one prompt and the answer that was drawn for it."""
        example = answering(prompt.ids, sampled.ids, "rollout", end=eos_id)
        return cls(prompt, sampled, example, sampled.answer, tokenizer.decode(sampled.answer))


class Sampler(Protocol):
    """Whatever writes the policy's answers: `PolicySampler`, or another engine with its weights."""

    @property
    def exact(self) -> bool:
        """Whether its log-probabilities stand for the policy's; else they are computed again."""

    def __call__(self, prompts: Sequence[Sequence[int]], seed: int) -> Sequence[Sampled]:
        """An answer to each prompt (token ids), drawn at the temperature of the configuration."""


@dataclass(frozen=True)
class PolicySampler:
    """Our own sampler on the trunk that is trained."""

    policy: Trunk
    config: RolloutConfig
    eos_id: int

    @property
    def exact(self) -> bool:
        """In float32 the log-probabilities are those the answers were drawn at.

        Where rounding is coarser they are computed again by the pass that will be differentiated,
        so that the first update starts at a ratio of 1; a single update does so anyhow and needs
        them for the KL alone.
        """
        return self.policy.dtype == torch.float32 or self.config.updates == 1

    def __call__(self, prompts: Sequence[Sequence[int]], seed: int) -> list[Sampled]:
        """See `Sampler`."""
        return sample(
            self.policy,
            prompts,
            Sampling(self.config.max_new_tokens, self.config.temperature),
            eos_id=self.eos_id,
            seed=seed,
            rows=self.config.sample_rows,
        )


@dataclass(frozen=True)
class Scores:
    """What some episodes are worth, in the scorer's own measure."""

    total: Floats  # (R,)
    parts: Mapping[str, Floats]  # what the totals are made of, (R,) each, for the log
    states: Sequence[Tensor] = ()  # (tokens, d) of each episode: what a value head reads


class Scorer(Protocol):
    """Whatever says how good answers are."""

    def __call__(self, episodes: Sequence[Episode]) -> Scores:
        """The score of each."""


@dataclass
class Scoring:
    """Our scorer: weight · reward model + Σ programmatic terms; either may be missing, not both.

    With `states` it also gives the reward model's hidden states before each answer token, for a
    value head to read.
    """

    model: RewardModel | None
    weight: float
    rewards: Rewards
    states: bool = False

    def __call__(self, episodes: Sequence[Episode]) -> Scores:
        """See `Scorer`. A term that does not apply to an answer is NaN among its parts."""
        total = np.zeros(len(episodes))
        parts: dict[str, Floats] = {}
        states: list[Tensor] = []
        if self.model is not None:
            examples = [episode.example for episode in episodes]
            if self.states:
                found, states = self.model.scores_and_states(examples)
            else:
                found = self.model.scores(examples)
            without = np.array([self.rewards.without_model(e.prompt.wanted) for e in episodes])
            parts["model"] = np.where(without, np.nan, found.double().numpy())
            total += self.weight * np.where(without, 0.0, parts["model"])
        if self.rewards.names:
            given = self.rewards(
                [Written(one.text, one.ids, one.sampled.ended) for one in episodes],
                [one.prompt.wanted for one in episodes],
            )
            total += np.array(given.totals)
            for name, values in given.values.items():
                parts[name] = np.array([np.nan if v is None else v for v in values])
        return Scores(total, parts, states)


@dataclass(frozen=True, slots=True)
class Scale:
    """What a score is measured in: (score - mean) / spread."""

    mean: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, scores: Floats) -> Scale:
        """The scale on which these scores have mean 0 and variance 1; equal ones are only shifted.

        Ziegler et al. 2019, arXiv 1909.08593, section 2.1, of the reference's answers.
        """
        return cls(float(scores.mean()), float(scores.std()) or 1.0)


@dataclass(frozen=True)
class Rollout:
    """Episodes with everything that was true when they were written."""

    episodes: list[Episode]
    mask: Mask
    logprobs: Floats  # (R, T), of the policy at the temperature of sampling
    ref: Floats  # (R, T), of the reference
    kept: Mask  # (R,): false where nothing is learned from an answer, since it was cut
    scores: Floats  # (R,), to scale, `missing_eos` in place of that of an answer that was cut
    scored: Scores
    scale: Scale = Scale()

    @property
    def learned(self) -> Mask:
        """The tokens that are learned from, (R, T)."""
        return self.mask & self.kept[:, None]

    @property
    def kl(self) -> Floats:
        """log π - log π_ref of each token, (R, T), in nats; 0 where there is none."""
        return np.where(self.mask, self.logprobs - self.ref, 0.0)


def collect(
    prompts: Sequence[Prompt],
    sampler: Sampler,
    scorer: Scorer,
    policy: Trunk,
    reference: Trunk,
    tokenizer: FileTokenizer,
    eos_id: int,
    config: RolloutConfig,
    *,
    seed: int,
    scale: Scale | None = None,
) -> Rollout:
    """Answers to `prompts`, their log-probabilities under policy and reference, and their scores,
    on `scale` or, without one, on that of these answers if the configuration asks for any."""
    sampled = sampler([prompt.ids for prompt in prompts], seed)
    episodes = [
        Episode.of(prompt, one, tokenizer, eos_id)
        for prompt, one in zip(prompts, sampled, strict=True)
    ]
    lengths = np.array([len(one) for one in sampled])
    mask = np.arange(lengths.max()) < lengths[:, None]

    def logprobs(trunk: Trunk) -> Floats:
        return by_token(
            trunk,
            lambda batch: token_logprobs(trunk, batch, config.temperature),
            [episode.example for episode in episodes],
            mask,
            config.micro_tokens,
        )

    if sampler.exact:
        old = np.zeros(mask.shape)
        old[mask] = np.concatenate([one.logprobs for one in sampled])
    else:
        old = logprobs(policy)
    scored = scorer(episodes)
    _check(scored, episodes)
    ended = np.array([one.ended for one in sampled])
    kept = np.ones_like(ended)
    if config.missing_eos == "leave_out":
        kept = ended | np.array([loops(episode.ids) for episode in episodes])
    if scale is None:
        # Those that are kept, or all where none is.
        first = scored.total[kept | ~kept.any()]
        scale = Scale.of(first) if config.normalize else Scale()
    scores = (scored.total - scale.mean) / scale.spread
    if isinstance(config.missing_eos, float):
        scores = np.where(ended, scores, config.missing_eos)
    return Rollout(episodes, mask, old, logprobs(reference), kept, scores, scored, scale)


@torch.no_grad()
def by_token(
    trunk: Trunk,
    values: Callable[[Sequence[Example]], Tensor],
    examples: Sequence[Example],
    mask: Mask,
    micro_tokens: int,
) -> Floats:
    """A value for each answer token, (R, T), by passes of `trunk` of at most `micro_tokens`."""
    result = np.zeros(mask.shape)
    for group in length_groups([len(e) for e in examples], micro_tokens, padded=trunk.padded):
        found = values([examples[index] for index in group]).float().cpu().numpy()
        rows, columns = mask[group].nonzero()
        result[np.array(group)[rows], columns] = found
    return result


def _check(scored: Scores, episodes: Sequence[Episode]) -> None:
    """GuildError where an answer's score is not a number, with the parts that it is made of."""
    bad = np.flatnonzero(~np.isfinite(scored.total))
    if len(bad):
        made_of = ", ".join(f"{name} {values[bad[0]]}" for name, values in scored.parts.items())
        raise GuildError(
            f"{len(bad)} of {len(episodes)} answers score {scored.total[bad[0]]} ({made_of}); the "
            f"first is {episodes[bad[0]].text[:80]!r}",
            remedy="What scores them is broken: was the reward model's training healthy?",
        )
