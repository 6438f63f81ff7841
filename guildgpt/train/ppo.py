"""PPO: the policy learns from its own answers, and a value model from what they were worth.

Four models live on one copy of the weights: the policy is a hat, the reference is no hat, reward
and value models are hats too. The iteration they go through is `OnPolicy.updates`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from guildgpt.data.examples import Example
from guildgpt.errors import RecipeError
from guildgpt.network.hats import POLICY, REWARD, VALUE, Hats
from guildgpt.network.reward_model import RewardModel, mean_head, scalar_head, token_values
from guildgpt.train.advantages import Floats, gae, leave_one_out, token_rewards, whiten
from guildgpt.train.config import PpoConfig
from guildgpt.train.losses import clipped_value_loss
from guildgpt.train.on_policy import Method, MicroBatch, Targets
from guildgpt.train.rollout import Rollout, by_token


@dataclass
class Ppo(Method):
    """Clipped policy and value losses over advantages from GAE (arXiv 1707.06347)."""

    config: PpoConfig
    value: ValueModel

    def __post_init__(self) -> None:
        self.figures = ("value_loss",)
        self.extra_passes = int(self.value.trunk is not None)

    def trained(
        self, policy: Mapping[str, nn.Parameter]
    ) -> tuple[dict[str, nn.Parameter], dict[str, float]]:
        """The policy and, at a learning rate of its own, the value model."""
        values = {f"{VALUE}.{name}": p for name, p in self.value.parameters.items()}
        parameters = {f"{POLICY}.{name}": p for name, p in policy.items()} | values
        return parameters, dict.fromkeys(values, self.config.value_pace)

    def advantages(self, rollout: Rollout, beta: float) -> Targets:
        """GAE over the score at the last token and the KL penalty at each; of several answers to a
        prompt the score is held against the others' first."""
        mask, learned, scores = rollout.mask, rollout.learned, rollout.scores
        if self.config.group > 1:
            groups = (-1, self.config.group)
            relative = leave_one_out(scores.reshape(groups), rollout.kept.reshape(groups))
            scores = relative.reshape(-1)
        rewards = token_rewards(scores, rollout.kl, beta, mask)
        if self.config.whiten_rewards:
            rewards = whiten(rewards, learned, keep_mean=True)
        values = self.value.before(rollout, self.config.micro_tokens)
        advantages, returns = gae(rewards, values, mask, self.config.gamma, self.config.lam)
        unexplained = (returns - values)[learned].var() / max(returns[learned].var(), 1e-8)
        if self.config.whiten_advantages:
            advantages = whiten(advantages, learned)
        extra = {"values": values, "returns": returns}
        return Targets(advantages, extra, {"explained_variance": 1 - float(unexplained)})

    def extra_loss(
        self, batch: MicroBatch, logprobs: Tensor, beta: float
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The value model's loss; it shares nothing with the policy's."""
        loss = clipped_value_loss(
            self.value.now(batch.examples, batch.states),
            batch.extra["values"],
            batch.extra["returns"],
            self.config.clip_value,
        )
        return self.config.value_weight * loss.sum(), {"value_loss": loss.mean()}


@dataclass
class ValueModel:
    """What an answer will be worth, told before each of its tokens.

    Either a hat of its own with a head, or, without `hats`, a head alone on the hidden states that
    the reward model's pass left.
    """

    head: nn.Linear
    hats: Hats | None = None

    def __post_init__(self) -> None:
        self.head.requires_grad_(True)
        self.trunk = self.hats.trunk(VALUE) if self.hats else None

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """What it learns, by name."""
        head = {f"head.{name}": p for name, p in self.head.named_parameters()}
        return head | (self.hats.parameters(VALUE) if self.hats else {})

    @torch.no_grad()
    def before(self, rollout: Rollout, micro_tokens: int) -> Floats:
        """The values (R, T) of a rollout, before anything is learned from it."""
        examples = [episode.example for episode in rollout.episodes]
        if self.trunk is not None:
            return by_token(
                self.trunk,
                lambda batch: self.now(batch, ()),
                examples,
                rollout.mask,
                micro_tokens,
            )
        values = np.zeros(rollout.mask.shape)
        values[rollout.mask] = self.now(examples, rollout.scored.states).cpu().numpy()
        return values

    def now(self, examples: Sequence[Example], states: Sequence[Tensor]) -> Tensor:
        """The values (K,) as they are now, with gradients; `states` are the reward model's."""
        if self.trunk is not None:
            return token_values(self.trunk, self.head, examples)
        return self.head(torch.cat(list(states)))[:, 0]  # type: ignore[no-any-return]


def value_model(hats: Hats, reward: RewardModel | None, config: PpoConfig, seed: int) -> ValueModel:
    """The value model that a recipe asks for. It may start from the reward model, whose adapter it
    takes over where that is one of the hats. RecipeError if it needs a reward model and there is
    none."""
    head = scalar_head(hats.width, seed=None).to(hats.device)
    if config.value_from == "reward" and reward is not None:
        head.load_state_dict(mean_head(reward.heads).state_dict())
    if config.value_trunk == "reward":
        if reward is None:
            raise no_states_to_read()
        return ValueModel(head)
    worn = reward is not None and reward.trunk.model is hats.model
    if config.value_from == "reward" and worn:
        weights = hats.adapter_weights(REWARD)
        hats.add(VALUE, hats.config(REWARD), seed=seed + 1, weights=weights)
    else:
        hats.add(VALUE, config.lora, seed=seed + 1)
    return ValueModel(head, hats)


def no_states_to_read() -> RecipeError:
    """What is wrong with `value_trunk = "reward"` where there is no reward model."""
    return RecipeError(
        "there is no reward model whose hidden states a value head could read",
        where="ppo.value_trunk",
        remedy="Set it to `own`, or put the stage `reward` before `ppo`.",
    )
