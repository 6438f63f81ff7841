"""PPO: the policy learns from its own answers, and a value model from what they were worth.

Read `train_ppo` from top to bottom: put on the hats, then iterate. Four models live on one copy of
the weights: the policy is a hat, the reference is no hat, reward and value models are hats too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from guildgpt.chat import FileTokenizer
from guildgpt.data.examples import Example
from guildgpt.errors import RecipeError
from guildgpt.network.hats import Hats
from guildgpt.network.reward_model import RewardModel, scalar_head, token_values
from guildgpt.network.trunk import Trunk
from guildgpt.train.advantages import Floats, Mask, gae, token_rewards, whiten
from guildgpt.train.config import PpoConfig
from guildgpt.train.loop import Job, Outcome, run_loop
from guildgpt.train.on_policy import POLICY, OnPolicy, Part
from guildgpt.train.policy_losses import clipped_value_loss
from guildgpt.train.rollout import Prompt, Rollout, Scorer, by_token

VALUE = "value"


def train_ppo(
    hats: Hats,
    reward: RewardModel | None,
    reward_hat: str | None,
    prompts: Sequence[Prompt],
    scorer: Scorer,
    config: PpoConfig,
    tokenizer: FileTokenizer,
    eos_id: int,
    job: Job,
) -> Outcome:
    """Train the hat `policy`, which is put on here, on answers to `prompts`.

    `hats` may wear the reward model already, as `reward_hat`; the value model then starts from it.
    """
    hats.add(POLICY, config.lora, seed=job.seed)
    value = value_model(hats, reward, reward_hat, config, job.seed)
    objective = Ppo(
        hats,
        prompts,
        scorer,
        config,
        tokenizer,
        eos_id,
        job,
        value=value,
    )
    policy = {f"{POLICY}.{name}": p for name, p in hats.parameters(POLICY).items()}
    values = {f"{VALUE}.{name}": p for name, p in value.parameters.items()}
    return run_loop(
        objective,
        policy | values,
        config,
        job,
        dtype=hats.dtype,
        lr_scale=dict.fromkeys(values, config.value_pace),
    )


class ValueModel:
    """What an answer will be worth, told before each of its tokens.

    Either a hat of its own with a head, or a head alone on what the reward model's pass left.
    """

    def __init__(self, head: nn.Linear, trunk: Trunk | None, reward: RewardModel | None):
        self.head = head.requires_grad_(True)
        self.trunk = trunk
        self.reward = reward
        self.parameters: dict[str, nn.Parameter] = {
            f"head.{name}": p for name, p in head.named_parameters()
        }

    def before(self, examples: Sequence[Example], mask: Mask, micro_tokens: int) -> Floats:
        """The values (R, T) of a rollout that was just scored, before anything is learned."""
        if self.trunk is not None:
            trunk = self.trunk
            return by_token(
                lambda batch: token_values(trunk, self.head, batch),
                examples,
                mask,
                micro_tokens,
                padded=trunk.padded,
            )
        assert self.reward is not None
        self.states = {id(e): s for e, s in zip(examples, self.reward.states, strict=True)}
        values = np.zeros(mask.shape)
        with torch.no_grad():
            values[mask] = self.now(examples).cpu().numpy()
        return values

    def now(self, examples: Sequence[Example]) -> Tensor:
        """The values (K,) as they are now, with gradients; of that rollout's examples."""
        if self.trunk is not None:
            return token_values(self.trunk, self.head, examples)
        states = torch.cat([self.states[id(example)] for example in examples])
        return self.head(states)[:, 0]  # type: ignore[no-any-return]


def value_model(
    hats: Hats, reward: RewardModel | None, reward_hat: str | None, config: PpoConfig, seed: int
) -> ValueModel:
    """The value model that a recipe asks for. RecipeError if it needs a reward model's and there is
    none."""
    head = scalar_head(hats.width, seed=None).to(hats.device)
    if config.value_from == "reward" and reward is not None:
        head.load_state_dict(reward.head.state_dict())
    if config.value_trunk == "reward":
        if reward is None:
            raise RecipeError(
                "there is no reward model whose hidden states a value head could read",
                where="ppo.value_trunk",
                remedy="Set it to `own`, or put the stage `reward` before `ppo`.",
            )
        reward.keeps_states = True
        return ValueModel(head, None, reward)
    if config.value_from == "reward" and reward_hat is not None:
        weights = hats.adapter_weights(reward_hat)
        hats.add(VALUE, hats.config(reward_hat), seed=seed + 1, weights=weights)
    else:
        hats.add(VALUE, config.lora, seed=seed + 1)
    value = ValueModel(head, hats.trunk(VALUE), None)
    value.parameters |= hats.parameters(VALUE)
    return value


class Ppo(OnPolicy):
    """Clipped policy and value losses over advantages from GAE (arXiv 1707.06347)."""

    config: PpoConfig

    def __init__(self, *arguments: Any, value: ValueModel, **named: Any):
        super().__init__(*arguments, **named)
        self.value = value

    def advantages(self, rollout: Rollout) -> tuple[Floats, dict[str, Floats]]:
        """GAE over the score at the last token and the KL penalty at each."""
        mask = rollout.mask
        rewards = token_rewards(rollout.scores, rollout.kl, self.kl.beta, mask)
        if self.config.whiten_rewards:
            rewards = whiten(rewards, mask, keep_mean=True)
        examples = [answer.example for answer in rollout.answers]
        values = self.value.before(examples, mask, self.config.micro_tokens)
        advantages, returns = gae(rewards, values, mask, self.config.gamma, self.config.lam)
        unexplained = (returns - values)[mask].var() / max(returns[mask].var(), 1e-8)
        self.explained = 1 - float(unexplained)
        if self.config.whiten_advantages:
            advantages = whiten(advantages, mask)
        return advantages, {"values": values, "returns": returns}

    def flops(self, batch: Part) -> float:
        """Policy and value model, forward and backward."""
        own = self.shape.flops(batch.examples, logits=0) if self.value.trunk is not None else 0.0
        return super().flops(batch) + own

    def penalty(self, logprobs: Tensor, batch: Part) -> Tensor:
        """The value model's loss; it shares nothing with the policy's."""
        values = self.value.now(batch.examples)
        loss = clipped_value_loss(
            values, batch.extra["values"], batch.extra["returns"], self.config.clip_value
        )
        self.note("value_loss", loss.mean())
        return self.config.value_weight * loss.sum()

    def measure(self, rollout: Rollout) -> dict[str, float]:
        """See `OnPolicy.measure`."""
        return {**super().measure(rollout), "explained_variance": self.explained}
