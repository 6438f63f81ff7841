"""JSON in a text, such that every fault names its line: an object a line, a list of objects, lists
of messages, or objects that spread over several lines."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from guildgpt.data.packed import packing_of
from guildgpt.data.rows import CONTENT, is_message, type_name
from guildgpt.data.text_file import lines, require_utf8
from guildgpt.errors import DataError

Record = tuple[int, dict[str, Any]]
Fault = Callable[[DataError], None]
"""What is done about a row that cannot be used: it raises the error, or notes it."""

BLANKS = " \t\r\n"
CHUNK = 1 << 18  # characters of a list that are looked at together
MEND = "Mend it here, or copy the file again; it may be cut off."
NEAR = 16  # characters before a text's end within which a cut can show: \\ud83d\\ude00, Infinity


def stop(error: DataError) -> None:
    """The fault that ends the reading."""
    raise error


def json_records(path: Path, pieces: Iterable[str], fault: Fault = stop) -> Iterator[Record]:
    """The objects in a text that comes in pieces, and the line at which each begins.

    A list of messages counts as `{"messages": …}`. A file of a single object that has one list of
    objects, and nothing that a row has, gives these. Of a list no more is held than one piece and
    one object.
    """
    pieces = iter(pieces)
    first = next((piece for piece in pieces if piece.strip(BLANKS)), "")
    pieces = chain((first,), pieces)
    start = first.lstrip(BLANKS)
    if start.startswith("["):
        yield from _listed(_Values(pieces, path), fault)
    elif _spreads(start.partition("\n")[0]):
        yield from _unwrapped(_spread(_Values(pieces, path), fault), path, fault)
    else:
        yield from _unwrapped(_by_line(pieces, path, fault), path, fault)


def _by_line(pieces: Iterable[str], path: Path, fault: Fault) -> Iterator[Record]:
    """An object a line; blank lines are passed over."""
    for number, line in enumerate(lines(pieces), 1):
        if not line.strip(BLANKS):
            continue
        where = f"{path}:{number}"
        try:
            require_utf8(line, "line", where)
            yield number, _object(_parsed(line, where), where)
        except DataError as error:
            fault(error)


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"this line is not JSON ({error})",
            where=where,
            remedy="Each line must be one whole JSON object; mend or delete this one.",
        ) from error


def _spreads(line: str) -> bool:
    """Whether an object begins in this line and does not end in it."""
    if not line.startswith("{"):
        return False
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return error.msg.startswith("Expecting") and error.pos >= len(line.rstrip(BLANKS))
    except (ValueError, RecursionError):  # a number of thousands of digits, or too deep
        pass
    return False


def _spread(values: _Values, fault: Fault) -> Iterator[Record]:
    """Objects one after another, wherever their lines end."""
    while values.peek():
        try:
            number, value = values.next()
        except DataError as error:
            values.pass_over(error, fault)
            continue
        yield from _row(values, fault, number, value)


def _listed(values: _Values, fault: Fault) -> Iterator[Record]:
    """What is in a list, or in several, one after another."""
    while values.peek() == "[":
        begun, messages, others = values.line, [], False
        for number, value in values.items(fault):
            if is_message(value) and not others:
                messages.append(value)
                continue
            others = True
            yield from _row(values, fault, number, value)
        if messages and values.passed:
            what = "a message of this talk cannot be read"
            fault(DataError(what, where=f"{values.path}:{begun}", remedy=MEND))
        elif messages:
            yield begun, {"messages": messages}
    if values.peek():
        raise values.broken("there is more behind its end")


def _row(values: _Values, fault: Fault, number: int, value: Any) -> Iterator[Record]:
    """A value as a row."""
    try:
        where = f"{values.path}:{number}"
        require_utf8(values.last, "row", where)
        yield number, _object(value, where)
    except DataError as error:
        fault(error)


def _unwrapped(records: Iterator[Record], path: Path, fault: Fault) -> Iterator[Record]:
    """The rows; those in a single object that is none itself."""
    first = next(records, None)
    second = next(records, None)
    if first and not second and (lists := _lists_in(first[1])):
        if len(lists) > 1:
            raise DataError(
                f"the file is one object with several lists: {', '.join(lists)}",
                where=path,
                remedy="Write the one that you want into a file of its own, and name that: "
                + _taken_out(lists[0], path),
            )
        for number, value in enumerate(first[1][lists[0]], 1):
            try:
                yield number, _object(value, f"{path}, {lists[0]} {number}")
            except DataError as error:
                fault(error)
        return
    yield from (record for record in (first, second) if record)
    yield from records


def _taken_out(key: str, path: Path) -> str:
    """The command that writes one of the object's lists as a file of lines."""
    file, packing = shlex.quote(str(path)), packing_of(path)
    query = "jq -c " + shlex.quote(f".[{json.dumps(key)}][]")
    return (f"{packing} -dc {file} | {query}" if packing else f"{query} {file}") + " > rows.jsonl"


