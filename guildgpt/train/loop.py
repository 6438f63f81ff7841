"""The loop of every stage: step, measure, save; killed at any point, it goes on where it was.

What happens at step n, its rows and its dropout, depends on n and the seed alone, so a checkpoint
holds neither a data position nor a generator's state, and on the CPU a resumed run gives the same
numbers bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from guildgpt.errors import GuildError
from guildgpt.network.hardware import memory_in_use
from guildgpt.network.world import World
from guildgpt.train.checkpoint import latest_checkpoint, put_weights, save_checkpoint
from guildgpt.train.config import TrainConfig
from guildgpt.train.guards import LossError
from guildgpt.train.log import MetricsLog
from guildgpt.train.objective import Figures, Objective
from guildgpt.train.optimizer import clip_gradients, make_optimizer
from guildgpt.train.progress import Watcher
from guildgpt.train.schedule import learning_rate
from guildgpt.train.selection import Selection

METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Job:
    """Where a stage is trained, with which seed, who watches, and which processes take part.

    `folder` holds checkpoints and metrics: called again with the same arguments, training goes on.
    """

    folder: Path
    seed: int
    watcher: Watcher
    world: World


@dataclass(frozen=True)
class Outcome:
    """A finished stage: counts, seconds of training (all runs of it), and where its log lies."""

    steps: int
    tokens: int
    seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    resumed_from: int
    metrics: Path
    flops_per_second: float = 0.0  # older runs do not say


def run_loop(
    objective: Objective,
    parameters: Mapping[str, nn.Parameter],
    config: TrainConfig,
    job: Job,
    *,
    selection: Selection | None = None,
    lr_scale: Mapping[str, float] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Train `parameters` for `objective.steps` steps, from the last checkpoint in the job's folder.

    Writes `folder/metrics.jsonl` (a line a step: loss in nats per term, lr, grad_norm, tokens so
    far, trained terms, tokens_per_second, flops_per_second, memory_bytes, seconds of training so
    far; a line a source for each held-out measurement, and whatever the objective adds). `lr_scale`
    multiplies the learning rate of the parameters it names. With a `selection`, training stops when
    held-out rows say so, and the best weights are put back at its end. Raises LossError when the
    loss is not a number.
    """
    world = job.world
    watcher = job.watcher if world.is_main else Watcher()
    job.folder.mkdir(parents=True, exist_ok=True)
    optimizer = make_optimizer(parameters, config, lr_scale)
    selection = selection or Selection()
    stage = _Stage(objective, parameters, optimizer, config, job, watcher, selection)
    done = stage.resume()
    world.barrier()  # no checkpoint is written before all have read the last one
    watcher.started(objective.steps, done)
    saved_at = clock()
    totals = stage.totals

    path = job.folder / METRICS
    log = MetricsLog(path, done, watcher.warned, config.tensorboard) if world.is_main else None
    with closing(log) if log else nullcontext():
        if done == 0 and objective.measured_at:
            stage.measure(0, log)
        for step in range(done, objective.steps):
            if selection.over:
                break
            begun = clock()
            taken = stage.take(step)
            seconds = max(clock() - begun, 1e-9)
            memory = memory_in_use(world.device)
            totals.add(taken, seconds, memory)
            metrics = {
                "step": step + 1,
                "loss": taken.loss,
                "lr": learning_rate(step, objective.steps, config),
                "grad_norm": taken.norm,
                "tokens": totals.tokens,
                "trained": taken.terms,
                "tokens_per_second": taken.tokens / seconds,
                "flops_per_second": taken.flops / seconds,
                "memory_bytes": memory,
                "seconds": totals.seconds,
                **objective.figures(),
            }
            if log:
                log.write(metrics)
            watcher.stepped(metrics)
            objective.check()
            if step + 1 in objective.measured_at:
                held_out = stage.measure(step + 1, log)
                selection.consider(step + 1, held_out, parameters, job.folder, world)
            last = selection.over or step + 1 == objective.steps
            if last or clock() - saved_at >= config.checkpoint_minutes * 60:
                stage.save(step + 1)
                saved_at = clock()
    world.barrier()  # the best weights are written
    selection.put_back(parameters, job.folder)
    busy = max(totals.seconds, 1e-9)
    return Outcome(
        steps=totals.steps,
        tokens=totals.tokens,
        seconds=totals.seconds,
        tokens_per_second=totals.tokens / busy,
        peak_memory_bytes=totals.peak_memory,
        resumed_from=done,
        metrics=path,
        flops_per_second=totals.flops / busy,
    )


