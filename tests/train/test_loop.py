"""The loop: schedules by their formulas, clipping, logs, bad numbers, full disks, resuming."""

from __future__ import annotations

import json
import math
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guildgpt.errors import GuildError
from guildgpt.train import loop
from guildgpt.train.checkpoint import latest_checkpoint, save_checkpoint
from guildgpt.train.config import RowsConfig
from guildgpt.train.loop import Outcome, run_loop
from guildgpt.train.objective import Counts, Objective
from guildgpt.train.optimizer import make_optimizer
from guildgpt.train.schedule import learning_rate, spread

from .conftest import Remembering, job

CPU = torch.device("cpu")


class Fit(Objective):
    """Two passes a step over random points of y = Wx + b, with dropout on the way."""

    def __init__(self, steps: int, *, nan_at: int | None = None, dropout: float = 0.0):
        torch.manual_seed(0)
        self.steps = steps
        self.nan_at = nan_at
        self.model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(dropout), nn.LayerNorm(6))
        self.model.append(nn.Linear(6, 2)).train()
        self.seen: list[int] = []

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    def updates(self, step: int) -> Iterator[list[tuple[int, int]]]:
        self.seen.append(step)
        yield [(step, 3), (step, 5)]

    def counts(self, batch: tuple[int, int]) -> Counts:
        return Counts(batch[1], 10 * batch[1], 1000.0)

    def loss(self, batch: tuple[int, int]) -> Tensor:
        step, rows = batch
        points = torch.randn(rows, 6, generator=torch.Generator().manual_seed(100 * step + rows))
        loss = (self.model(points) - points[:, :2]).pow(2).sum()
        return loss * math.nan if step == self.nan_at else loss


class Killed(BaseException):
    """Stands for whatever ends a process: nothing of ours catches it."""


class Deadly(Remembering):
    """Ends the run at a step."""

    def __init__(self, at: int):
        super().__init__()
        self.at = at

    def stepped(self, metrics: Mapping[str, float]) -> None:
        super().stepped(metrics)
        if metrics["step"] == self.at:
            raise Killed


def train(
    objective: Fit, folder: Path, watcher: Remembering, evaluate: Any = None, **settings: Any
) -> Outcome:
    config = RowsConfig(**{"learning_rate": 1e-2, "checkpoint_minutes": 0, **settings})
    if evaluate:
        objective.measured_at = spread(objective.steps, config.evaluations)
        objective.measure = evaluate  # type: ignore[method-assign]
    where = job(folder, watcher, seed=5)
    return run_loop(objective, objective.parameters, config, where)


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# --- schedules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decay", "halfway", "end"), [("cosine", 0.55, 0.1), ("linear", 0.55, 0.1), ("constant", 1, 1)]
)
def test_learning_rate_at_its_corners(decay: Any, halfway: float, end: float) -> None:
    config = RowsConfig(learning_rate=0.2, warmup=0.1, decay=decay, final=0.1)
    steps = 100
    rate = [learning_rate(step, steps, config) / 0.2 for step in range(steps + 1)]
    # The first ten rise from 0 without touching it, in equal steps up to the top.
    assert rate[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert max(rate) == rate[10] == 1.0
    assert rate[55] == pytest.approx(halfway)
    assert rate[steps] == pytest.approx(end)
    assert rate[10:] == sorted(rate[10:], reverse=True)


def test_the_shapes_between_the_corners() -> None:
    steps = 90
    for step in range(0, steps, 7):
        share = step / steps
        for decay, expected in (
            ("linear", 0.25 + 0.75 * (1 - share)),
            ("cosine", 0.25 + 0.75 * (1 + math.cos(math.pi * share)) / 2),
        ):
            config = RowsConfig(learning_rate=1.0, warmup=0, decay=decay, final=0.25)
            assert learning_rate(step, steps, config) == pytest.approx(expected)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.99])
