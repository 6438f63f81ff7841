"""Rows of an XML file, one at a time: a file of many gigabytes is never in memory.

The standard library's expat, with what can be turned against a reader shut: a document type is
refused, and with it every entity that a file may define (XML has five of its own).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat
from xml.parsers.expat import errors

from guildgpt.data.files import require_file
from guildgpt.data.foreign import refuse_foreign, refuse_table
from guildgpt.data.packed import DAMAGES, opened
from guildgpt.errors import DataError

CHUNK = 1 << 18  # bytes
LONGEST = 1 << 26  # bytes of one row at most: what ends nowhere would fill the memory
UNDEFINED = errors.codes[errors.XML_ERROR_UNDEFINED_ENTITY]
CUT = {
    errors.codes[errors.XML_ERROR_NO_ELEMENTS],
    errors.codes[errors.XML_ERROR_UNCLOSED_TOKEN],
    errors.codes[errors.XML_ERROR_PARTIAL_CHAR],
}
ENCODING = {
    errors.codes[errors.XML_ERROR_UNKNOWN_ENCODING],
    errors.codes[errors.XML_ERROR_INCORRECT_ENCODING],
}
AGAIN = "Copy or download it again; its size or hash tells whether it is whole."


def read_rows(path: str | Path, root: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The line and the attributes of each `row` in the element `root`, plain or gzipped.

    DataError at `file:line` for a file of another kind or in an encoding that nobody knows, one
    that is cut off or damaged, and one that has a document type or entities of its own; it says
    how many rows came before.
    """
    path = require_file(path)
    refuse_foreign(path)
    refuse_table(path)
    reader = _Reader(path, root)
    with opened(path) as stream:
        while True:
            try:
                chunk = stream.read(CHUNK)
            except DAMAGES as error:
                raise reader.failed(f"the file is cut off or damaged ({error})", AGAIN) from error
            reader.take(chunk)
            yield from reader.rows
            reader.rows.clear()
            if not chunk:
                return


class _Reader:
    def __init__(self, path: Path, root: str):
        self.path, self.root = path, root
        self.rows: list[tuple[int, dict[str, str]]] = []
        self.count = 0
        self.depth = 0
        self.since = 0  # bytes since an element began or ended
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._begins
        self.parser.EndElementHandler = self._ends
        self.parser.StartDoctypeDeclHandler = self._has_doctype

    def take(self, chunk: bytes) -> None:
        """The next bytes of the file; none at its end."""
        self.since += len(chunk)
        try:
            self.parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            raise self._broken(error) from error
        except (LookupError, ValueError) as error:  # Python's, not expat's: it knows no such codec
            raise self._encoded(str(error)) from error
        if self.since > LONGEST:
            raise self.failed(f"a row does not end within {LONGEST >> 20} MiB", AGAIN)

    def failed(self, what: str, remedy: str) -> DataError:
        """The error at this place, which says what was read before it."""
        before = f", after {self.count:,} row{'s' * (self.count != 1)}" if self.count else ""
        line = self.parser.CurrentLineNumber
        return DataError(f"{what}{before}", where=f"{self.path}:{line}", remedy=remedy)

    def _broken(self, error: expat.ExpatError) -> DataError:
        if error.code in CUT:
            return self.failed("the file is cut off here", AGAIN)
        if error.code in ENCODING:
            return self._encoded(errors.messages[error.code])
        if error.code == UNDEFINED:
            return self.failed(
                "an entity stands here that XML does not know",
                "It knows &lt; &gt; &amp; &quot; &apos; and numbers such as &#233;. Write it as "
                "one of these.",
            )
        return self.failed(f"this is not XML ({errors.messages[error.code]})", AGAIN)

    def _encoded(self, why: str) -> DataError:
        return self.failed(
            f"the encoding that its first line names cannot be read ({why})",
            'Save the file as UTF-8, and write encoding="utf-8" in its first line.',
        )

    def _begins(self, name: str, attributes: dict[str, str]) -> None:
        self.since = 0
        self.depth += 1
        if self.depth == 1 and name != self.root:
            raise self.failed(
                f"the file holds `{name}`, not `{self.root}`",
                "Name the dump's Posts.xml.",
            )
        if self.depth > 1 and (name != "row" or self.depth > 2):
            raise self.failed(
                f"`{name}` stands where a row should", "Is it a dump's Posts.xml as it came?"
            )
        if name == "row" and self.depth == 2:
            self.count += 1
            self.rows.append((self.parser.CurrentLineNumber, attributes))

    def _ends(self, name: str) -> None:
        self.since = 0
        self.depth -= 1

    def _has_doctype(self, *_: object) -> NoReturn:
        raise self.failed(
            "the file has a document type, which may define entities",
            "A dump has none: take the file as Stack Exchange gave it out.",
        )
