"""Reinforcement learning on a policy's own answers: one iteration, whatever the method.

Read `OnPolicy.updates` from top to bottom: the policy answers, the answers are scored and held
against the reference (`rollout.py`), the method says what each token was worth (`ppo.py` or
`grpo.py`, by `advantages.py`), and the loop takes optimizer steps on each pass's loss
(`losses.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from guildgpt.chat import FileTokenizer
from guildgpt.chat.repetition import loops
from guildgpt.data.examples import Example
from guildgpt.network.hats import POLICY, Hats
from guildgpt.network.trunk import length_groups, summed_loss, token_logprobs
from guildgpt.train.advantages import Floats
from guildgpt.train.config import RolloutConfig
from guildgpt.train.demonstrations import Demonstrations, demonstrated
from guildgpt.train.guards import Guards, KlPenalty
from guildgpt.train.log import cut_log
from guildgpt.train.loop import Job, Outcome, run_loop
from guildgpt.train.losses import clip_fraction, clipped_policy_loss, kl_k3
from guildgpt.train.objective import Counts, Objective, Shape
from guildgpt.train.rollout import PolicySampler, Prompt, Rollout, Sampler, Scale, Scorer, collect
from guildgpt.train.schedule import Schedule, schedule, share

SAMPLES = "samples.jsonl"
SHOWN = 2  # answers shown at a time
FIGURES = ("approx_kl", "clip_fraction", "ratio")  # of every pass


@dataclass(frozen=True)
class Targets:
    """What an iteration learns from its rollout; arrays are (R, T)."""

    advantages: Floats
    extra: Mapping[str, Floats] = field(default_factory=dict)  # what else the method's loss needs
    figures: Mapping[str, float] = field(default_factory=dict)  # for the log


@dataclass(frozen=True)
class MicroBatch:
    """Episodes of a rollout as one forward pass sees them; tensors (K,) hold their tokens end to
    end."""

    examples: list[Example]
    old: Tensor
    ref: Tensor
    advantages: Tensor
    extra: Mapping[str, Tensor]  # see `Targets`
    states: Sequence[Tensor] = ()  # see `Scores`


class Method(Protocol):
    """What sets PPO, GRPO and others apart."""

    config: RolloutConfig
    figures: tuple[str, ...] = ()  # those that `extra_loss` gives of every pass
    extra_passes: int = 0  # through the trunk, that `extra_loss` takes beside the policy's

    def trained(
        self, policy: Mapping[str, nn.Parameter]
    ) -> tuple[Mapping[str, nn.Parameter], Mapping[str, float]]:
        """All that is trained, given the policy's weights, by name in a checkpoint; and what the
        learning rate of some of them is multiplied by."""
        return policy, {}

    def advantages(self, rollout: Rollout, beta: float) -> Targets:
        """What each answer's tokens were worth; `beta` is the price of a nat of KL."""

    def extra_loss(
        self, batch: MicroBatch, logprobs: Tensor, beta: float
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """What is added to the policy's loss, summed over the tokens (K,) that the policy gives
        `logprobs` now, and its `figures`."""
        return logprobs.new_zeros(()), {}


def train_on_policy(
    method: Method,
    hats: Hats,
    prompts: Sequence[Prompt],
    scorer: Scorer,
    tokenizer: FileTokenizer,
    eos_id: int,
    job: Job,
    sampler: Sampler | None = None,
    demonstrations: Sequence[Example] = (),
) -> Outcome:
    """Train the hat `policy`, which is put on here, on answers to `prompts`, and on
    `demonstrations` as far as the configuration asks for it.

    They are written by `sampler`, our own if none is given.
    """
    config = method.config
    hats.add(POLICY, config.lora, seed=job.seed)
    sampler = sampler or PolicySampler(hats.trunk(POLICY), config, eos_id)
    objective = OnPolicy(
        method, hats, prompts, sampler, scorer, tokenizer, eos_id, job, demonstrations
    )
    parameters, lr_scale = method.trained(hats.parameters(POLICY))
    return run_loop(objective, parameters, config, job, lr_scale=lr_scale)


@dataclass
class OnPolicy(Objective):
    """Reinforcement learning of the hat `policy` against the bare base."""

    method: Method
    hats: Hats
    prompts: Sequence[Prompt]
    sampler: Sampler
    scorer: Scorer
    tokenizer: FileTokenizer
    eos_id: int
    job: Job
    demonstrations: Sequence[Example] = ()

    def __post_init__(self) -> None:
        config, count, job = self.method.config, len(self.prompts), self.job
        self.config = config
        self.policy, self.reference = self.hats.trunk(POLICY), self.hats.trunk(None)
        self.shape = Shape(self.policy)
        self.kl, self.guards = KlPenalty(config.kl), Guards(config.guards)
        self.scale: Scale | None = None  # from the first iteration on
        self.steps, _ = schedule(count, config, config.group)
        size = config.prompts_a_step
        self.schedule = Schedule(count, size, self.steps, self.steps * size, job.seed, job.world)
        self.last: dict[str, float] = {}
        self.noted: list[dict[str, Tensor]] = []  # figures of this iteration's passes
        self.of_passes = [*FIGURES, *self.method.figures]
        if not config.demonstrations.weight:
            self.demonstrations = ()
        if self.demonstrations:
            self.of_passes.append("demonstration_loss")

    def updates(self, step: int) -> Iterator[Sequence[MicroBatch | Demonstrations]]:
        """One iteration: its optimizer steps, `minibatches` in each of `passes`."""
        with self.hats.shared.kept():
            rollout = self.collect(step)
            rows = np.flatnonzero(rollout.kept)
            targets = Targets(np.zeros(rollout.mask.shape))
            if len(rows):
                targets = self.method.advantages(rollout, self.kl.beta)
            self.noted = []
            for number in range(self.config.passes if len(rows) else 0):
                order = np.random.default_rng([self.job.seed, step, number]).permutation(rows)
                parts = np.array_split(order, min(self.config.minibatches, len(rows)))
                for place, some in enumerate(parts, start=number * self.config.minibatches):
                    # In order, so that answers to one prompt stay neighbours.
                    own = share(sorted(some.tolist()), self.job.world)
                    tokens = int(rollout.mask[some].sum())
                    shown = self.demonstrated(step * self.config.updates + place, tokens)
                    yield [*self.micro_batches(rollout, targets, own), *shown]
        self.last = {**self.summary(rollout), **targets.figures}
        self.show(step, rollout)
        self.kl.update(self.last["kl"], len(rollout.episodes))

    def collect(self, step: int) -> Rollout:
        """The iteration's answers; which prompts and what is drawn depend on seed and step."""
        chosen = self.schedule.rows(step)
        rollout = collect(
            [self.prompts[index] for index in chosen for _ in range(self.config.group)],
            self.sampler,
            self.scorer,
            self.policy,
            self.reference,
            self.tokenizer,
            self.eos_id,
            self.config,
            seed=int(np.random.SeedSequence([self.job.seed, step, 1]).generate_state(1)[0]),
            scale=self.scale,
        )
        self.scale = rollout.scale
        return rollout

    def demonstrated(self, update: int, tokens: int) -> list[Demonstrations]:
        """The demonstrations of an optimizer step, beside so many tokens of the policy's own."""
        return demonstrated(
            self.demonstrations,
            self.config.demonstrations,
            update,
            tokens,
            seed=self.job.seed,
            world=self.job.world,
            micro_tokens=self.config.micro_tokens,
            padded=self.policy.padded,
        )

    def micro_batches(
        self, rollout: Rollout, targets: Targets, rows: Sequence[int]
    ) -> list[MicroBatch]:
        """Some episodes as forward passes of at most `micro_tokens`."""
        examples = [rollout.episodes[row].example for row in rows]
        states = rollout.scored.states
        batches = []
        for group in length_groups(
            [len(e) for e in examples], self.config.micro_tokens, padded=self.policy.padded
        ):
            some = [rows[index] for index in group]

            def flat(values: Floats, some: list[int] = some) -> Tensor:
                chosen = values[some][rollout.mask[some]]
                return torch.from_numpy(chosen).float().to(self.hats.device)

            batches.append(
                MicroBatch(
                    [examples[index] for index in group],
                    flat(rollout.logprobs),
                    flat(rollout.ref),
                    flat(targets.advantages),
                    {name: flat(values) for name, values in targets.extra.items()},
                    [states[row] for row in some] if states else (),
                )
            )
        return batches

    def counts(self, batch: MicroBatch | Demonstrations) -> Counts:
        """Tokens that the policy wrote, and the work of the update; the rollout's is left out."""
        if isinstance(batch, Demonstrations):
            predicted = sum(example.trained for example in batch.examples)
            flops = self.shape.flops(batch.examples, logits=predicted)
            return Counts(0, sum(map(len, batch.examples)), flops)
        examples, known = batch.examples, not self.policy.padded  # the shared layers: from before
        extra = self.method.extra_passes * self.shape.flops(examples, logits=0, upper_only=known)
        flops = extra + self.shape.flops(examples, logits=len(batch.old), upper_only=known)
        return Counts(len(batch.old), sum(map(len, examples)), flops)

    def loss(self, batch: MicroBatch | Demonstrations) -> Tensor:
        """The summed loss of the policy, and what the method adds to it."""
        if isinstance(batch, Demonstrations):
            loss = summed_loss(self.policy, batch.examples)
            predicted = sum(example.trained for example in batch.examples)
            self.noted.append({"demonstration_loss": loss.detach() / max(predicted, 1)})
            return batch.weight * loss
        logprobs = token_logprobs(self.policy, batch.examples, self.config.temperature)
        clip = self.config.clip_ratio
        # With one update an iteration the policy is still the one that wrote the answers.
        old = logprobs.detach() if self.config.updates == 1 else batch.old
        loss = clipped_policy_loss(logprobs, old, batch.advantages, clip).sum()
        extra, figures = self.method.extra_loss(batch, logprobs, self.kl.beta)
        with torch.no_grad():
            found = (
                (old - logprobs).mean(),
                clip_fraction(logprobs, old, clip),
                torch.exp(logprobs - old).mean(),
            )
        noted = {**dict(zip(FIGURES, found, strict=True)), **figures}
        self.noted.append({name: value.detach() for name, value in noted.items()})
        return loss + extra

    def summary(self, rollout: Rollout) -> dict[str, float]:
        """The iteration's figures."""
        mask = rollout.mask
        ended = np.array([e.sampled.ended for e in rollout.episodes])
        k3 = kl_k3(torch.from_numpy(rollout.logprobs), torch.from_numpy(rollout.ref)).numpy()
        return {
            "reward": float(rollout.scored.total.mean()),
            "score": float(rollout.scores.mean()),
            **{
                f"reward_{name}": float(np.nanmean(values))
                for name, values in rollout.scored.parts.items()
                if not np.isnan(values).all()  # such as tests, where no prompt has any
            },
            "kl": float(rollout.kl.sum(1).mean()),
            "kl_k3": float(np.where(mask, k3, 0.0).sum(1).mean()),
            "kl_beta": self.kl.beta,
            "entropy": float(-rollout.logprobs[mask].mean()),
            "length": float(mask.sum(1).mean()),
            "cut": float(1 - ended.mean()),
            **({} if rollout.kept.all() else {"left_out": float(1 - rollout.kept.mean())}),
            "loops": float(np.mean([loops(e.ids) for e in rollout.episodes])),
            **{name: self.mean(name) for name in self.of_passes},
        }

    def mean(self, name: str) -> float:
        """The mean of a figure over the passes of all processes, of which one may have none."""
        world = self.job.world
        found = [noted[name].item() for noted in self.noted if name in noted]
        values = torch.tensor(found, device=world.device)
        return float(world.sum(values.sum()) / max(world.sum(len(values)), 1))

    def show(self, step: int, rollout: Rollout) -> None:
        """Every few iterations, what the policy says, with its score, in the log and on screen."""
        every = self.config.show_every
        due = every and (step % every == 0 or step + 1 == self.steps)
        if not (due and self.job.world.is_main):
            return
        file_path = self.job.folder / SAMPLES
        cut_log(file_path, step)  # of a run that was killed after its last checkpoint
        with open(file_path, "a", encoding="utf-8") as file:
            shown = list(zip(rollout.episodes, rollout.scored.total, strict=True))[:SHOWN]
            for episode, score in shown:
                asked = episode.prompt.messages[-1].content
                row = {
                    "step": step + 1,
                    "prompt": asked,
                    "answer": episode.text,
                    "reward": round(float(score), 4),
                    "ended": episode.sampled.ended,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                self.job.watcher.noted(
                    f"{score:+.2f}  {_short(asked, 40)} → {_short(episode.text, 90)}"
                )

    def figures(self) -> Mapping[str, float]:
        """See `Objective.figures`."""
        return self.last

    def check(self) -> None:
        """See `Objective.check`: the guards."""
        self.guards.check(self.last)

    def state(self) -> dict[str, Any]:
        """See `Objective.state`: the price of KL, what the guards have seen, the scale."""
        scale = asdict(self.scale) if self.scale else None
        return {"kl": {"beta": self.kl.beta}, "guards": self.guards.history, "scale": scale}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Objective.restore`."""
        self.kl.beta = state["kl"].get("beta", self.kl.beta)
        self.guards.history = state["guards"]
        self.scale = Scale(**state["scale"]) if state["scale"] else None


def _short(text: str, size: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= size else line[: size - 1] + "…"
