"""PPO: the policy learns from its own answers, and a value model from what they were worth.

Read `train_ppo` from top to bottom: put on the hats, then iterate. Four models live on one copy of
the weights: the policy is a hat, the reference is no hat, reward and value models are hats too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from guildgpt.chat import FileTokenizer
from guildgpt.model.hats import Hats
from guildgpt.model.reward_model import RewardModel, scalar_head, token_values
from guildgpt.train.advantages import Floats, gae, token_rewards, whiten
from guildgpt.train.config import PpoConfig
from guildgpt.train.loop import Outcome, Watcher, run_loop
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
    folder: Path,
    *,
    seed: int,
    watcher: Watcher,
) -> Outcome:
    """Train the hat `policy`, which is put on here, on answers to `prompts`.

    `hats` may wear the reward model already, as `reward_hat`; the value model then starts from it.
    Called again with the same arguments, it goes on from its last checkpoint in `folder`.
    """
    hats.add(POLICY, config.lora, seed=seed)
    from_reward = config.value_from == "reward" and reward is not None and reward_hat is not None
    weights = hats.adapter_weights(reward_hat) if from_reward and reward_hat else None
    value_config = config.lora if weights is None else hats.config(reward_hat or "")
    hats.add(VALUE, value_config, seed=seed + 1, weights=weights)
    head = scalar_head(hats.width, seed=None).to(hats.device)
    if from_reward and reward is not None:
        head.load_state_dict(reward.head.state_dict())
    objective = Ppo(
        hats,
        prompts,
        scorer,
        config,
        tokenizer,
        eos_id,
        folder,
        seed=seed,
        watcher=watcher,
        head=head,
    )
    parameters = {
        **{f"{POLICY}.{name}": p for name, p in hats.parameters(POLICY).items()},
        **{f"{VALUE}.{name}": p for name, p in hats.parameters(VALUE).items()},
        **{f"{VALUE}.head.{name}": p for name, p in head.named_parameters()},
    }
    return run_loop(
        objective,
        parameters,
        config,
        folder,
        device=hats.device,
        dtype=hats.dtype,
        watcher=watcher,
        seed=seed,
    )


class Ppo(OnPolicy):
    """Clipped policy and value losses over advantages from GAE (arXiv 1707.06347)."""

    config: PpoConfig

    def __init__(self, hats: Hats, *arguments: Any, head: nn.Linear, **named: Any):
        super().__init__(hats, *arguments, **named)
        self.value, self.head = hats.trunk(VALUE), head.requires_grad_(True)

    def advantages(self, rollout: Rollout) -> tuple[Floats, dict[str, Floats]]:
        """GAE over the score at the last token and the KL penalty at each."""
        mask = rollout.mask
        rewards = token_rewards(rollout.scores, rollout.kl, self.kl.beta, mask)
        if self.config.whiten_rewards:
            rewards = whiten(rewards, mask, keep_mean=True)
        values = by_token(
            lambda batch: token_values(self.value, self.head, batch),
            [answer.example for answer in rollout.answers],
            mask,
            self.config.micro_tokens,
            padded=self.value.padded,
        )
        advantages, returns = gae(rewards, values, mask, self.config.gamma, self.config.lam)
        unexplained = (returns - values)[mask].var() / max(returns[mask].var(), 1e-8)
        self.explained = 1 - float(unexplained)
        if self.config.whiten_advantages:
            advantages = whiten(advantages, mask)
        return advantages, {"values": values, "returns": returns}

    def flops(self, batch: Part) -> float:
        """Policy and value model, forward and backward."""
        return super().flops(batch) + self.shape.flops(batch.examples, logits=0)

    def penalty(self, logprobs: Tensor, batch: Part) -> Tensor:
        """The value model's loss; it shares nothing with the policy's."""
        values = token_values(self.value, self.head, batch.examples)
        loss = clipped_value_loss(
            values, batch.extra["values"], batch.extra["returns"], self.config.clip_value
        )
        self.note("value_loss", loss.mean())
        return self.config.value_weight * loss.sum()

    def measure(self, rollout: Rollout) -> dict[str, float]:
        """See `OnPolicy.measure`."""
        return {**super().measure(rollout), "explained_variance": self.explained}
