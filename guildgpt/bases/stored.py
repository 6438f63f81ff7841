"""The files that hold a model's weights: whether all of them are there, and in which format."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from guildgpt.errors import ModelError
from guildgpt.hashes import combined, file_sha256
from guildgpt.model.json_file import read_json
from guildgpt.model.quiet import first_line

WHOLE = ("model.safetensors", "pytorch_model.bin")  # transformers takes the first that is there
HALF = (torch.bfloat16, torch.float16)
_SAFETENSORS = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
_SAFETENSORS["F64"] = torch.float64
_INTEGERS = ("I", "U", "BOOL")  # counters and masks, which are in no format of weights
# What safetensors and torch raise on a file that is cut short or is something else.
UNREADABLE = (OSError, RuntimeError, SafetensorError, EOFError, pickle.UnpicklingError)


def shards(folder: Path) -> list[str]:
    """The names of the weights' files that an index in the folder lists; none without one."""
    for name in WHOLE:
        if not (folder / name).is_file() and (index := folder / f"{name}.index.json").is_file():
            listed = read_json(index).get("weight_map")
            if isinstance(listed, dict) and listed:
                return sorted({str(file) for file in listed.values()})
            raise ModelError(
                "this index names no file of weights", where=index, remedy="Download it again."
            )
    return []


def weight_files(folder: Path) -> list[Path]:
    """The files of a folder's weights, one or all shards; ModelError where one is missing."""
    for name in WHOLE:
        if (folder / name).is_file():
            return [folder / name]
    files = [folder / name for name in shards(folder)]
    if missing := [file for file in files if not file.is_file()]:
        raise ModelError(
            f"{len(missing)} of the {len(files)} files that the weights are in "
            f"{'is' if len(missing) == 1 else 'are'} not here",
            where=missing[0],
            remedy="Copy or download them into this folder: the index lists them.",
        )
    if not files:
        raise ModelError(
            "there are no weights here",
            where=folder,
            remedy="Expected is model.safetensors or pytorch_model.bin, whole or in shards with "
            "their index.",
        )
    return files


def stored_dtype(folder: Path) -> torch.dtype:
    """float16 or bfloat16 where all of a folder's weights are in it, else float32: so that no
    weight is narrowed, and none is widened for nothing."""
    found: set[torch.dtype] = set()
    for file in weight_files(folder):
        try:
            found.update(_dtypes(file))
        except UNREADABLE as error:
            raise unreadable(file, error) from error
    return found.pop() if len(found) == 1 and found <= set(HALF) else torch.float32


def weights_sha256(folder: Path) -> str:
    """The hash of a folder's weights (of the files' hashes, if there are several), or ""."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    return combined([file_sha256(file) for file in files]) if files else ""


def read_bin(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a pytorch_model.bin, mapped and not read where its format allows it.

    Only tensors are taken from it: code in a pickle is never run."""
    with file.open("rb") as opened:
        zipped = opened.read(4) == b"PK\x03\x04"
    state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    if not isinstance(state, dict) or not all(torch.is_tensor(t) for t in state.values()):
        raise ModelError("this is not a model's weights", where=file)
    return state


def refuse_quantized(folder: Path, config: Mapping[str, Any]) -> None:
    """ModelError for weights of a few bits each: they are made for answering, not for training."""
    said = config.get("quantization_config")
    if not said:
        return
    method = said.get("quant_method") if isinstance(said, dict) else None
    raise ModelError(
        f"this base is quantized ({method or 'see quantization_config'}), and cannot be trained "
        "further",
        where=folder / "config.json",
        remedy="Name the model that it was made from, whose weights are float16, bfloat16 or "
        "float32. (Its card links to it; a GGUF file can be taken, too.)",
    )


def _dtypes(file: Path) -> Iterator[torch.dtype]:
    """The formats of a file's weights; nothing but its head is read."""
    if file.suffix != ".safetensors":
        yield from {one.dtype for one in read_bin(file).values() if one.is_floating_point()}
        return
    with safe_open(file, framework="pt") as reader:
        for name in reader.keys():  # noqa: SIM118  (not a dict)
            said = reader.get_slice(name).get_dtype()
            if not said.startswith(_INTEGERS):
                yield _SAFETENSORS.get(said, torch.float32)


def unreadable(file: Path, error: Exception) -> ModelError:
    """The error for a file of weights that safetensors or torch could not read."""
    return ModelError(
        f"the weights cannot be read ({first_line(error)})",
        where=file,
        remedy="Was the file cut short? Copy or download it again.",
    )