@dataclass(frozen=True)
class _Taken:
    """What one step of the loop took, all its optimizer steps and all processes together."""

    loss: float  # per term
    norm: float  # the gradient's before clipping, the largest
    terms: float
    tokens: int
    flops: float


@dataclass
class _Totals:
    """Sums over all steps of the stage, those before a resume too."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    peak_memory: int = 0

    def add(self, taken: _Taken, seconds: float, memory: int) -> None:
        self.steps += 1
        self.tokens += taken.tokens
        self.seconds += seconds
        self.flops += taken.flops
        self.peak_memory = max(self.peak_memory, memory)


@dataclass
class _Stage:
    """What a step changes, and what a checkpoint holds of it."""

    objective: Objective
    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    config: TrainConfig
    job: Job
    watcher: Watcher
    selection: Selection
    totals: _Totals = field(default_factory=_Totals)

    def resume(self) -> int:
        """Go on from the last checkpoint, if there is one; how many steps are done."""
        folder = self.job.folder
        checkpoint, damaged = latest_checkpoint(folder / "checkpoints")
        for path in damaged:
            self.watcher.warned(f"{path} is damaged and was passed over")
        if checkpoint is None:
            return 0
        shapes = {name: tensor.shape for name, tensor in checkpoint.weights.items()}
        if shapes != {name: parameter.shape for name, parameter in self.parameters.items()}:
            raise GuildError(
                "the checkpoint here was made with other settings of model or adapter",
                where=folder,
                remedy="Give the new run another name or --out folder, or delete this one.",
            )
        put_weights(checkpoint.weights, self.parameters)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        for group in self.optimizer.param_groups:  # of a checkpoint from before it had its name
            group.setdefault("lr_scale", group.pop("pace", 1.0))
        self.objective.restore(checkpoint.state["objective"])
        self.selection.restore(checkpoint.state.get("selection", Selection().state()))
        self.totals = _Totals(**checkpoint.state["totals"])
        return checkpoint.step

    def take(self, step: int) -> _Taken:
        """A step of the loop: one optimizer step, or several on answers that a policy wrote.

        LossError where the loss is not a number; the weights are left as they are.
        """
        # The step's dropout. (A zero at the end of NumPy's entropy changes nothing.)
        world, entropy = self.job.world, [self.job.seed, step, self.job.world.rank]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        rate = learning_rate(step, self.objective.steps, self.config)
        summed, largest, terms, tokens, flops = 0.0, 0.0, 0.0, 0, 0.0
        for batches in self.objective.updates(step):
            counts = [self.objective.counts(batch) for batch in batches]
            weight = world.sum(sum(one.terms for one in counts))
            loss = 0.0
            for batch in batches:
                # Divided by the step's count, that of all processes: passes may be cut anywhere.
                part = self.objective.loss(batch) / weight
                part.backward()  # type: ignore[no-untyped-call]
                loss += part.item()
            loss = world.sum(loss)
            world.sum_gradients(self.parameters.values())
            norm = clip_gradients(self.optimizer, self.config.clip)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise LossError(
                    step + 1,
                    f"the loss is {loss} and the gradient's norm {norm} at step {step + 1}",
                    where=self.job.folder,
                    remedy="Lower learning_rate. The last checkpoint here is from before this "
                    "step.",
                )
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["lr_scale"]
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            summed += loss * weight
            largest = max(largest, norm)
            terms += weight
            tokens += int(world.sum(sum(one.tokens for one in counts)))
            flops += world.sum(sum(one.flops for one in counts))
        # Without any term nothing was learned from.
        return _Taken(summed / terms if terms else 0.0, largest, terms, tokens, flops)

    def measure(self, step: int, log: MetricsLog | None) -> Figures:
        """The figures of held-out rows, the main process's in all of them; logged."""
        held_out = self.job.world.from_main(self.objective.measure())
        if log:
            for source, figures in held_out.items():
                log.write({"step": step, "source": source, **figures})
        self.watcher.measured(step, held_out)
        return held_out

    def save(self, step: int) -> None:
        """Write a checkpoint, if this is the main process; a full disk is told of, and training
        goes on with the older one kept."""
        if not self.job.world.is_main:
            return
        state = {
            "totals": vars(self.totals),
            "objective": self.objective.state(),
            "selection": self.selection.state(),
        }
        try:
            save_checkpoint(
                self.job.folder / "checkpoints",
                step,
                dict(self.parameters),
                self.optimizer.state_dict(),
                state,
                keep=self.config.keep_checkpoints,
            )
        except OSError as error:
            self.watcher.warned(
                f"no checkpoint at step {step}: {error.strerror or error}. Training goes on, the "
                "older checkpoint is kept; make room before it ends."
            )
