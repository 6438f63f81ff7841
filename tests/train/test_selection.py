"""Early stopping: the weights that held-out rows liked best come back, and training ends when
nothing is gained."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from guildgpt.network.world import World
from guildgpt.train.selection import BEST, Selection

ALONE = World(torch.device("cpu"))


def parameters_of(value: float) -> dict[str, nn.Parameter]:
    return {
        "a": nn.Parameter(torch.full((2, 3), float(value))),
        "b": nn.Parameter(torch.tensor([float(value)])),
    }


def measured(*values: float) -> dict[str, dict[str, float]]:
    return {f"source {n}": {"accuracy": value, "loss": 9.0} for n, value in enumerate(values)}


def run(selection: Selection, folder: Path, *values: float, first: int = 1) -> None:
    for step, value in enumerate(values, start=first):
        selection.consider(step, measured(value), parameters_of(step), folder, ALONE)


def test_the_best_weights_are_put_back(tmp_path: Path) -> None:
    selection = Selection("accuracy", patience=0)
    run(selection, tmp_path, 0.5, 0.8, 0.7, 0.8, 0.6)
    assert (selection.step, selection.best) == (2, 0.8)  # the first of equals
    last = parameters_of(99.0)
    selection.put_back(last, tmp_path)
    assert all(bool((parameter == 2).all()) for parameter in last.values())
    assert [path.name for path in tmp_path.iterdir()] == [BEST]


def test_a_full_disk_is_an_error_of_the_operating_system(tmp_path: Path) -> None:
    """So that it is told in words; safetensors has an error of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    selection = Selection("accuracy", patience=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            selection.consider(1, measured(0.9), parameters_of(1), tmp_path, ALONE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / BEST).exists()


def test_sources_count_alike(tmp_path: Path) -> None:
    selection = Selection("accuracy", patience=0)
    selection.consider(1, measured(0.9, 0.5), parameters_of(1), tmp_path, ALONE)
    selection.consider(2, measured(1.0, 0.3), parameters_of(2), tmp_path, ALONE)
    assert (selection.step, selection.best) == (1, pytest.approx(0.7))


def test_patience(tmp_path: Path) -> None:
    selection = Selection("accuracy", patience=2)
    run(selection, tmp_path, 0.5, 0.6, 0.6)
    assert not selection.over
    run(selection, tmp_path, 0.7, 0.1, first=4)  # a gain starts the wait anew
    assert not selection.over
    run(selection, tmp_path, 0.1, first=6)
    assert selection.over
    endless = Selection("accuracy", patience=0)
    run(endless, tmp_path, *[0.5] * 50)
    assert not endless.over


def test_a_resumed_selection_decides_alike(tmp_path: Path) -> None:
    first = Selection("accuracy", patience=2)
    run(first, tmp_path, 0.5, 0.8, 0.7)
    second = Selection("accuracy", patience=2)
    second.restore(json.loads(json.dumps(first.state())))
    run(second, tmp_path, 0.8, first=4)
    assert second.over
    parameters = parameters_of(4)
    second.put_back(parameters, tmp_path)
    assert float(parameters["b"].detach()) == 2


def test_without_measurements_the_last_weights_stay(tmp_path: Path) -> None:
    parameters = parameters_of(3)
    Selection("accuracy", patience=2).put_back(parameters, tmp_path)
    assert float(parameters["b"].detach()) == 3


def test_a_figure_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    selection = Selection("accuracy", patience=2)
    run(selection, tmp_path, 0.5, float("nan"), 0.4)
    assert (selection.step, selection.best) == (1, 0.5)
    assert selection.over
