"""The tensors of a model folder, read one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from guildgpt.errors import ModelError
from guildgpt.model.json_file import read_json

Array: TypeAlias = NDArray[Any]


class Weights:
    """The tensors of model.safetensors, whole or sharded, by name; nothing is read before asked."""

    def __init__(self, folder: Path):
        from safetensors import SafetensorError, safe_open

        self.folder = folder
        index = folder / "model.safetensors.index.json"
        if index.exists():
            files = sorted(set(read_json(index)["weight_map"].values()))
        else:
            files = ["model.safetensors"]
        self._where: dict[str, Any] = {}
        for file in files:
            try:
                reader = safe_open(folder / file, framework="pt")
            except FileNotFoundError as error:
                raise ModelError(
                    "the weights are not here",
                    where=folder / file,
                    remedy="A GGUF is made from safetensors; was the folder copied whole?",
                ) from error
            except SafetensorError as error:
                raise ModelError(
                    f"this is not a whole safetensors file ({error})",
                    where=folder / file,
                    remedy="Copy or download it again.",
                ) from error
            self._where.update(dict.fromkeys(reader.keys(), reader))  # type: ignore[no-untyped-call]
        self.names = set(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._where[name].get_slice(name).get_shape())

    def read(self, name: str) -> Array:
        """The tensor in float32, whatever it is stored in (numpy knows no bfloat16)."""
        array: Array = self._where[name].get_tensor(name).float().numpy()
        return array
