"""The loop of every stage: step, measure, save; killed at any point, it goes on where it was.

What is trained on at step n depends on n and the seed alone, so a checkpoint holds no data
position, and on the CPU a resumed run gives the same numbers bit for bit.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from guildgpt.errors import GuildError
from guildgpt.train.checkpoint import latest_checkpoint, save_checkpoint
from guildgpt.train.config import TrainConfig
from guildgpt.train.hardware import memory_in_use, peak_flops

METRICS = "metrics.jsonl"
SMOOTHING = 20  # steps over which the shown speed is averaged


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
    evaluate: Callable[[], Mapping[str, Mapping[str, float]]] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Train `parameters` for `objective.steps` steps, from the last checkpoint in `folder` if any.

    Writes `folder/metrics.jsonl` (a line a step: loss in nats per term, lr, grad_norm, tokens,
    tokens_per_second, share_of_peak, memory_bytes, seconds; and a line a source for each held-out
    measurement). Raises GuildError when the loss is not a number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = list(parameters.values())
    optimizer = make_optimizer(parameters, config)
    done, totals = _resume(folder, parameters, optimizer, watcher)
    resumed_from = done
    log = _Log(folder / METRICS, keep_until=done, tensorboard=config.tensorboard)
    watcher.started(objective.steps, done)
    evaluation_steps = spread(objective.steps, config.evaluations)
    peak = peak_flops(device, dtype)
    saved_at = clock()

    if done == 0 and evaluate and evaluation_steps:
        _measure(0, evaluate, log, watcher)
    for step in range(done, objective.steps):
        begun = clock()
        rate = learning_rate(step, objective.steps, config)
        for group in optimizer.param_groups:
            group["lr"] = rate

        batches = objective.batches(step)
        weight = sum(objective.weight(batch) for batch in batches)
        loss = 0.0
        for batch in batches:
            # Divided by the whole step's count, so that passes may be cut anywhere.
            part = objective.loss(batch) / weight
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.item()
        norm = float(nn.utils.clip_grad_norm_(tensors, config.clip))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise GuildError(
                f"the loss is {loss} and the gradient's norm {norm} at step {step + 1}",
                where=folder,
                remedy="Lower the learning rate; the last checkpoint is from before this step.",
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        seconds = max(clock() - begun, 1e-9)
        tokens = sum(objective.tokens(batch) for batch in batches)
        memory = memory_in_use(device)
        totals.add(tokens, seconds, sum(map(objective.flops, batches)), memory)
        metrics = {
            "step": step + 1,
            "loss": loss,
            "lr": rate,
            "grad_norm": norm,
            "tokens": totals.tokens,
            "trained": weight,
            "tokens_per_second": tokens / seconds,
            "share_of_peak": sum(map(objective.flops, batches)) / seconds / peak,
            "memory_bytes": memory,
            "seconds": totals.seconds,
        }
        log.write(metrics)
        watcher.stepped(metrics)
        if evaluate and step + 1 in evaluation_steps:
            _measure(step + 1, evaluate, log, watcher)
        last = step + 1 == objective.steps
        if last or clock() - saved_at >= config.checkpoint_minutes * 60:
            _save(folder, step + 1, parameters, optimizer, totals, config, watcher)
            saved_at = clock()
    log.close()
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
    if set(checkpoint.weights) != set(parameters):
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
    log: _Log,
    watcher: Watcher,
) -> None:
    held_out = evaluate()
    for source, figures in held_out.items():
        log.write({"step": step, "source": source, **figures})
    watcher.measured(step, held_out)


class _Log:
    """metrics.jsonl, and TensorBoard's files on request."""

    def __init__(self, path: Path, *, keep_until: int, tensorboard: bool):
        self._cut(path, keep_until)
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed in close()
        self.board = None
        if tensorboard:
            try:
                from torch.utils.tensorboard.writer import SummaryWriter
            except ImportError as error:
                raise GuildError(
                    "tensorboard is asked for and not installed",
                    where="tensorboard",
                    remedy="pip install tensorboard, or leave it out of the recipe.",
                ) from error
            self.board = SummaryWriter(str(path.parent / "tensorboard"), purge_step=keep_until + 1)

    @staticmethod
    def _cut(path: Path, step: int) -> None:
        """Drop what was logged after the checkpoint: those steps are about to be run again."""
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # a kill may leave half a line
            if row["step"] <= step and (step or "source" not in row):
                kept.append(line)
        work = path.with_suffix(".writing")
        work.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        os.replace(work, path)

    def write(self, row: Mapping[str, Any]) -> None:
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()
        if self.board is not None:
            prefix = f"held out/{row['source']}/" if "source" in row else "train/"
            for key, value in row.items():
                if key not in ("step", "source"):
                    self.board.add_scalar(prefix + key, value, row["step"])  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()  # type: ignore[no-untyped-call]