def test_the_rate_of_the_shortest_runs_is_never_zero(steps: int, warmup: float) -> None:
    config = RowsConfig(learning_rate=1.0, warmup=warmup, final=0.0)
    assert all(0 < learning_rate(step, steps, config) <= 1 for step in range(steps))


def test_spread() -> None:
    assert spread(100, 4) == {25, 50, 75, 100}
    assert spread(10, 3) == {3, 7, 10}
    assert spread(7, 1) == {7}
    assert spread(7, 0) == set()
    assert spread(3, 10) == {1, 2, 3}


# --- the optimizer -------------------------------------------------------------------------------


def test_only_matrices_are_decayed() -> None:
    parameters = Fit(1).parameters
    optimizer = make_optimizer(parameters, RowsConfig(weight_decay=0.1, betas=(0.8, 0.9)))
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert {name: decay[id(p)] for name, p in parameters.items()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "2.weight": 0.0,
        "2.bias": 0.0,
        "3.weight": 0.1,
        "3.bias": 0.0,
    }
    assert all(group["betas"] == (0.8, 0.9) for group in optimizer.param_groups)


def test_a_stage_of_matrices_alone_has_an_optimizer() -> None:
    parameters = {"a": nn.Parameter(torch.ones(2, 2))}
    assert len(make_optimizer(parameters, RowsConfig()).param_groups) == 1


