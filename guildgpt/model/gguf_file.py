"""Reading a GGUF file's head: enough to say what is wrong with a file, and which tokens it has.

The `gguf` package reads files too, but takes seconds for a vocabulary of 49,152 tokens.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from guildgpt.chat.tokenizer import is_control
from guildgpt.errors import EngineError

MAGIC = b"GGUF"
STRING, ARRAY = 8, 9
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
CONTROL_TOKEN, USER_DEFINED_TOKEN = 3, 4  # values of `tokenizer.ggml.token_type`

_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
_FETCH_AGAIN = "Copy or download it again; a model folder of GuildGPT holds one ending in .gguf."


@dataclass(frozen=True)
class Tensor:
    """Where a tensor begins (bytes from the file's beginning), its type's number, its elements."""

    offset: int
    kind: int
    elements: int


@dataclass(frozen=True)
class Head:
    """The metadata, and where the tensors lie.

    Arrays of strings come as byte strings: a vocabulary holds pieces of characters.
    """

    metadata: dict[str, Any]
    tensors: list[Tensor]


def parts(path: Path) -> list[Path]:
    """The files of a model, in order, given the first: one, unless llama.cpp split it."""
    found = _PART.search(path.name)
    if not found or read_head(path).metadata.get("split.count", 0) < 2:
        return [path]
    stem, count = path.name[: found.start()], found[1]
    return [path.with_name(f"{stem}-{n:05}-of-{count}.gguf") for n in range(1, int(count) + 1)]


def check_magic(path: Path) -> None:
    """Raise `EngineError` for a file that is missing or cannot be a GGUF at first sight."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise EngineError(
            "there is no such file" if missing else f"cannot be read ({error.strerror})",
            where=path,
            remedy="Give the path of a .gguf file or of a model folder.",
        ) from error
    if magic != MAGIC:
        raise EngineError(
            "this file is empty" if not magic else "this is not a GGUF file",
            where=path,
            remedy=_FETCH_AGAIN,
        )


def read_head(path: Path) -> Head:
    """Read the metadata and the tensors' places; raises `EngineError` where the file ends early."""
    with path.open("rb") as file:
        return head_of(file, path)


def head_of(file: BinaryIO, path: Path) -> Head:
    """What `read_head` reads, of a file that is open."""
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).head()
    except (struct.error, IndexError, KeyError, ValueError, OverflowError) as error:
        raise EngineError(
            "the file ends within its own description, or is damaged there",
            where=path,
            remedy=_FETCH_AGAIN,
        ) from error


def user_defined(names: Sequence[bytes], kinds: Sequence[int]) -> list[str]:
    """The user-defined tokens of a vocabulary, but for those that are bare whitespace."""
    found = (name for name, kind in zip(names, kinds, strict=False) if kind == USER_DEFINED_TOKEN)
    texts = (name.decode("utf-8", "replace") for name in found)
    return [text for text in texts if is_control(text)]


def check_whole(path: Path) -> Head:
    """The head of a file that holds all its tensors; raises `EngineError` for one that does not.

    Reads the head alone, however large the model.
    """
    from gguf import GGML_QUANT_SIZES

    check_magic(path)
    head = read_head(path)
    sizes = {kind.value: size for kind, size in GGML_QUANT_SIZES.items()}
    needed = 0
    for tensor in head.tensors:
        block, size = sizes.get(tensor.kind, (tensor.elements, 1))  # a type newer than the package
        needed = max(needed, tensor.offset + tensor.elements // max(block, 1) * size)
    there = path.stat().st_size
    if there < needed:
        raise EngineError(
            f"the file is cut off: it has {there:,} bytes and needs {needed:,}",
            where=path,
            remedy=_FETCH_AGAIN,
        )
    return head


def diagnose(path: Path, reason: str | None = None) -> EngineError:
    """What to tell the person about a file that llama.cpp would not load, for a `reason` if it gave
    one."""
    try:
        head = check_whole(path)
    except EngineError as error:
        return error
    kind = head.metadata.get("general.architecture", "unknown")
    size = path.stat().st_size
    return EngineError(
        f"llama.cpp cannot load this model: {reason or 'it does not say why'} "
        f"(architecture {kind!r}, {size:,} bytes)",
        where=path,
        remedy="Memory may be short, or llama.cpp may be older than the model: "
        "`pip install -U xllamacpp`.",
    )


@dataclass
class _Reader:
    """A walk through the head of a mapped file."""

    data: mmap.mmap
    place: int = 0

    def head(self) -> Head:
        _, _, tensors, entries = self.unpack("<4sIQQ")
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            name = self.string().decode()
            value = self.value(self.unpack("<I")[0])
            metadata[name] = value.decode("utf-8", "replace") if type(value) is bytes else value
        found = []
        for _ in range(tensors):
            self.string()
            (dimensions,) = self.unpack("<I")
            elements = math.prod(self.unpack(f"<{dimensions}Q"))
            kind, offset = self.unpack("<IQ")
            found.append((offset, kind, elements))
        alignment = metadata.get("general.alignment", 32)
        start = -(-self.place // alignment) * alignment
        return Head(metadata, [Tensor(start + offset, *rest) for offset, *rest in found])

    def unpack(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(layout, self.data, self.place)
        self.place += struct.calcsize(layout)
        return values

    def string(self) -> bytes:
        (length,) = self.unpack("<Q")
        self.place += length
        if self.place > len(self.data):
            raise IndexError("a string reaches past the end of the file")
        return self.data[self.place - length : self.place]

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.unpack("<" + SCALARS[kind])[0]
        inner, count = self.unpack("<IQ")
        if inner in SCALARS:
            return self.unpack(f"<{count}{SCALARS[inner]}")
        return [self.value(inner) for _ in range(count)]
