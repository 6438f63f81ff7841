"""The loop of every stage: step, measure, save; killed at any point, it goes on where it was.

What happens at step n, its rows and its dropout, depends on n and the seed alone, so a checkpoint
holds neither a data position nor a generator's state, and on the CPU a resumed run gives the same
numbers bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from guildgpt.errors import GuildError
from guildgpt.network.hardware import memory_in_use, peak_flops
from guildgpt.network.world import World
from guildgpt.train.checkpoint import latest_checkpoint, save_checkpoint
from guildgpt.train.config import TrainConfig
from guildgpt.train.log import MetricsLog
from guildgpt.train.objective import Objective
from guildgpt.train.selection import Selection

METRICS = "metrics.jsonl"


class Watcher:
    """Who is told how it goes: a progress bar, a test. This one does nothing with it, as in every
    process but the main one."""

    def started(self, steps: int, done: int) -> None:
        """The loop begins, with `done` steps resumed from a checkpoint."""

    def stepped(self, metrics: Mapping[str, float]) -> None:
        """A step is done."""

    def measured(self, step: int, held_out: Mapping[str, Mapping[str, float]]) -> None:
        """Held-out rows were measured."""

    def noted(self, message: str) -> None:
        """Something worth a line: an answer that a policy wrote."""

    def warned(self, message: str) -> None:
        """Something went wrong that does not end the run."""


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
    share_of_peak: float
    peak_memory_bytes: int
    resumed_from: int
    metrics: Path


def run_loop(
    objective: Objective,
    parameters: Mapping[str, nn.Parameter],
    config: TrainConfig,
    job: Job,
    *,
    dtype: torch.dtype,
    evaluate: Callable[[], Mapping[str, Mapping[str, float]]] | None = None,
    selection: Selection | None = None,
    lr_scale: Mapping[str, float] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Train `parameters` for `objective.steps` steps, from the last checkpoint in the job's folder.

    Writes `folder/metrics.jsonl` (a line a step: loss in nats per term, lr, grad_norm, tokens so
    far, trained terms, tokens_per_second, share_of_peak, memory_bytes, seconds of training so far;
    a line a source for each held-out measurement, and whatever the objective adds). `lr_scale`
    multiplies the learning rate of the parameters it names. With a `selection`, training stops when
    held-out rows say so, and the best weights are put back at its end. Raises GuildError when the
    loss is not a number.
    """
    folder, world = job.folder, job.world
    watcher = job.watcher if world.is_main else Watcher()
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = make_optimizer(parameters, config, lr_scale)
    done, totals = _resume(folder, parameters, optimizer, objective, selection, watcher)
    world.barrier()  # no checkpoint is written before all have read the last one
    resumed_from = done
    watcher.started(objective.steps, done)
    evaluation_steps = spread(objective.steps, config.evaluations) if evaluate else set()
    peak = peak_flops(world.device, dtype)
    saved_at = clock()

    with ExitStack() as stack:
        log = None
        if world.is_main:
            log = MetricsLog(
                folder / METRICS,
                keep_until=done,
                warned=watcher.warned,
                tensorboard=config.tensorboard,
            )
            stack.enter_context(log)
        if done == 0 and evaluate and evaluation_steps:
            _measure(0, evaluate, log, watcher, world)
        over = bool(selection and selection.over)  # it was, before this resume
        for step in range(done, done if over else objective.steps):
            begun = clock()
            torch.manual_seed(_step_seed(job.seed, step, world.rank))
            rate = learning_rate(step, objective.steps, config)
            taken = _Taken()
            for batches in objective.updates(step):
                loss, norm = _take_step(
                    objective, batches, parameters, optimizer, rate, config.clip, world
                )
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    raise GuildError(
                        f"the loss is {loss} and the gradient's norm {norm} at step {step + 1}",
                        where=folder,
                        remedy="Lower learning_rate and give the run another --out folder. The "
                        "last checkpoint here is from before this step.",
                    )
                taken.add(objective, batches, loss, norm, world)

            seconds = max(clock() - begun, 1e-9)
            memory = memory_in_use(world.device)
            totals.add(taken.tokens, seconds, taken.flops, memory)
            metrics = {
                "step": step + 1,
                "loss": taken.loss / taken.weight,
                "lr": rate,
                "grad_norm": taken.norm,
                "tokens": totals.tokens,
                "trained": taken.weight,
                "tokens_per_second": taken.tokens / seconds,
                "share_of_peak": taken.flops / seconds / (peak * world.size),
                "memory_bytes": memory,
                "seconds": totals.seconds,
                **objective.figures(),
            }
            if log:
                log.write(metrics)
            watcher.stepped(metrics)
            objective.check()
            if evaluate and step + 1 in evaluation_steps:
                held_out = _measure(step + 1, evaluate, log, watcher, world)
                peak = max(
                    peak, peak_flops(world.device, dtype)
                )  # a busy machine shows less than it has
                if selection:
                    selection.consider(step + 1, held_out, parameters, folder, world)
            last = step + 1 == objective.steps or bool(selection and selection.over)
            due = last or clock() - saved_at >= config.checkpoint_minutes * 60
            if due and world.is_main:
                state = {"totals": vars(totals), "objective": objective.state()}
                if selection:
                    state["selection"] = selection.state()
                _save(folder, step + 1, parameters, optimizer, state, config, watcher)
                saved_at = clock()
            if last:
                break
    world.barrier()  # the best weights are written
    if selection:
        selection.put_back(parameters, folder)
    peak = max(peak, peak_flops(world.device, dtype))
    return Outcome(
        steps=totals.steps,
        tokens=totals.tokens,
        seconds=totals.seconds,
        tokens_per_second=totals.tokens / max(totals.seconds, 1e-9),
        share_of_peak=totals.flops / max(totals.seconds, 1e-9) / (peak * world.size),
        peak_memory_bytes=totals.peak_memory,
        resumed_from=resumed_from,
        metrics=folder / METRICS,
    )