def _lists_in(value: dict[str, Any]) -> list[str]:
    """The keys of an object's lists of rows, where it is no row itself."""
    if CONTENT & value.keys():
        return []
    return [
        key
        for key, one in value.items()
        if isinstance(one, list)
        and one
        and all(isinstance(row, (dict, list)) and not is_message(row) for row in one)
    ]


def _object(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and value and all(map(is_message, value)):
        return {"messages": value}
    raise DataError(
        f"this row is {type_name(value)}, not an object",
        where=where,
        remedy='Write each row as one object: {"prompt": …}.',
    )


class _Values:
    """JSON values in a text that comes in pieces, of which only what is needed is held."""

    def __init__(self, pieces: Iterable[str], path: Path):
        self.path = path
        self.last = ""  # the text of the last value
        self.passed = 0  # values that were passed over
        self._pieces = iter(pieces)
        self._text, self._place = "", 0
        self._line, self._counted = 1, 0  # the line at the place up to which they were counted
        self._decoder = json.JSONDecoder()
        self._indent: str | None = ""  # the blanks before the place, if they begin its line
        self._edge: str | None = None  # those before the first value, once it was met
        self._begun = False

    @property
    def line(self) -> int:
        """The line of the place that is read next."""
        self._line += self._text.count("\n", self._counted, self._place)
        self._counted = self._place
        return self._line

    def peek(self) -> str:
        """The next character that is not blank; '' at the end."""
        while True:
            rest = self._text[self._place : self._place + CHUNK]
            seen = rest.lstrip(BLANKS)
            blank = rest[: len(rest) - len(seen)]
            if "\n" in blank:
                self._indent = blank.rpartition("\n")[2]
            elif self._indent is not None:
                self._indent += blank
            self._place += len(blank)
            if seen:
                return seen[0]
            if not rest and not self._more():
                return ""

    def next(self) -> tuple[int, Any]:
        """The next value, and the line at which it begins."""
        self.peek()
        number = self.line
        if not self._begun:
            self._edge, self._begun = self._indent, True
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(self._text) - NEAR
                if cut and self._more():
                    continue
                ended = not self._text[error.pos :].strip(BLANKS)
                raise self.broken("it does not end" if ended else error.msg, error.pos) from error
            except RecursionError as error:
                raise self.broken("it goes too deep") from error
            except ValueError as error:  # a number of thousands of digits
                raise self.broken(str(error)) from error
            if end == len(self._text) and not isinstance(value, (dict, list)) and self._more():
                continue  # a number may go on
            break
        self.last = self._text[self._place : end]
        self._place, self._indent = end, None
        return number, value

    def items(self, fault: Fault = stop) -> Iterator[tuple[int, Any]]:
        """The values of the list that begins here, with their lines; one that is broken is given to
        `fault`, if the next can be told from it."""
        self._place, self._indent = self._place + 1, None
        ended = self.peek() == "]"
        while not ended:
            try:
                yield self.next()
                ends = self.peek()
                if ends not in (",", "]"):
                    raise self.broken("it does not end")
            except DataError as error:
                self.pass_over(error, fault)
                if not self.peek():
                    return
                continue
            ended = ends == "]"
            self._place += not ended
        self._place += 1

    def pass_over(self, error: DataError, fault: Fault) -> None:
        """Go to where the next value begins, and give the error of the broken one to `fault`.

        A value can be told from what is broken before it where each begins a line, as far from its
        edge as the first. DataError, the same, where they do not.
        """
        if self._edge is None:
            raise error
        fault(error)
        begins = re.compile(rf"\n{self._edge}(?=[\[{{])")
        while (found := begins.search(self._text, self._place)) is None:
            if not self._more():
                break
        self._place = found.end() if found else len(self._text)
        self._indent = self._edge
        self.passed += 1

    def broken(self, why: str, place: int = 0) -> DataError:
        """The error at a place, or at the one that is read next."""
        return DataError(
            f"the JSON is broken here ({why})",
            where=f"{self.path}:{self.line + self._text.count(chr(10), self._place, place)}",
            remedy=MEND,
        )

    def _more(self) -> bool:
        """Take more of the text, as much again as is held; whether there was any."""
        wanted, taken = max(CHUNK, len(self._text) - self._place), []
        while wanted > 0 and (piece := next(self._pieces, "")):
            taken.append(piece)
            wanted -= len(piece)
        if taken:
            self._line = self.line
            self._text = self._text[self._place :] + "".join(taken)
            self._place = self._counted = 0
        return bool(taken)
