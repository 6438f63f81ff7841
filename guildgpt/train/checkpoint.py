"""Checkpoints: there whole or not at all, and checked before they are trusted."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from guildgpt.hashes import file_sha256

WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.pt", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a stage needs to go on: `step` optimizer steps are done."""

    step: int
    weights: dict[str, Tensor]  # the trained ones alone
    optimizer: dict[str, Any]
    state: dict[str, Any]  # the stage's own: counters, times


def save_checkpoint(
    folder: Path,
    step: int,
    weights: dict[str, Tensor],
    optimizer: dict[str, Any],
    state: dict[str, Any],
    *,
    keep: int,
) -> Path:
    """Write `folder/step-N` beside the older ones, then delete all but the latest `keep`.

    Later steps are deleted too: they were damaged and passed over, or training would not be here.
    Everything goes into a temporary folder that is renamed at the end, with the files' hashes in
    state.json: neither a kill nor a full disk (OSError) leaves something that looks like a
    checkpoint.
    """
    target = folder / f"step-{step:07d}"
    work = folder / f".{target.name}.writing"
    for left_over in folder.glob(".step-*.writing"):  # of a run that was killed in here
        shutil.rmtree(left_over, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        write_weights(weights, work / WEIGHTS)
        torch.save(optimizer, work / OPTIMIZER)
        hashes = {name: file_sha256(work / name) for name in (WEIGHTS, OPTIMIZER)}
        record = {"step": step, "sha256": hashes, "state": state}
        record["own_sha256"] = _record_sha256(record)
        (work / STATE).write_text(json.dumps(record), encoding="utf-8")
        for name in (WEIGHTS, OPTIMIZER, STATE):
            with open(work / name, "rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
    except RuntimeError as error:  # torch's own zip writer reports a full disk this way
        raise OSError(str(error).splitlines()[0]) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    paths = sorted(folder.glob("step-*"))
    place = paths.index(target) + 1
    for path in paths[: max(place - keep, 0)] + paths[place:]:
        shutil.rmtree(path, ignore_errors=True)
    return target


def latest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[Path]]:
    """The newest checkpoint whose files are whole, and the newer ones that are damaged."""
    damaged: list[Path] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return _load(path), damaged
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError):
            damaged.append(path)
    return None, damaged


def _load(path: Path) -> Checkpoint:
    record = json.loads((path / STATE).read_text(encoding="utf-8"))
    if record.pop("own_sha256") != _record_sha256(record):
        raise ValueError(f"{STATE} is not what was written")
    for name, sha256 in record["sha256"].items():
        if file_sha256(path / name) != sha256:
            raise ValueError(f"{name} is not what was written")
    return Checkpoint(
        step=int(record["step"]),
        # SFT's adapter was once the one that peft calls `default`.
        weights={
            re.sub(r"\.default(\.weight)?$", "", name): tensor
            for name, tensor in load_file(path / WEIGHTS).items()
        },
        optimizer=torch.load(path / OPTIMIZER, weights_only=True),
        state=record["state"],
    )


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write weights as safetensors. OSError where they cannot be written."""
    try:
        save_file({name: tensor.detach().cpu().clone() for name, tensor in weights.items()}, path)
    except SafetensorError as error:  # the operating system's, in its own words
        raise OSError(str(error)) from error


def put_weights(weights: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    """Give each parameter its weights."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def _record_sha256(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
