"""The reward model: from comparisons, a number that says how good an answer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from guildgpt.bases.base import Base
from guildgpt.data.examples import Example
from guildgpt.data.rankings import Ranking
from guildgpt.evaluate.preferences import measure_preferences
from guildgpt.network.hardware import pick_dtype
from guildgpt.network.hats import Hats
from guildgpt.network.reward_model import RewardModel, final_scores, scalar_head
from guildgpt.train.config import RewardConfig
from guildgpt.train.loop import Job, Outcome, run_loop
from guildgpt.train.losses import bradley_terry, centring
from guildgpt.train.objective import Objective
from guildgpt.train.operations import Shape
from guildgpt.train.schedule import Schedule
from guildgpt.train.selection import Selection

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
    hats = Hats(base.model, pick_dtype(config.dtype, device), device)
    hats.add(HAT, config.lora, seed=seed)
    head = scalar_head(hats.width, seed=seed).to(device)
    head.bias.requires_grad_(False)
    model = RewardModel(hats.trunk(HAT), head, config.micro_tokens)
    few = {name: rows[: config.evaluation_rows] for name, rows in held_out.items() if rows}

    def evaluate() -> dict[str, dict[str, float]]:
        return {
            name: {"accuracy": measured.accuracy, "log_loss": measured.log_loss}
            for name, measured in measure_preferences(model, few).items()
        }

    parameters: dict[str, nn.Parameter] = {**hats.parameters(HAT), "score": head.weight}  # type: ignore[dict-item]
    selection = Selection("accuracy", config.patience) if few else None
    outcome = run_loop(
        RankingObjective(model, train, config, Schedule.of(len(train), config, seed, job.world)),
        parameters,
        config,
        job,
        dtype=hats.dtype,
        evaluate=evaluate if few else None,
        selection=selection,
    )
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


class RankingObjective(Objective):
    """All pairs of each ranking under Bradley and Terry's model, averaged within the prompt."""

    def __init__(
        self,
        model: RewardModel,
        rows: Sequence[Ranking],
        config: RewardConfig,
        schedule: Schedule,
    ):
        self.model = model
        self.rows = rows
        self.config = config
        self.schedule = schedule
        self.steps = schedule.steps
        self.shape = Shape(model.trunk)

    def batches(self, step: int) -> list[list[Ranking]]:
        """The step's prompts, cut into passes; a prompt's answers stay together."""
        rows = [self.rows[index] for index in self.schedule.own_rows(step)]
        return ranking_batches(rows, self.config.micro_tokens, padded=self.model.trunk.padded)

    def weight(self, batch: Any) -> float:
        """Prompts."""
        return len(batch)

    def tokens(self, batch: Any) -> int:
        """The number of tokens read."""
        return sum(map(len, batch))

    def flops(self, batch: Any) -> float:
        """The products of the trunk; the head's are next to nothing."""
        return self.shape.flops([e for ranking in batch for e in ranking.answers], logits=0)

    def loss(self, batch: Any) -> Tensor:
        """The summed loss in nats, each prompt the mean of its pairs."""
        scores = final_scores(
            self.model.trunk, self.model.head, [e for ranking in batch for e in ranking.answers]
        )
        total = scores.new_zeros(())
        first = 0
        for ranking in batch:
            total = total + self._one(scores[first : first + len(ranking.answers)], ranking)
            first += len(ranking.answers)
        return total

    def _one(self, scores: Tensor, ranking: Ranking) -> Tensor:
        better, worse = (scores[[pair[side] for pair in ranking.pairs]] for side in (0, 1))
        margin = self.config.margin * torch.tensor(ranking.steps, device=scores.device)
        loss = bradley_terry(better, worse, margin).mean()
        return loss + self.config.centring * centring(better, worse).mean()


def ranking_batches(rows: Sequence[Ranking], limit: int, *, padded: bool) -> list[list[Ranking]]:
    """Prompts in groups of similar length, of at most `limit` tokens, padding included; one prompt
    at least."""
    groups: list[list[Ranking]] = []
    size, longest, answers = 0, 0, 0
    for row in sorted(rows, key=len):
        longest = max(longest, *map(len, row.answers))
        answers += len(row.answers)
        size = longest * answers if padded else size + len(row)
        if not groups or size > limit:
            groups.append([])
            longest, answers, size = max(map(len, row.answers)), len(row.answers), len(row)
        groups[-1].append(row)
    return groups
