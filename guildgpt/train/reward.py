"""The reward model: from comparisons, a number that says how good an answer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from guildgpt.bases.base import Base
from guildgpt.data.examples import Example, Ranking
from guildgpt.evaluate.preferences import measure_preferences
from guildgpt.network.hats import Hats
from guildgpt.network.reward_model import RewardModel, final_scores, scalar_head
from guildgpt.train.checkpoint import Selection
from guildgpt.train.config import RewardConfig
from guildgpt.train.loop import Job, Outcome, run_loop
from guildgpt.train.losses import bradley_terry, centring
from guildgpt.train.objective import ComparisonObjective, Counts, answers_of, by_pair
from guildgpt.train.schedule import Schedule

HAT = "reward"


@dataclass(frozen=True)
class TrainedReward:
    """A reward model as training leaves it: still a hat on its base."""

    hats: Hats
    model: RewardModel
    outcome: Outcome
    best_step: int  # whose weights were kept


def train_reward(
    base: Base,
    train: Sequence[Ranking],
    held_out: Mapping[str, Sequence[Ranking]],
    demonstrations: Sequence[Example],
    config: RewardConfig,
    job: Job,
) -> TrainedReward:
    """Put an adapter and a scalar head on `base` and train them on `train`.

    The weights that order `held_out` best are kept, and the head's bias is set so that
    `demonstrations` score 0 on average.
    """
    device, seed = job.world.device, job.seed
    hats = Hats(base.model, job.world.dtype(config.dtype), device)
    hats.add(HAT, config.lora, seed=seed)
    head = scalar_head(hats.width, seed=seed).to(device)
    head.bias.requires_grad_(False)
    model = RewardModel(hats.trunk(HAT), head, config.micro_tokens)
    schedule = Schedule.of(len(train), config, seed, job.world)
    objective = RankingObjective(model.trunk, train, config, schedule, held_out, model=model)
    parameters: dict[str, nn.Parameter] = {**hats.parameters(HAT), "score": head.weight}  # type: ignore[dict-item]
    selection = Selection("accuracy", config.patience) if objective.few else None
    outcome = run_loop(objective, parameters, config, job, dtype=hats.dtype, selection=selection)
    try:
        _shift(model, demonstrations)
    except Exception as error:  # trained weights are not lost to it: differences do not need it
        job.watcher.warned(f"what people wrote does not score 0 ({type(error).__name__}: {error})")
    kept = selection.step if selection and selection.best is not None else outcome.steps
    return TrainedReward(hats, model, outcome, kept)


def _shift(model: RewardModel, demonstrations: Sequence[Example]) -> None:
    """Set the bias so that demonstrations score 0 on average."""
    if demonstrations:
        with torch.no_grad():
            model.head.bias.sub_(model.scores(demonstrations).mean())


@dataclass
class RankingObjective(ComparisonObjective):
    """Bradley and Terry's model of who wins a pair."""

    config: RewardConfig

    model: RewardModel = field(kw_only=True)

    def counts(self, batch: Sequence[Ranking]) -> Counts:
        """The products of the trunk; the head's are next to nothing."""
        flops = self.shape.flops(answers_of(batch), logits=0)
        return Counts(len(batch), sum(map(len, batch)), flops)

    def loss(self, batch: Sequence[Ranking]) -> Tensor:
        """The summed loss in nats, each prompt the mean of its pairs."""
        scores = final_scores(self.trunk, self.model.head, answers_of(batch))
        total = scores.new_zeros(())
        for ranking, (better, worse) in zip(batch, by_pair(scores, batch), strict=True):
            margin = self.config.margin * torch.tensor(ranking.steps, device=scores.device)
            loss = bradley_terry(better, worse, margin).mean()
            total = total + (loss + self.config.centring * centring(better, worse).mean())
        return total

    def measure(self) -> dict[str, dict[str, float]]:
        """See `Objective.measure`."""
        return {
            name: {"accuracy": measured.accuracy, "log_loss": measured.log_loss}
            for name, measured in measure_preferences(self.model, self.few).items()
        }
