"""The reward model: from comparisons, a number that says how good an answer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from guildgpt.bases.base import Base
from guildgpt.data.examples import Example, Ranking
from guildgpt.data.split import fraction
from guildgpt.evaluate.equal_length import FEWEST
from guildgpt.evaluate.preferences import PreferenceFigures, measure_preferences
from guildgpt.network.hats import REWARD, Hats
from guildgpt.network.reward_model import RewardModel, final_scores, scalar_head
from guildgpt.train.config import RewardConfig
from guildgpt.train.length import Balance, LengthWindow, spread_of
from guildgpt.train.loop import Job, Outcome, run_loop
from guildgpt.train.losses import bradley_terry, centring
from guildgpt.train.objective import ComparisonObjective, Counts, answers_of, by_pair
from guildgpt.train.schedule import Schedule
from guildgpt.train.selection import Selection


@dataclass(frozen=True)
class TrainedReward:
    """A reward model as training leaves it: still a hat on its base."""

    hats: Hats
    model: RewardModel
    outcome: Outcome
    best_step: int | None  # whose weights were kept; None if nothing was measured on the way


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
    hats.add(REWARD, config.lora, seed=seed)
    heads = scalar_head(hats.width, seed=seed, heads=config.heads).to(device)
    heads.bias.requires_grad_(False)
    model = RewardModel(hats.trunk(REWARD), heads, config.micro_tokens)
    schedule = Schedule.of(len(train), config, seed, job.world)
    objective = RankingObjective(model.trunk, train, config, schedule, held_out, model=model)
    parameters: dict[str, nn.Parameter] = {**hats.parameters(REWARD), "score": heads.weight}  # type: ignore[dict-item]
    selection = None
    if objective.few:
        selection = Selection(config.best_by, config.patience)
        if config.best_by == "equal_length" and (short := objective.too_few()):
            job.watcher.warned(
                f"too few held-out pairs to take length out of ({', '.join(short)}): the best "
                "weights are told by plain accuracy there; raise reward.evaluation_rows"
            )
    outcome = run_loop(objective, parameters, config, job, selection=selection)
    try:
        _shift(model, demonstrations)
    except Exception as error:  # trained weights are not lost to it: differences do not need it
        job.watcher.warned(f"what people wrote does not score 0 ({type(error).__name__}: {error})")
    kept = selection.step if selection and selection.best is not None else None
    return TrainedReward(hats, model, outcome, kept)


def _shift(model: RewardModel, demonstrations: Sequence[Example]) -> None:
    """Set the bias so that demonstrations score 0 on average, by every head."""
    if not demonstrations:
        return
    with torch.no_grad():
        model.heads.bias.sub_(model.scores_by_head(demonstrations).mean(0))


@dataclass
class RankingObjective(ComparisonObjective):
    """Bradley and Terry's model of who wins a pair."""

    config: RewardConfig

    model: RewardModel = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.balance = Balance(self.rows) if self.config.balance_length and self.rows else None
        self.window = LengthWindow(spread_of(self.rows)) if self.config.length_weight else None

    def counts(self, batch: Sequence[Ranking]) -> Counts:
        """The products of the trunk; the head's are next to nothing."""
        flops = self.shape.flops(answers_of(batch), logits=0)
        return Counts(len(batch), sum(map(len, batch)), flops)

    def loss(self, batch: Sequence[Ranking]) -> Tensor:
        """The summed loss in nats, each prompt the mean of its pairs."""
        scores = final_scores(self.trunk, self.model.heads, answers_of(batch))
        total = scores.new_zeros(())
        for ranking, (better, worse) in zip(batch, by_pair(scores, batch), strict=True):
            total = total + self._of_prompt(ranking, better, worse)
        return total

    def _of_prompt(self, ranking: Ranking, better: Tensor, worse: Tensor) -> Tensor:
        """The loss of a prompt, from the scores (pairs, heads) of its better and worse answers."""
        margin = self.config.margin * torch.tensor(ranking.steps, device=better.device)
        losses = bradley_terry(better, worse, margin[:, None])
        if self.balance:
            losses = losses * torch.from_numpy(self.balance.weights(ranking)).to(losses)[:, None]
        loss = self._over_heads(losses, ranking)
        centred = self._over_heads(centring(better, worse), ranking)
        loss = loss + self.config.centring * centred
        if self.window:
            cost = self.window.cost((better - worse).mean(1), ranking)
            loss = loss + self.config.length_weight * cost.mean()
        return loss

    def _over_heads(self, losses: Tensor, ranking: Ranking) -> Tensor:
        """The mean of (pairs, heads) over the heads that learn from a prompt: all but one of them,
        so that each knows less of other prompts. (Two heads thus share the prompts out.)"""
        heads = losses.shape[1]
        if heads == 1:
            return losses.mean()
        left_out = int(fraction("head", ranking.tree) * heads)
        return losses.mean(0)[[one for one in range(heads) if one != left_out]].mean()

    def measure(self) -> dict[str, dict[str, float]]:
        """See `Objective.measure`."""
        return {
            name: self._figures(measured)
            for name, measured in measure_preferences(self.model, self.few).items()
        }

    def _figures(self, measured: PreferenceFigures) -> dict[str, float]:
        figures = {"accuracy": measured.accuracy, "log_loss": measured.log_loss}
        if self.config.best_by == "equal_length":
            level = measured.equal_length and measured.equal_length.regressed
            figures["equal_length"] = level.accuracy if level else measured.accuracy
        return figures

    def too_few(self) -> list[str]:
        """The sources whose held-out pairs are too few to take length out of."""
        pairs = {name: sum(len(row.pairs) for row in rows) for name, rows in self.few.items()}
        return [name for name, count in pairs.items() if count < FEWEST]

    def figures(self) -> dict[str, float]:
        """How far scores went along with length lately, where that costs something."""
        return {"length_correlation": self.window.close(self.schedule.world)} if self.window else {}

    def state(self) -> dict[str, Any]:
        """See `Objective.state`."""
        return self.window.state() if self.window else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Objective.restore`."""
        if self.window:
            self.window.restore(state)
