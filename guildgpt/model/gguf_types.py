"""The types that a GGUF's tensors are stored in, and how one comes to them.

The `gguf` package quantizes the older types in numpy. The K-types it can only read: those are made
by llama.cpp's own `ggml_quantize_chunk`, which the shared library in the `xllamacpp` wheel offers
(its Python module does not): https://github.com/ggml-org/ggml/blob/master/include/ggml.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import gguf
import numpy as np

from guildgpt.errors import ModelError
from guildgpt.model.weights import Array

Stored: TypeAlias = gguf.GGMLQuantizationType


class Quantization(NamedTuple):
    """What a file of one kind holds its tensors in; vectors are F32 in every kind."""

    file_type: gguf.LlamaFileType
    matrices: Stored
    ends: Stored  # the embedding and the output head: every answer goes through these
    narrow: Stored  # matrices whose rows do not divide into the blocks of 256 of a K-type


_FILE, _F16 = gguf.LlamaFileType, Stored.F16
# The most faithful first.
KINDS = {
    "F32": Quantization(_FILE.ALL_F32, Stored.F32, Stored.F32, Stored.F32),
    "F16": Quantization(_FILE.MOSTLY_F16, _F16, _F16, _F16),
    "BF16": Quantization(_FILE.MOSTLY_BF16, Stored.BF16, Stored.BF16, Stored.BF16),
    "Q8_0": Quantization(_FILE.MOSTLY_Q8_0, Stored.Q8_0, Stored.Q8_0, _F16),
    "Q6_K": Quantization(_FILE.MOSTLY_Q6_K, Stored.Q6_K, Stored.Q6_K, Stored.Q8_0),
    "Q5_K": Quantization(_FILE.MOSTLY_Q5_K_S, Stored.Q5_K, Stored.Q6_K, Stored.Q5_1),
    "Q4_K": Quantization(_FILE.MOSTLY_Q4_K_S, Stored.Q4_K, Stored.Q6_K, Stored.Q5_0),
    "Q4_1": Quantization(_FILE.MOSTLY_Q4_1, Stored.Q4_1, Stored.Q8_0, _F16),
}
QUANTIZATIONS = tuple(KINDS)
_MADE_BY_LLAMA_CPP = (Stored.Q4_K, Stored.Q5_K, Stored.Q6_K)


def quantization(name: str) -> Quantization:
    """The kind of file by its name; ModelError where there is none, or none on this machine."""
    if name not in KINDS:
        raise ModelError(
            f"there is no quantization called {name!r}",
            remedy=f"Choose one of {', '.join(QUANTIZATIONS)}.",
        )
    if KINDS[name].matrices in _MADE_BY_LLAMA_CPP and _llama_cpp() is None:
        simple = [kind for kind, it in KINDS.items() if it.matrices not in _MADE_BY_LLAMA_CPP]
        raise ModelError(
            f"{name} is made by llama.cpp itself, and the xllamacpp installed here does not offer "
            "its quantizer to other programs",
            remedy=f"Choose one of {', '.join(simple)}, or quantize an F16 file with llama.cpp's "
            "own program: llama-quantize model-F16.gguf model-Q4_K_M.gguf Q4_K_M",
        )
    return KINDS[name]


def stored_as(name: str, shape: tuple[int, ...], kind: Quantization) -> Stored:
    """The type of one tensor: vectors and positions exactly, matrices as wanted where that fits."""
    if len(shape) == 1 or name == "position_embd.weight":
        return Stored.F32
    ends = name in ("token_embd.weight", "output.weight")
    wanted = [kind.ends if ends else kind.matrices, kind.narrow]
    fitting = (t for t in wanted if shape[-1] % gguf.GGML_QUANT_SIZES[t][0] == 0)
    return next(fitting, _F16)


def quantized(values: Array, stored: Stored) -> Array:
    """A float32 array, its last dimension in blocks of a type, as the bytes of that type."""
    if stored not in _MADE_BY_LLAMA_CPP:
        array: Array = gguf.quants.quantize(values, stored)
        return array
    quantize = _llama_cpp()
    assert quantize is not None  # `quantization` has looked
    block, size = gguf.GGML_QUANT_SIZES[stored]
    values = np.ascontiguousarray(values, dtype=np.float32)
    width = values.shape[-1]
    out = np.empty((*values.shape[:-1], width // block * size), dtype=np.uint8)
    quantize(int(stored), values.ctypes.data, out.ctypes.data, 0, values.size // width, width, None)
    return out


@cache
def _llama_cpp() -> Callable[..., Any] | None:
    """`ggml_quantize_chunk(type, from, to, start, rows, row size, importance)` of the wheel."""
    package = find_spec("xllamacpp")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for library in Path(folder).glob("xllamacpp*"):
            try:
                function = ctypes.CDLL(str(library)).ggml_quantize_chunk
            except (OSError, AttributeError):
                continue
            size, pointer = ctypes.c_int64, ctypes.c_void_p
            function.argtypes = [ctypes.c_int, pointer, pointer, size, size, size, pointer]
            function.restype = ctypes.c_size_t
            return function
    return None
