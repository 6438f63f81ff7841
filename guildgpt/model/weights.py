"""The tensors of a model folder, read one by one."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from numpy.typing import NDArray

from guildgpt.errors import ModelError
from guildgpt.model.json_file import read_json

Array: TypeAlias = NDArray[Any]

# Whole or sharded; transformers looks for them in this order.
_FORMS = ("model.safetensors", "pytorch_model.bin")


class Weights:
    """The tensors of model.safetensors or pytorch_model.bin by name; nothing is read before asked.

    Raises ModelError where there are none, or not whole ones.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._where: dict[str, _Tensor] = {}
        for file in _files(folder):
            read = _safetensors if file.suffix == ".safetensors" else _pytorch
            self._where.update(read(file))
        self.names = set(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._where[name].shape

    def read(self, name: str) -> Array:
        """The tensor in float32, whatever it is stored in (numpy knows no bfloat16)."""
        array: Array = self._where[name].tensor().float().numpy()
        return array


class _Tensor(NamedTuple):
    shape: tuple[int, ...]
    tensor: Callable[[], Any]


def _files(folder: Path) -> list[Path]:
    """The files that hold the weights."""
    for form in _FORMS:
        if (folder / form).exists():
            return [folder / form]
        index = folder / f"{form}.index.json"
        if index.exists():
            return [folder / file for file in sorted(set(read_json(index)["weight_map"].values()))]
    raise ModelError(
        "the weights are not here",
        where=folder / _FORMS[0],
        remedy="A GGUF is made from safetensors or pytorch_model.bin; was the folder copied whole?",
    )


def _safetensors(file: Path) -> dict[str, _Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        reader: Any = safe_open(file, framework="pt")
    except (OSError, SafetensorError) as error:
        raise _not_whole(file, error) from error
    return {
        name: _Tensor(tuple(reader.get_slice(name).get_shape()), partial(reader.get_tensor, name))
        for name in reader.keys()  # noqa: SIM118 (it is no mapping)
    }


def _pytorch(file: Path) -> dict[str, _Tensor]:
    """Tensors alone are read: an older file could hold a program."""
    import torch

    try:
        old = not zipfile.is_zipfile(file)  # of before torch 1.6; such a file cannot be mapped
        found = torch.load(file, map_location="cpu", mmap=not old, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise _not_whole(file, error) from error
    return {
        name: _Tensor(tuple(tensor.shape), partial(torch.Tensor.contiguous, tensor))
        for name, tensor in found.items()
        if isinstance(tensor, torch.Tensor)
    }


def _not_whole(file: Path, error: Exception) -> ModelError:
    if isinstance(error, FileNotFoundError):
        return ModelError(
            "the weights are not here", where=file, remedy="Was the folder copied whole?"
        )
    reason = str(error).partition("\n")[0]
    return ModelError(
        f"this is not a whole {file.suffix[1:]} file ({reason})",
        where=file,
        remedy="Copy or download it again.",
    )
