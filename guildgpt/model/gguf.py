"""A model folder becomes one GGUF file, which plain llama.cpp loads.

Tensors are read, renamed, quantized and written one at a time, so memory holds about one of them
in float32. The file appears under its own name only when it is whole and on the disk.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The names of tensors and
keys are the `gguf` package's; which pre-tokenizer a name stands for is in llama.cpp's
`src/llama-vocab.cpp`.
"""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np

from guildgpt.chat import CHATML, ChatTemplate
from guildgpt.chat.template_file import TEMPLATE_KEY
from guildgpt.errors import ModelError
from guildgpt.model.gguf_architectures import Tensor, architecture_of
from guildgpt.model.gguf_vocabulary import Kind, Vocabulary, read_vocabulary
from guildgpt.model.json_file import read_json
from guildgpt.model.weights import Weights

_FILE_TYPES = {
    "F32": "ALL_F32",
    "F16": "MOSTLY_F16",
    "Q8_0": "MOSTLY_Q8_0",
    "Q4_1": "MOSTLY_Q4_1",
}
QUANTIZATIONS = tuple(_FILE_TYPES)

Stored: TypeAlias = gguf.GGMLQuantizationType


def write_gguf(folder: Path, out: Path, quantization: str) -> Path:
    """Write the model in `folder` to the file `out` and return `out`.

    `folder` holds config.json, model.safetensors (whole or sharded), tokenizer.json and
    template.json. `quantization` is the type of the weight matrices, one of `QUANTIZATIONS`;
    vectors stay F32, embeddings and the output head are at least Q8_0, and a matrix whose rows do
    not divide into blocks of 32 is F16. Raises ModelError for an architecture, a tokenizer or a
    tensor that llama.cpp would not read as transformers does, and for a disk that fills up.
    """
    if quantization not in QUANTIZATIONS:
        raise ModelError(
            f"there is no quantization called {quantization!r}",
            remedy=f"Choose one of {', '.join(QUANTIZATIONS)}.",
        )
    config = read_json(folder / "config.json")
    template = ChatTemplate.load(folder)
    weights = Weights(folder)
    architecture = architecture_of(config, weights, folder / "config.json")
    vocabulary = read_vocabulary(folder / "tokenizer.json", architecture.rows)

    unfinished = out.with_name(f".{out.name}.{os.getpid()}.partial")
    writer = gguf.GGUFWriter(unfinished, architecture.name)
    try:
        for name, value in architecture.dimensions.items():
            getattr(writer, f"add_{name}")(value)
        # No general.name: llama.cpp reads models' quirks into some names.
        writer.add_file_type(getattr(gguf.LlamaFileType, _FILE_TYPES[quantization]))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _describe_ends(writer, vocabulary, template, config, folder)
        vocabulary.describe(writer)
        writer.add_chat_template(template.jinja)
        if template != CHATML:
            writer.add_string(TEMPLATE_KEY, template.to_json())
        _write_tensors(writer, architecture.tensors, gguf.GGMLQuantizationType[quantization])
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


def _write_tensors(writer: gguf.GGUFWriter, tensors: list[Tensor], wanted: Stored) -> None:
    """Announce every tensor, then write the header and, one by one, the data."""
    types = [_stored_as(tensor, wanted) for tensor in tensors]
    for tensor, stored in zip(tensors, types, strict=True):
        block, size = gguf.GGML_QUANT_SIZES[stored]
        nbytes = math.prod(tensor.shape) // block * size
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), nbytes, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, stored in zip(tensors, types, strict=True):
        writer.write_tensor_data(gguf.quants.quantize(tensor.read(), stored))


def _stored_as(tensor: Tensor, wanted: Stored) -> Stored:
    """The type a tensor is written in: vectors exactly, matrices as wanted where that fits."""
    if len(tensor.shape) == 1:
        return Stored.F32
    if wanted == Stored.Q4_1 and tensor.name in ("token_embd.weight", "output.weight"):
        wanted = Stored.Q8_0  # every answer goes through these: four bits would show
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return wanted if tensor.shape[-1] % block == 0 else Stored.F16


def _describe_ends(
    writer: gguf.GGUFWriter,
    vocabulary: Vocabulary,
    template: ChatTemplate,
    config: dict[str, Any],
    folder: Path,
) -> None:
    """Write the ids of the special tokens; what ends a turn ends the generation."""
    missing = [token for token in template.control_tokens if token not in vocabulary.tokens]
    if missing:
        raise ModelError(
            f"the tokenizer has no {' and no '.join(missing)}, which the chat template needs",
            where=folder / "tokenizer.json",
            remedy="Fine-tune the model with `guildgpt train` first: that adds the chat tokens.",
        )
    end = vocabulary.tokens.index(template.end)
    for token in template.control_tokens:
        vocabulary.types[vocabulary.tokens.index(token)] = Kind.CONTROL
    bos, pad = (config.get(f"{name}_token_id") for name in ("bos", "pad"))
    writer.add_eos_token_id(end)
    writer.add_eot_token_id(end)
    # Left out, these would be whatever llama.cpp's default for the tokenizer's model is.
    writer.add_bos_token_id(end if bos is None else bos)
    writer.add_pad_token_id(end if pad is None else pad)
    unknown = config.get("unk_token_id") if vocabulary.unknown is None else vocabulary.unknown
    if unknown is not None:
        writer.add_unk_token_id(unknown)
