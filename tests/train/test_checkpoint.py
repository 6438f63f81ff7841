"""Checkpoints: what was saved comes back, damage is passed over, a full disk harms none."""

from __future__ import annotations

import errno
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from guildgpt.train import checkpoint as module
from guildgpt.train.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    save_checkpoint,
)


def weights(step: int, size: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {"a": torch.randn(size, 4, generator=generator), "b": torch.full((3,), float(step))}


def optimizer_state(step: int) -> dict[str, Any]:
    parameters = [torch.nn.Parameter(tensor) for tensor in weights(step).values()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3 * step)
    sum((p**2).sum() for p in parameters).backward()
    optimizer.step()
    return optimizer.state_dict()


def save(folder: Path, *steps: int, keep: int = 5) -> None:
    for step in steps:
        state = {"tokens": 10 * step, "seconds": step / 3}
        save_checkpoint(folder, step, weights(step), optimizer_state(step), state, keep=keep)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_is(found: Checkpoint | None, step: int) -> None:
    assert found is not None
    assert found.step == step
    assert found.state == {"tokens": 10 * step, "seconds": step / 3}
    for name, tensor in weights(step).items():
        assert torch.equal(found.weights[name], tensor)
    saved = optimizer_state(step)
    assert found.optimizer["param_groups"] == saved["param_groups"]
    for place, values in saved["state"].items():
        for key, value in values.items():
            assert torch.equal(found.optimizer["state"][place][key], value)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    save(tmp_path, 7)
    found, damaged = latest_checkpoint(tmp_path)
    assert_is(found, 7)
    assert damaged == []


def test_there_may_be_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nowhere") == (None, [])


def test_views_of_one_matrix_are_saved_apart(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(6, 2)
    parts = {"q": whole[:4], "k": whole[4:], "odd": whole[:, 0]}
    save_checkpoint(tmp_path, 1, parts, {}, {}, keep=1)
    found, _ = latest_checkpoint(tmp_path)
    assert found is not None
    for name, part in parts.items():
        assert torch.equal(found.weights[name], part)


def test_the_latest_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 10, 9_999_999, keep=2)
    assert names(tmp_path) == ["step-0000010", "step-9999999"]
    assert_is(latest_checkpoint(tmp_path)[0], 9_999_999)


def test_a_new_one_outlives_damaged_ones_of_later_steps(tmp_path: Path) -> None:
    save(tmp_path, 10, 30)
    (tmp_path / "step-0000030" / "weights.safetensors").write_bytes(b"")
    save(tmp_path, 20, keep=1)
    assert names(tmp_path) == ["step-0000020"]
    assert_is(latest_checkpoint(tmp_path)[0], 20)


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    save(tmp_path, 1)
    shutil.copytree(tmp_path / "step-0000001", tmp_path / ".step-0000004.writing")
    assert latest_checkpoint(tmp_path)[0].step == 1  # type: ignore[union-attr]
    save(tmp_path, 3)
    assert names(tmp_path) == ["step-0000001", "step-0000003"]


# --- damage --------------------------------------------------------------------------------------


def truncate(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return damage


def flip(name: str, place: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[int(place * (len(data) - 1))] ^= 0x01
        (folder / name).write_bytes(data)

    return damage


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


FILES = ("weights.safetensors", "optimizer.pt", "state.json")
DAMAGES = {
    **{f"truncated {name}": truncate(name) for name in FILES},
    **{f"{name} flipped at {at}": flip(name, at) for name in FILES for at in (0, 0.3, 0.7, 1)},
    **{f"no {name}": remove(name) for name in FILES},
    "an empty folder": lambda folder: [remove(name)(folder) for name in FILES],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_one_is_passed_over(damage: Callable[[Path], None], tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    damage(tmp_path / "step-0000003")
    found, damaged = latest_checkpoint(tmp_path)
    assert_is(found, 2)
    assert damaged == [tmp_path / "step-0000003"]


def test_no_bit_of_the_state_can_be_flipped(tmp_path: Path) -> None:
    """The step and the counters are guarded as the tensors are."""
    save(tmp_path, 1, 2)
    file = tmp_path / "step-0000002" / "state.json"
    whole = file.read_bytes()
    passed_over = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x01
        file.write_bytes(damaged)
        found, _ = latest_checkpoint(tmp_path)
        # A flip may leave the JSON's meaning as it is (in a blank, say), but never change it.
        assert_is(found, found.step if found else 0)
        passed_over += found is not None and found.step == 1
    assert passed_over > 0.9 * len(whole)


def test_all_damaged(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for step in (1, 2):
        remove("state.json")(tmp_path / f"step-000000{step}")
    found, damaged = latest_checkpoint(tmp_path)
    assert found is None
    assert [path.name for path in damaged] == ["step-0000002", "step-0000001"]


def test_a_record_of_another_kind(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for other in ("[]", "null", '"text"', "{}"):
        (tmp_path / "step-0000002" / "state.json").write_text(other)
        assert_is(latest_checkpoint(tmp_path)[0], 1)


# --- a full disk ---------------------------------------------------------------------------------


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to write beyond `size` bytes of any file (EFBIG), as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 100, 1000, 40_000, 140_000])
def test_a_disk_that_fills_up(room: int, tmp_path: Path) -> None:
    """Wherever the write stops: in the weights (128 kB), or in the optimizer's state (256 kB)."""
    save(tmp_path, 1)
    large = weights(2, size=8000)
    parameter = torch.nn.Parameter(large["a"])
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    with no_file_larger_than(room), pytest.raises(OSError, match=r"."):
        save_checkpoint(tmp_path, 2, large, optimizer.state_dict(), {}, keep=1)
    assert names(tmp_path) == ["step-0000001"]
    assert_is(latest_checkpoint(tmp_path)[0], 1)
    save_checkpoint(tmp_path, 2, large, optimizer.state_dict(), {}, keep=1)
    assert torch.equal(latest_checkpoint(tmp_path)[0].weights["a"], large["a"])  # type: ignore[union-attr]


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def half_written(value: object, path: Path) -> None:
    path.write_bytes(b"half")
    full()


def full_in_rust(*_: object) -> None:
    raise SafetensorError("I/O error: No space left on device (os error 28)")


def full_in_torch(_: object, path: Path) -> None:
    path.write_bytes(b"half")
    raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")


@pytest.mark.parametrize(
    ("owner", "name", "fails"),
    [
        (module, "save_file", full_in_rust),
        (module, "save_file", half_written),
        (torch, "save", half_written),
        (torch, "save", full_in_torch),
        (Path, "write_text", full),
        (module.os, "fsync", full),
        (Path, "rename", full),
    ],
)
def test_a_write_that_fails_anywhere(
    owner: object,
    name: str,
    fails: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save(tmp_path, 1, 2)
    tensors, optimizer = weights(3), optimizer_state(3)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fails)
        with pytest.raises(OSError, match=r"(?i)no space|unexpected pos"):
            save_checkpoint(tmp_path, 3, tensors, optimizer, {}, keep=1)
    assert names(tmp_path) == ["step-0000001", "step-0000002"]
    assert_is(latest_checkpoint(tmp_path)[0], 2)
