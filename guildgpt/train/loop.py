"""The loop of every stage: step, measure, save; killed at any point, it goes on where it was.

What happens at step n, its rows and its dropout, depends on n and the seed alone, so a checkpoint
holds neither a data position nor a generator's state, and on the CPU a resumed run gives the same
numbers bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from guildgpt.errors import GuildError
from guildgpt.model.hardware import memory_in_use, peak_flops
from guildgpt.train.checkpoint import latest_checkpoint, save_checkpoint
from guildgpt.train.config import TrainConfig
from guildgpt.train.log import MetricsLog

METRICS = "metrics.jsonl"


class Objective(Protocol):
    """What a stage trains: its data, cut into passes, and the loss of each pass."""

    steps: int

    def batches(self, step: int) -> Sequence[Any]:
        """The forward and backward passes of one optimizer step."""

    def weight(self, batch: Any) -> int:
        """How many terms (trained tokens, pairs) the batch's summed loss has."""

    def tokens(self, batch: Any) -> int:
        """How many tokens the model reads in this batch."""

    def flops(self, batch: Any) -> float:
        """Floating-point operations that the batch's products take, forward and backward."""

    def loss(self, batch: Any) -> Tensor:
        """The summed loss of the batch, a scalar."""


class Watcher(Protocol):
    """Who is told how it goes: a progress bar, a test."""

    def started(self, steps: int, done: int) -> None:
        """The loop begins, with `done` steps resumed from a checkpoint."""

    def stepped(self, metrics: Mapping[str, float]) -> None:
        """A step is done."""

    def measured(self, step: int, held_out: Mapping[str, Mapping[str, float]]) -> None:
        """Held-out rows were measured."""

    def warned(self, message: str) -> None:
        """Something went wrong that does not end the run."""


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
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    watcher: Watcher,
    seed: int = 0,
    evaluate: Callable[[], Mapping[str, Mapping[str, float]]] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Train `parameters` for `objective.steps` steps, from the last checkpoint in `folder` if any.

    Writes `folder/metrics.jsonl` (a line a step: loss in nats per term, lr, grad_norm, tokens so
    far, trained terms, tokens_per_second, share_of_peak, memory_bytes, seconds of training so far;
    and a line a source for each held-out measurement). Raises GuildError when the loss is not a
    number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = make_optimizer(parameters, config)
    done, totals = _resume(folder, parameters, optimizer, watcher)
    resumed_from = done
    watcher.started(objective.steps, done)
    evaluation_steps = spread(objective.steps, config.evaluations) if evaluate else set()
    peak = peak_flops(device, dtype)
    saved_at = clock()

    with MetricsLog(
        folder / METRICS,
        keep_until=done,
        warned=watcher.warned,
        tensorboard=config.tensorboard,
    ) as log:
        if done == 0 and evaluate and evaluation_steps:
            _measure(0, evaluate, log, watcher)
        for step in range(done, objective.steps):
            begun = clock()
            torch.manual_seed(_step_seed(seed, step))
            batches = objective.batches(step)
            rate = learning_rate(step, objective.steps, config)
            loss, norm = _take_step(objective, batches, parameters, optimizer, rate, config.clip)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise GuildError(
                    f"the loss is {loss} and the gradient's norm {norm} at step {step + 1}",
                    where=folder,
                    remedy="Lower learning_rate and give the run another --out folder. The last "
                    "checkpoint here is from before this step.",
                )

            seconds = max(clock() - begun, 1e-9)
            tokens = sum(map(objective.tokens, batches))
            flops = sum(map(objective.flops, batches))
            memory = memory_in_use(device)
            totals.add(tokens, seconds, flops, memory)
            metrics = {
                "step": step + 1,
                "loss": loss,
                "lr": rate,
                "grad_norm": norm,
                "tokens": totals.tokens,
                "trained": sum(map(objective.weight, batches)),
                "tokens_per_second": tokens / seconds,
                "share_of_peak": flops / seconds / peak,
                "memory_bytes": memory,
                "seconds": totals.seconds,
            }
            log.write(metrics)
            watcher.stepped(metrics)
            if evaluate and step + 1 in evaluation_steps:
                _measure(step + 1, evaluate, log, watcher)
                peak = max(peak, peak_flops(device, dtype))  # a busy machine shows less than it has
            last = step + 1 == objective.steps
            if last or clock() - saved_at >= config.checkpoint_minutes * 60:
                _save(folder, step + 1, parameters, optimizer, totals, config, watcher)
                saved_at = clock()
    peak = max(peak, peak_flops(device, dtype))
    return Outcome(
        steps=objective.steps,
        tokens=totals.tokens,
        seconds=totals.seconds,
        tokens_per_second=totals.tokens / max(totals.seconds, 1e-9),
        share_of_peak=totals.flops / max(totals.seconds, 1e-9) / peak,
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
) -> tuple[float, float]:
    """One optimizer step: the loss per term and the gradient's norm before clipping.

    Where either is not finite, the weights are left as they are.
    """
    weight = sum(map(objective.weight, batches))
    loss = 0.0
    for batch in batches:
        # Divided by the whole step's count, so that passes may be cut anywhere.
        part = objective.loss(batch) / weight
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.item()
    norm = float(nn.utils.clip_grad_norm_(list(parameters.values()), clip))
    if math.isfinite(loss) and math.isfinite(norm):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, norm


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], config: TrainConfig
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101); vectors and norms are never decayed."""
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    vectors = [p for p in parameters.values() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
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


def _step_seed(seed: int, step: int) -> int:
    """The seed of a step's dropout."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])


@dataclass
class _Totals:
    """Sums over all steps of the stage, those before a resume too."""

    tokens: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    peak_memory: int = 0

    def add(self, tokens: int, seconds: float, flops: float, memory: int) -> None:
        self.tokens += tokens
        self.seconds += seconds
        self.flops += flops
        self.peak_memory = max(self.peak_memory, memory)


def _resume(
    folder: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
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
    return checkpoint.step, _Totals(**checkpoint.state)


def _save(
    folder: Path,
    step: int,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    totals: _Totals,
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
            vars(totals),
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
    log: MetricsLog,
    watcher: Watcher,
) -> None:
    held_out = evaluate()
    for source, figures in held_out.items():
        log.write({"step": step, "source": source, **figures})
    watcher.measured(step, held_out)