@pytest.mark.parametrize(("clip", "clipped"), [(0.01, True), (1e6, False)])
def test_gradients_are_clipped_to_their_norm(
    clip: float,
    clipped: bool,
    tmp_path: Path,
    watcher: Remembering,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With plain gradient descent the step is the gradient times the rate, which shows it."""
    monkeypatch.setattr(
        loop,
        "make_optimizer",
        lambda p, config, scale: torch.optim.SGD([{"params": p.values(), "lr_scale": 1.0}]),
    )
    objective = Fit(1)
    before = {name: p.detach().clone() for name, p in objective.parameters.items()}
    train(objective, tmp_path, watcher, clip=clip, warmup=0, learning_rate=1e-3)
    moved = [p.detach() - before[name] for name, p in objective.parameters.items()]
    length = float(torch.cat([change.flatten() for change in moved]).norm()) / 1e-3
    (step,) = watcher.steps
    assert step["grad_norm"] > 0.1  # as it was before clipping
    assert length == pytest.approx(clip if clipped else step["grad_norm"], rel=1e-2)


# --- what is logged ------------------------------------------------------------------------------


def test_every_step_is_logged(tmp_path: Path, watcher: Remembering) -> None:
    outcome = train(Fit(6), tmp_path, watcher)
    rows = logged(tmp_path)
    assert rows == watcher.steps
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert list(rows[0]) == [
        "step",
        "loss",
        "lr",
        "grad_norm",
        "tokens",
        "trained",
        "tokens_per_second",
        "flops_per_second",
        "memory_bytes",
        "seconds",
    ]
    assert [row["tokens"] for row in rows] == [80, 160, 240, 320, 400, 480]
    assert {row["trained"] for row in rows} == {8}
    assert outcome.tokens == 480
    assert outcome.seconds == rows[-1]["seconds"] > rows[0]["seconds"] > 0
    assert outcome.tokens_per_second == pytest.approx(480 / outcome.seconds)
    assert outcome.resumed_from == 0
    assert outcome.metrics == tmp_path / "metrics.jsonl"
    assert outcome.peak_memory_bytes == max(row["memory_bytes"] for row in rows)


def test_the_loss_is_the_mean_over_all_passes(tmp_path: Path, watcher: Remembering) -> None:
    objective = Fit(1)
    expected = sum(objective.loss(batch).item() for batch in next(objective.updates(0))) / 8
    train(objective, tmp_path, watcher)
    assert watcher.losses == [pytest.approx(expected)]


def test_held_out_rows_are_measured_on_schedule(tmp_path: Path, watcher: Remembering) -> None:
    calls: list[int] = []

    def evaluate() -> dict[str, dict[str, float]]:
        calls.append(len(watcher.steps))
        return {"dolly": {"bits_per_byte": 1.0 / (1 + len(calls)), "perplexity": 3.0}}

    train(Fit(10), tmp_path, watcher, evaluate, evaluations=4)
    assert calls == [0, 2, 5, 8, 10]
    assert [step for step, _ in watcher.evaluations] == [0, 2, 5, 8, 10]
    measured = [row for row in logged(tmp_path) if "source" in row]
    assert [row["step"] for row in measured] == [0, 2, 5, 8, 10]
    assert measured[1] == {"step": 2, "source": "dolly", "bits_per_byte": 1 / 3, "perplexity": 3.0}


def test_nothing_is_measured_where_nobody_asks(tmp_path: Path, watcher: Remembering) -> None:
    def evaluate() -> dict[str, dict[str, float]]:
        raise AssertionError("not asked for")

    train(Fit(3), tmp_path, watcher, evaluate, evaluations=0)
    assert watcher.evaluations == []


def test_tensorboard_files(tmp_path: Path, watcher: Remembering) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    held_out = {"dolly": {"bits_per_byte": 1.5}}
    with pytest.raises(Killed):
        train(Fit(6), tmp_path, Deadly(5), lambda: held_out, evaluations=2, tensorboard=True)
    train(Fit(6), tmp_path, watcher, lambda: held_out, evaluations=2, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert [step for step, _ in shown] == [1, 2, 3, 4, 5, 6]  # none twice, though one was run twice
    assert [value for _, value in shown] == pytest.approx([r["loss"] for r in rows(tmp_path)])
    assert [e.step for e in events.Scalars("held out/dolly/bits_per_byte")] == [0, 3, 6]


def rows(folder: Path) -> list[dict[str, Any]]:
    """The training rows of the log."""
    return [row for row in logged(folder) if "source" not in row]


def test_no_tensorboard_unless_asked(tmp_path: Path, watcher: Remembering) -> None:
    train(Fit(1), tmp_path, watcher)
    assert not (tmp_path / "tensorboard").exists()


# --- numbers that are none -----------------------------------------------------------------------


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, watcher: Remembering) -> None:
    with pytest.raises(GuildError, match=r"the loss is nan .* at step 4") as raised:
        train(Fit(8, nan_at=3), tmp_path, watcher)
    assert raised.value.where == str(tmp_path)
    assert "Lower learning_rate" in str(raised.value.remedy)
    assert [row["step"] for row in logged(tmp_path)] == [1, 2, 3]
    found, damaged = latest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert found.step == 3
    assert damaged == []
    assert all(tensor.isfinite().all() for tensor in found.weights.values())
    # And without whatever was wrong, it goes on from there.
    again = Remembering()
    train(Fit(8), tmp_path, again)
    assert again.starts == [(8, 3)]
    assert len(again.steps) == 5


# --- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("killed_at", [1, 4, 7])
def test_a_resumed_run_is_the_same_bit_for_bit(
    killed_at: int, dropout: float, tmp_path: Path, watcher: Remembering
) -> None:
    whole = Fit(7, dropout=dropout)
    train(whole, tmp_path / "whole", watcher)

    with pytest.raises(Killed):
        train(Fit(7, dropout=dropout), tmp_path / "cut", Deadly(killed_at))
    resumed, again = Fit(7, dropout=dropout), Remembering()
    outcome = train(resumed, tmp_path / "cut", again)

    # The step at which it ended had not been saved yet.
    assert again.starts == [(7, killed_at - 1)]
    assert outcome.resumed_from == killed_at - 1
    assert resumed.seen == list(range(killed_at - 1, 7))
    for name, parameter in whole.parameters.items():
        assert torch.equal(parameter, resumed.parameters[name])
    for key in ("step", "loss", "lr", "grad_norm", "tokens", "trained"):
        assert [row[key] for row in logged(tmp_path / "cut")] == [s[key] for s in watcher.steps]


def test_a_checkpoint_from_before_lr_scale_had_its_name_is_gone_on_from(
    tmp_path: Path, watcher: Remembering
) -> None:
    """0.1.0 called it `pace`."""
    whole = Fit(5)
    train(whole, tmp_path / "whole", watcher)
    with pytest.raises(Killed):
        train(Fit(5), tmp_path / "cut", Deadly(4))
    folder = tmp_path / "cut" / "checkpoints"
    found, _ = latest_checkpoint(folder)
    assert found is not None
    for group in found.optimizer["param_groups"]:
        group["pace"] = group.pop("lr_scale")
    save_checkpoint(folder, found.step, found.weights, found.optimizer, found.state, keep=1)

    resumed, again = Fit(5), Remembering()
    assert train(resumed, tmp_path / "cut", again).resumed_from == 3
    assert again.losses == watcher.losses[3:]
    for name, parameter in whole.parameters.items():
        assert torch.equal(parameter, resumed.parameters[name])


def test_dropout_is_at_work_in_that_test(tmp_path: Path) -> None:
    first, second = Remembering(), Remembering()
    train(Fit(2), tmp_path / "a", first)
    train(Fit(2, dropout=0.5), tmp_path / "b", second)
    assert first.losses != second.losses


def test_seconds_go_on_from_where_they_were(tmp_path: Path, watcher: Remembering) -> None:
    with pytest.raises(Killed):
        train(Fit(6), tmp_path, Deadly(4))
    before = logged(tmp_path)[2]["seconds"]
    outcome = train(Fit(6), tmp_path, watcher)
    assert watcher.steps[0]["seconds"] > before
    assert outcome.seconds == logged(tmp_path)[-1]["seconds"] < 60


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path: Path, watcher: Remembering) -> None:
    def evaluate() -> dict[str, dict[str, float]]:
        return {"dolly": {"bits_per_byte": 1.0}}

    settings: dict[str, Any] = {"evaluations": 3, "checkpoint_minutes": 0}
    with pytest.raises(Killed):
        train(Fit(6), tmp_path, Deadly(4), evaluate, **settings)
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 5, "source": "dolly", "bits_per_byte": 9.0}) + "\n")
        log.write('{"step": 5, "loss": 0.1, "l')  # where the kill came
    train(Fit(6), tmp_path, watcher, evaluate, **settings)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5, 6]
    measured = [row for row in logged(tmp_path) if "source" in row]
    assert [row["step"] for row in measured] == [0, 2, 4, 6]
    assert {row["bits_per_byte"] for row in measured} == {1.0}


def test_without_a_checkpoint_the_log_begins_anew(tmp_path: Path, watcher: Remembering) -> None:
    def evaluate() -> dict[str, dict[str, float]]:
        return {"dolly": {"bits_per_byte": 1.0}}

    with pytest.raises(Killed):
        train(Fit(4), tmp_path, Deadly(3), evaluate, evaluations=1, checkpoint_minutes=60)
    assert [row["step"] for row in logged(tmp_path)] == [0, 1, 2, 3]
    train(Fit(4), tmp_path, watcher, evaluate, evaluations=1)
    assert watcher.starts == [(4, 0)]
    assert [row["step"] for row in logged(tmp_path)] == [0, 1, 2, 3, 4, 4]


def test_a_finished_stage_takes_no_step(tmp_path: Path, watcher: Remembering) -> None:
    first = train(Fit(3), tmp_path, Remembering())
    objective = Fit(3)
    second = train(objective, tmp_path, watcher)
    assert objective.seen == []
    assert (second.tokens, second.seconds) == (first.tokens, first.seconds)
    assert second.resumed_from == 3
    assert len(logged(tmp_path)) == 3


def test_checkpoints_by_the_clock(tmp_path: Path, watcher: Remembering) -> None:
    """A clock that advances a minute at every look: two looks a step, one for the time passed."""
    ticks = iter(range(0, 100_000, 60))
    config = RowsConfig(checkpoint_minutes=7, keep_checkpoints=50)
    objective = Fit(9)
    run_loop(
        objective,
        objective.parameters,
        config,
        job(tmp_path, watcher),
        clock=lambda: float(next(ticks)),
    )
    saved = sorted(int(path.name[5:]) for path in (tmp_path / "checkpoints").iterdir())
    assert saved[-1] == 9
    assert 3 <= len(saved) < 9


def test_a_damaged_checkpoint_is_passed_over_with_a_word(
    tmp_path: Path, watcher: Remembering
) -> None:
    with pytest.raises(Killed):
        train(Fit(6), tmp_path, Deadly(5))
    newest = tmp_path / "checkpoints" / "step-0000004"
    (newest / "optimizer.pt").write_bytes(b"cut short")
    outcome = train(Fit(6), tmp_path, watcher)
    assert outcome.resumed_from == 3
    assert watcher.warnings == [f"{newest} is damaged and was passed over"]
    whole = Remembering()
    train(Fit(6), tmp_path / "whole", whole)
    assert [row["loss"] for row in logged(tmp_path)] == whole.losses


def test_a_checkpoint_of_other_weights_is_refused(tmp_path: Path, watcher: Remembering) -> None:
    train(Fit(1), tmp_path, watcher)
    other = Fit(2)
    other.model[3] = nn.Linear(6, 1)  # broadcasting would fill it without a word
    with pytest.raises(GuildError, match="made with other settings"):
        train(other, tmp_path, watcher)


# --- a full disk ---------------------------------------------------------------------------------


class DiskFull(Remembering):
    """Lets no file outgrow the log by more than half a line, from step `start` until `end`."""

    def __init__(self, start: int, end: int, log: Path):
        super().__init__()
        self.start, self.end, self.log = start, end, log
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def stepped(self, metrics: Mapping[str, float]) -> None:
        super().stepped(metrics)
        if metrics["step"] == self.start:
            size = self.log.stat().st_size + 70
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, self.limits[1]))
        if metrics["step"] == self.end:
            self.free()

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)


def test_a_full_disk_ends_neither_training_nor_the_older_checkpoint(tmp_path: Path) -> None:
    """The writes that fail are the kernel's refusals (EFBIG): checkpoints, then the log too."""
    full = DiskFull(start=3, end=7, log=tmp_path / "metrics.jsonl")
    found_meanwhile: list[int] = []

    def evaluate() -> dict[str, dict[str, float]]:
        found, damaged = latest_checkpoint(tmp_path / "checkpoints")
        assert damaged == []
        found_meanwhile.append(found.step if found else 0)
        return {}

    objective, whole = Fit(9), Remembering()
    try:
        train(objective, tmp_path, full, evaluate, evaluations=9, keep_checkpoints=1)
    finally:
        full.free()
    train(Fit(9), tmp_path / "whole", whole)

    assert full.losses == whole.losses
    # Measured before step n is saved: from step 3 to step 6 the one of step 2 stands.
    assert found_meanwhile == [0, 0, 1, 2, 2, 2, 2, 2, 7, 8]
    saves = [text for text in full.warnings if "no checkpoint at step" in text]
    assert [text.split(":")[0] for text in saves] == [
        f"no checkpoint at step {step}" for step in (3, 4, 5, 6)
    ]
    assert "Training goes on, the older checkpoint is kept" in saves[0]
    logs = [text for text in full.warnings if "metrics.jsonl cannot be written" in text]
    assert len(logs) == 1  # said once, not at every step
    assert rows(tmp_path) == full.steps  # what waited was written once there was room
    assert latest_checkpoint(tmp_path / "checkpoints")[0].step == 9  # type: ignore[union-attr]
