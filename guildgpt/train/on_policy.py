"""What PPO and GRPO share: each iteration answers prompts, scores them, and goes over them.

Read `OnPolicy.updates` from top to bottom: collect, turn scores into advantages, learn, measure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from guildgpt.chat import FileTokenizer
from guildgpt.chat.repetition import loops
from guildgpt.data.examples import Example
from guildgpt.network.hats import Hats
from guildgpt.network.trunk import length_groups, token_logprobs
from guildgpt.train.advantages import Floats
from guildgpt.train.config import RolloutConfig
from guildgpt.train.guards import Guards
from guildgpt.train.kl import controller
from guildgpt.train.log import cut_log
from guildgpt.train.loop import Job
from guildgpt.train.objective import Objective
from guildgpt.train.operations import Shape
from guildgpt.train.policy_losses import clip_fraction, clipped_policy_loss, kl_k3
from guildgpt.train.rollout import Prompt, Rollout, Scale, Scorer, collect
from guildgpt.train.schedule import Schedule, iterations, share

POLICY = "policy"
SAMPLES = "samples.jsonl"
SHOWN = 2  # answers shown at a time


@dataclass(frozen=True)
class Part:
    """Answers of a rollout as one pass sees them; tensors (K,) hold their tokens end to end."""

    examples: list[Example]
    old: Tensor
    ref: Tensor
    advantages: Tensor
    extra: dict[str, Tensor]  # what a method needs besides: PPO's values and returns


class OnPolicy(Objective):
    """Reinforcement learning of the hat `policy` against the bare base."""

    group = 1  # answers to each prompt

    def __init__(
        self,
        hats: Hats,
        prompts: Sequence[Prompt],
        scorer: Scorer,
        config: RolloutConfig,
        tokenizer: FileTokenizer,
        eos_id: int,
        job: Job,
    ):
        self.policy, self.reference = hats.trunk(POLICY), hats.trunk(None)
        self.device = hats.device
        self.prompts = prompts
        self.scorer = scorer
        self.config = config
        self.tokenizer = tokenizer
        self.eos_id = eos_id
        self.job = job
        self.kl = controller(config.kl)
        self.guards = Guards(config.guards)
        self.scale: Scale | None = None  # from the first iteration on
        self.shape = Shape(self.policy)
        self.steps = iterations(len(prompts), config, self.group)
        size = max(config.batch_size // self.group, 1)
        self.schedule = Schedule(
            len(prompts), size, self.steps, self.steps * size, job.seed, job.world
        )
        self.last: dict[str, float] = {}
        self.sums: dict[str, list[Tensor]] = {}

    def updates(self, step: int) -> Iterator[Sequence[Part]]:
        """One iteration: its optimizer steps, `minibatches` in each of `passes`."""
        rollout = self.collect(step)
        advantages, extra = self.advantages(rollout)
        self.sums = {}
        rows = np.arange(len(rollout.answers))
        for number in range(self.config.passes):
            order = np.random.default_rng([self.job.seed, step, number]).permutation(rows)
            for some in np.array_split(order, min(self.config.minibatches, len(rows))):
                # In order, so that answers to one prompt stay neighbours.
                own = share(sorted(some.tolist()), self.job.world)
                yield self.parts(rollout, advantages, extra, own)
        self.last = self.measure(rollout)
        self.show(step, rollout)
        self.kl.update(self.last["kl"], len(rows))

    def collect(self, step: int) -> Rollout:
        """The iteration's answers; which prompts and what is drawn depend on seed and step."""
        chosen = self.schedule.rows(step)
        rollout = collect(
            self.policy,
            self.reference,
            self.scorer,
            [self.prompts[index] for index in chosen for _ in range(self.group)],
            self.config,
            self.tokenizer,
            self.eos_id,
            seed=int(np.random.SeedSequence([self.job.seed, step, 1]).generate_state(1)[0]),
            scale=self.scale,
        )
        self.scale = rollout.scale
        return rollout

    def advantages(self, rollout: Rollout) -> tuple[Floats, dict[str, Floats]]:
        """A method's advantages (R, T), and what else of this shape its loss needs."""
        raise NotImplementedError

    def parts(
        self, rollout: Rollout, advantages: Floats, extra: Mapping[str, Floats], rows: Sequence[int]
    ) -> list[Part]:
        """Some answers as passes of at most `micro_tokens`."""
        examples = [rollout.answers[row].example for row in rows]
        parts = []
        for group in length_groups(
            [len(e) for e in examples], self.config.micro_tokens, padded=self.policy.padded
        ):
            some = [rows[index] for index in group]

            def flat(values: Floats, some: list[int] = some) -> Tensor:
                chosen = values[some][rollout.mask[some]]
                return torch.from_numpy(chosen).float().to(self.device)

            parts.append(
                Part(
                    [examples[index] for index in group],
                    flat(rollout.logprobs),
                    flat(rollout.ref),
                    flat(advantages),
                    {name: flat(values) for name, values in extra.items()},
                )
            )
        return parts

    def weight(self, batch: Part) -> float:
        """Tokens that the policy wrote."""
        return len(batch.old)

    def tokens(self, batch: Part) -> int:
        """Tokens read in the update; those of the rollout are not counted."""
        return sum(map(len, batch.examples))

    def flops(self, batch: Part) -> float:
        """The products of the update; those of the rollout are not counted."""
        return self.shape.flops(batch.examples, logits=len(batch.old))

    def loss(self, batch: Part) -> Tensor:
        """The summed loss of the policy; subclasses add theirs."""
        logprobs = token_logprobs(self.policy, batch.examples, self.config.temperature)
        clip = self.config.clip_ratio
        # With one update an iteration the policy is still the one that wrote the answers.
        old = logprobs.detach() if self.config.updates == 1 else batch.old
        with torch.no_grad():
            self.note("approx_kl", (old - logprobs).mean())
            self.note("clip_fraction", clip_fraction(logprobs, old, clip))
            self.note("ratio", torch.exp(logprobs - old).mean())
        loss = clipped_policy_loss(logprobs, old, batch.advantages, clip).sum()
        return loss + self.penalty(logprobs, batch)

    def penalty(self, logprobs: Tensor, batch: Part) -> Tensor:
        """What is added to the policy's loss, summed."""
        return logprobs.new_zeros(())

    def note(self, name: str, value: Tensor) -> None:
        """Remember a figure of this pass; the iteration's is their mean."""
        self.sums.setdefault(name, []).append(value.detach())

    def measure(self, rollout: Rollout) -> dict[str, float]:
        """The iteration's figures."""
        mask = rollout.mask
        lengths = mask.sum(1)
        ended = np.array([answer.sampled.ended for answer in rollout.answers])
        k3 = kl_k3(torch.from_numpy(rollout.logprobs), torch.from_numpy(rollout.ref)).numpy()
        return {
            "reward": float(rollout.raw.mean()),
            "score": float(rollout.scores.mean()),
            **{
                f"reward_{name}": float(np.nanmean(values))
                for name, values in rollout.parts.items()
                if not np.isnan(values).all()  # such as tests, where no prompt has any
            },
            "kl": float(rollout.kl.sum(1).mean()),
            "kl_k3": float(np.where(mask, k3, 0.0).sum(1).mean()),
            "kl_beta": self.kl.beta,
            "entropy": float(-rollout.logprobs[mask].mean()),
            "length": float(lengths.mean()),
            "cut": float(1 - ended.mean()),
            "loops": float(np.mean([loops(answer.ids) for answer in rollout.answers])),
            **{name: self.mean(torch.stack(values)) for name, values in self.sums.items()},
        }

    def mean(self, values: Tensor) -> float:
        """The mean of the figures (passes,) that the passes of all processes left."""
        world = self.job.world
        return float(world.sum(values.sum()) / world.sum(len(values)))

    def show(self, step: int, rollout: Rollout) -> None:
        """Every few iterations, what the policy says, with its score, in the log and on screen."""
        every = self.config.show_every
        due = every and (step % every == 0 or step + 1 == self.steps)
        if not (due and self.job.world.is_main):
            return
        file_path = self.job.folder / SAMPLES
        cut_log(file_path, step)  # of a run that was killed after its last checkpoint
        with open(file_path, "a", encoding="utf-8") as file:
            for answer, score in list(zip(rollout.answers, rollout.raw, strict=True))[:SHOWN]:
                asked = answer.prompt.messages[-1].content
                row = {
                    "step": step + 1,
                    "prompt": asked,
                    "answer": answer.text,
                    "reward": round(float(score), 4),
                    "ended": answer.sampled.ended,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                self.job.watcher.noted(
                    f"{score:+.2f}  {_short(asked, 40)} → {_short(answer.text, 90)}"
                )

    def figures(self) -> Mapping[str, float]:
        """See `Objective.figures`."""
        return self.last

    def check(self) -> None:
        """See `Objective.check`: the guards."""
        self.guards.check(self.last)

    def state(self) -> dict[str, Any]:
        """See `Objective.state`: the KL controller, what the guards have seen, the scale."""
        scale = asdict(self.scale) if self.scale else None
        return {"kl": self.kl.state(), "guards": self.guards.state(), "scale": scale}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Objective.restore`."""
        self.kl.restore(state["kl"])
        self.guards.restore(state["guards"])
        self.scale = Scale(**state["scale"]) if state["scale"] else None


def _short(text: str, size: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= size else line[: size - 1] + "…"