def _take_step(
    objective: Objective,
    batches: Sequence[Any],
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    rate: float,
    clip: float,
    world: World,
) -> tuple[float, float]:
    """One optimizer step: the loss per term and the gradient's norm before clipping.

    Where either is not finite, the weights are left as they are.
    """
    weight = world.sum(sum(map(objective.weight, batches)))
    loss = 0.0
    for batch in batches:
        # Divided by the whole step's count, that of all processes: passes may be cut anywhere.
        part = objective.loss(batch) / weight
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.item()
    loss = world.sum(loss)
    world.sum_gradients(parameters.values())
    # Each scale by itself: a value model's gradients must not decide how far the policy goes.
    scales: dict[float, list[nn.Parameter]] = {}
    for group in optimizer.param_groups:
        scales.setdefault(group["lr_scale"], []).extend(group["params"])
    norm = math.hypot(*(float(nn.utils.clip_grad_norm_(some, clip)) for some in scales.values()))
    if math.isfinite(loss) and math.isfinite(norm):
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, norm


def make_optimizer(
    parameters: Mapping[str, nn.Parameter],
    config: TrainConfig,
    lr_scale: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101); vectors and norms are never decayed.

    Each group has the `lr_scale` of its parameters, 1 where none is named.
    """
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        decay = config.weight_decay if parameter.ndim >= 2 else 0.0
        kinds.setdefault((decay, (lr_scale or {}).get(name, 1.0)), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": some, "weight_decay": decay, "lr_scale": factor}
            for (decay, factor), some in kinds.items()
        ],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The rate of step `step` (from 0): a linear rise, then a fall to `final` times the top."""
    warmup = math.ceil(config.warmup * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(steps - warmup, 1)
    shape = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
    }[config.decay]
    floor = 1.0 if config.decay == "constant" else config.final
    return config.learning_rate * (floor + (1 - floor) * shape)


def spread(steps: int, count: int) -> set[int]:
    """`count` steps, evenly over the run, the last one among them."""
    return {round(steps * (i + 1) / count) for i in range(count)} - {0}


def _step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of a step's dropout. (A zero at the end of NumPy's entropy changes nothing.)"""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


@dataclass
class _Taken:
    """What one step of the loop took, all its optimizer steps and all processes together."""

    loss: float = 0.0  # summed over terms
    weight: float = 0.0
    norm: float = 0.0  # the largest
    tokens: int = 0
    flops: float = 0.0

    def add(
        self,
        objective: Objective,
        batches: Sequence[Any],
        loss: float,
        norm: float,
        world: World,
    ) -> None:
        weight = world.sum(sum(map(objective.weight, batches)))
        self.loss += loss * weight
        self.weight += weight
        self.norm = max(self.norm, norm)
        self.tokens += int(world.sum(sum(map(objective.tokens, batches))))
        self.flops += world.sum(sum(map(objective.flops, batches)))


@dataclass
class _Totals:
    """Sums over all steps of the stage, those before a resume too."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    peak_memory: int = 0

    def add(self, tokens: int, seconds: float, flops: float, memory: int) -> None:
        self.steps += 1
        self.tokens += tokens
        self.seconds += seconds
        self.flops += flops
        self.peak_memory = max(self.peak_memory, memory)


def _resume(
    folder: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    selection: Selection | None,
    watcher: Watcher,
) -> tuple[int, _Totals]:
    checkpoint, damaged = latest_checkpoint(folder / "checkpoints")
    for path in damaged:
        watcher.warned(f"{path} is damaged and was passed over")
    if checkpoint is None:
        return 0, _Totals()
    shapes = {name: tensor.shape for name, tensor in checkpoint.weights.items()}
    if shapes != {name: parameter.shape for name, parameter in parameters.items()}:
        raise GuildError(
            "the checkpoint here was made with other settings of model or adapter",
            where=folder,
            remedy="Give the new run another name or --out folder, or delete this one.",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(checkpoint.weights[name])
    optimizer.load_state_dict(checkpoint.optimizer)
    for group in optimizer.param_groups:  # of a checkpoint from before it had its present name
        group.setdefault("lr_scale", group.pop("pace", 1.0))
    objective.restore(checkpoint.state["objective"])
    if selection:
        selection.restore(checkpoint.state["selection"])
    return checkpoint.step, _Totals(**checkpoint.state["totals"])


def _save(
    folder: Path,
    step: int,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    config: TrainConfig,
    watcher: Watcher,
) -> None:
    """Write a checkpoint; a full disk is told of, and training goes on with the older one kept."""
    try:
        save_checkpoint(
            folder / "checkpoints",
            step,
            dict(parameters),
            optimizer.state_dict(),
            state,
            keep=config.keep_checkpoints,
        )
    except OSError as error:
        watcher.warned(
            f"no checkpoint at step {step}: {error.strerror or error}. Training goes on, the "
            "older checkpoint is kept; make room before it ends."
        )


def _measure(
    step: int,
    evaluate: Callable[[], Mapping[str, Mapping[str, float]]],
    log: MetricsLog | None,
    watcher: Watcher,
    world: World,
) -> Mapping[str, Mapping[str, float]]:
    held_out = world.from_main(evaluate())
    if log:
        for source, figures in held_out.items():
            log.write({"step": step, "source": source, **figures})
    watcher.measured(step, held_out)
    return held_out
