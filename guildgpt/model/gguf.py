"""A model folder becomes one GGUF file, which plain llama.cpp loads.

Tensors are read, renamed, quantized and written one at a time, so memory holds about one of them
in float32. The file appears under its own name only when it is whole and on the disk.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The names of tensors and
keys are the `gguf` package's.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from guildgpt.errors import ModelError
from guildgpt.model.gguf_architectures import architecture_of, check_architecture
from guildgpt.model.gguf_chat import describe_chat, read_chat
from guildgpt.model.gguf_tensors import Tensor
from guildgpt.model.gguf_types import Quantization, quantized, stored_as
from guildgpt.model.gguf_types import quantization as kind_of_file
from guildgpt.model.gguf_vocabulary import check_tokenizer, read_vocabulary
from guildgpt.model.json_file import read_json
from guildgpt.model.weights import Weights


def write_gguf(folder: Path, out: Path, quantization: str) -> Path:
    """Write the model in `folder` to the file `out` and return `out`.

    `folder` holds a model as transformers saves it: config.json, weights (whole or sharded) and a
    tokenizer; a template.json, if it is one of ours. `quantization` is the type of the weight
    matrices, one of `QUANTIZATIONS`: in `gguf_types.py` stands what the others are stored in.
    Raises ModelError for an architecture, an option, a tokenizer or a tensor that llama.cpp would
    not read as transformers does, and for a disk that fills up.
    """
    kind = kind_of_file(quantization)
    architecture = architecture_of(folder, Weights(folder))
    vocabulary = read_vocabulary(folder, architecture.rows)
    chat = read_chat(folder, vocabulary)

    unfinished = out.with_name(f".{out.name}.{os.getpid()}.partial")
    writer = gguf.GGUFWriter(unfinished, architecture.name)
    try:
        for name, value in architecture.dimensions.items():
            getattr(writer, f"add_{name}")(value)
        # No general.name: llama.cpp reads models' quirks into some names.
        writer.add_file_type(kind.file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        vocabulary.describe(writer)
        describe_chat(writer, chat, vocabulary, folder)
        _write_tensors(writer, architecture.tensors, kind)
        writer.flush()
        for file in writer.fout or []:
            os.fsync(file.fileno())
        writer.close()
        os.replace(unfinished, out)
    except OSError as error:
        raise ModelError(
            f"the file could not be written ({error.strerror or error}); nothing was left behind",
            where=out,
            remedy="Is there room on this disk? Free some, or choose another place.",
        ) from error
    finally:
        # Closing flushes what is buffered, and on a full disk that fails once more.
        with contextlib.suppress(OSError):
            writer.close()
        unfinished.unlink(missing_ok=True)
    return out


def why_no_gguf(model: Any, where: Path, tokenizer: Path) -> str | None:
    """Why none can be made of a transformers model, as far as its class, its configuration and the
    tokenizer in that folder tell before there are weights; None where nothing stands against it."""
    file = tokenizer / "tokenizer.json"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_architecture(type(model).__name__, model.config, where / "config.json")
        if file.is_file():
            check_tokenizer(read_json(file), file)
    except ModelError as error:
        return error.what
    return None


def _write_tensors(writer: gguf.GGUFWriter, tensors: list[Tensor], kind: Quantization) -> None:
    """Announce every tensor, then write the header and, one by one, the data."""
    types = [stored_as(tensor.name, tensor.shape, kind) for tensor in tensors]
    for tensor, stored in zip(tensors, types, strict=True):
        block, size = gguf.GGML_QUANT_SIZES[stored]
        nbytes = math.prod(tensor.shape) // block * size
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), nbytes, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, stored in zip(tensors, types, strict=True):
        writer.write_tensor_data(quantized(tensor.read(), stored))
