"""The text of a file, piece by piece: unpacked, and decoded from whatever it was saved in."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from guildgpt.data.packed import DAMAGES, opened, packing_of
from guildgpt.errors import DataError
from guildgpt.text.encodings import BOMS, decoded

CHUNK = 1 << 18  # bytes
SAMPLE = 1 << 16  # bytes from which an encoding is guessed
BEYOND_ASCII = re.compile(b"[\x80-\xff]")
BROKEN = re.compile("[\udc80-\udcff]+")  # bytes that are not UTF-8, as `surrogateescape` has them


def texts(path: Path, notices: list[str]) -> Iterator[str]:
    """The text of a file in pieces. Bytes that are not UTF-8 in a file that is otherwise come as
    `BROKEN` characters; a file in another encoding is decoded by it, which `notices` then says.

    DataError, with the line, where a packed file is cut off or damaged, and for what is no text.
    """
    line, plain = 1, True  # plain: nothing but ASCII so far
    decoder = None
    with opened(path) as stream:
        while piece := _read(stream, path, line):
            if decoder is None:
                decoder, piece = _marked(piece, path, notices)
            left = decoder.getstate()[0]
            text = decoder.decode(piece)
            if plain and not text.isascii():
                plain = False
                if _is_not_utf8(text):
                    decoder = _guessed(left + piece, path, line, notices)
                    text = decoder.decode(left + piece)
            line += text.count("\n")
            yield text
        if decoder and (text := decoder.decode(b"", True)):
            yield text


def lines(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in pieces, without their line feeds; nothing else ends one."""
    begun: list[str] = []
    for piece in pieces:
        first, *others = piece.split("\n")
        begun.append(first)
        if others:
            yield "".join(begun)
            yield from others[:-1]
            begun = others[-1:]
    if any(begun):
        yield "".join(begun)


def require_utf8(text: str, what: str, where: str) -> None:
    """DataError for a text with bytes that are not UTF-8."""
    if not text.isascii() and (broken := BROKEN.search(text)):
        place = len(text[: broken.start()].encode("utf-8", "surrogateescape")) + 1
        raise DataError(
            f"byte {place} of the {what} is not UTF-8",
            where=where,
            remedy="The rest of the file is. Mend it here, or save the file anew as UTF-8.",
        )


def _read(stream: IO[bytes], path: Path, line: int) -> bytes:
    """The next bytes; whatever came before a place that is damaged is given first."""
    try:
        return bytes(stream.read1(CHUNK))  # type: ignore[attr-defined]
    except DAMAGES as error:
        packing = packing_of(path)
        remedy = "Copy or download it again; its size or hash tells whether it is whole."
        if "too much memory" in str(error):
            remedy = f"Unpack it first: zstd -d --long=31 {path.name}"
        raise DataError(
            f"the {packing or 'plain'} file is cut off or damaged here ({error})",
            where=f"{path}:{line}",
            remedy=remedy,
        ) from error


def _marked(piece: bytes, path: Path, notices: list[str]) -> tuple[Any, bytes]:
    """A decoder for a file that begins like this, and the piece without a byte order mark."""
    for mark, encoding in BOMS:
        if piece.startswith(mark):
            if encoding != "utf-8":
                notices.append(f"{path.name}: read as {encoding[:6].upper()}, as its mark says")
            return _decoder(encoding), piece[len(mark) :]
    if _alternates(piece[:SAMPLE]):
        return _guessed(piece, path, 1, notices), piece
    return _decoder("utf-8"), piece


def _alternates(data: bytes) -> bool:
    """Whether every second byte is mostly zero, and only those: Latin letters in UTF-16."""
    halves = [half.count(0) * 2 > len(half) for half in (data[::2], data[1::2])]
    return len(data) > 3 and halves[0] != halves[1]


def _guessed(piece: bytes, path: Path, line: int, notices: list[str]) -> Any:
    """A decoder for what this is most likely written in."""
    odd = BEYOND_ASCII.search(piece)  # the encodings differ from here on
    begin = piece.rfind(b"\n", 0, odd.start()) + 1 if odd and b"\0" not in piece else 0
    found = decoded(piece[begin : begin + SAMPLE], cut=True)
    if found is None:
        raise DataError(
            "this is no text",
            where=f"{path}:{line}",
            remedy="Rows are read from JSON, CSV, Parquet and Arrow files; is it another kind?",
        )
    notices.append(f"{path.name}: it is not UTF-8, and read as {found.guess}, which is a guess")
    return _decoder(found.encoding)


def _decoder(encoding: str) -> Any:
    errors = "replace" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    return codecs.getincrementaldecoder(encoding)(errors)


def _is_not_utf8(text: str) -> bool:
    """Whether more characters of a text are broken than are whole, ASCII aside."""
    broken = sum(map(len, BROKEN.findall(text)))
    beyond = sum(not character.isascii() for character in text) - broken if broken else 0
    return broken > beyond
