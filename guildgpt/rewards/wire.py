"""Two processes, the answer's and the tests', and all that passes between them: plain values.

Each message is a line of JSON. The tests call the answer's functions through a `Remote`; what comes
back is rebuilt here, so that a number is a number and a list a list, and no object of the answer's
ever decides what `==` says. What is not plain stays where it is, known to the other side by a
number.
"""

from __future__ import annotations

import builtins
import datetime
import decimal
import fractions
import functools
import json
import operator
import os
from collections.abc import Callable
from typing import Any

MAX_MESSAGE = 8 * 2**20  # bytes

# Kinds of plain values: how each is written as JSON, and read. Of a class derived from one of them
# only the plain part crosses. Integers are written in hexadecimal: Python bounds decimal digits.
_PLAIN: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "int": (int, lambda value: hex(int.__add__(value, 0)), lambda text: int(text, 16)),
    "float": (float, float.__pos__, float),
    "str": (str, str.__str__, str),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "complex": (complex, complex.__repr__, complex),
    "decimal": (decimal.Decimal, decimal.Decimal.__str__, decimal.Decimal),
    "fraction": (fractions.Fraction, fractions.Fraction.__str__, fractions.Fraction),
    "datetime": (
        datetime.datetime,
        datetime.datetime.isoformat,
        datetime.datetime.fromisoformat,
    ),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "timedelta": (
        datetime.timedelta,
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda numbers: datetime.timedelta(*numbers),
    ),
    "range": (range, lambda r: [r.start, r.stop, r.step], lambda bounds: range(*bounds)),
}
_MANY: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
# Builtins that cross by their names; none of them can run a text or reach an attribute.
_BUILTINS = {
    name: getattr(builtins, name)
    for name in (
        "abs", "all", "any", "bin", "bool", "bytes", "chr", "complex", "dict", "divmod", "float",
        "frozenset", "hash", "hex", "int", "len", "list", "max", "min", "oct", "ord", "pow",
        "range", "repr", "reversed", "round", "set", "sorted", "str", "sum", "tuple",
    )
}  # fmt: skip

# What may be done with an object that lives on the other side, with plain values or none.
_OF_ONE: dict[str, Callable[..., Any]] = {
    "call": lambda of, *args, **named: of(*args, **named),
    "setattr": setattr, "len": len, "getitem": operator.getitem, "setitem": operator.setitem,
    "delitem": operator.delitem, "iter": iter, "next": next, "str": str, "repr": repr,
    "bool": bool, "neg": operator.neg, "abs": abs,
}  # fmt: skip
# … and with another such object. Operators between one and a plain value are not passed on: they
# would tell it what a test expects.
_OF_TWO: dict[str, Callable[..., Any]] = {
    name: getattr(operator, name)
    for name in ("eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "matmul")
}
_DO = _OF_ONE | _OF_TWO | {"getattr": getattr, "isinstance": isinstance}


class Gone(Exception):
    """The other side has ended, or says what cannot be understood."""


class CannotCross(Exception):
    """A value that cannot be handed to the other side."""


class Peer:
    """One end of the connection. `everything` says whether the other end may hold any object of
    ours (the answer's) or call the functions that we hand over and nothing else (the tests').
    """

    def __init__(self, read_fd: int, write_fd: int, *, everything: bool):
        self._reader, self._writer = os.fdopen(read_fd, "rb"), os.fdopen(write_fd, "wb")
        self._everything = everything
        self._held: list[Any] = []
        self._readers: dict[str, Callable[[Any], Any]] = {
            **{name: read for name, (_, _, read) in _PLAIN.items()},
            "mine": lambda number: Remote(self, int(number)),
            "yours": lambda number: self._held[abs(int(number))],
            "builtin": lambda name: _BUILTINS[name],
            "dict": lambda pairs: {self.in_(key): self.in_(one) for key, one in pairs},
        }
        self.errors: dict[str, type[Exception]] = {}
        """The other side's own exceptions by name, as classes of this side."""

    def ask(self, what: str, of: Any, *args: Any, **named: Any) -> Any:
        """Have the other side do something; meanwhile it may ask back.

        Raises what it raised, `Gone` if it is gone, `CannotCross` for what is not plain, and
        ValueError for what is too large or too deep.
        """
        self.send(["ask", what, self.out((of, args, named))])
        while (message := self.receive())[0] == "ask":
            self._serve(*message[1:])
        kind, *rest = message
        if kind == "value":
            result, changed = self.in_(*rest)
            for mine, now in zip(args, changed, strict=False):
                _put_back(mine, now)
            return result
        error = self._error(*rest)
        if isinstance(error, StopIteration) and what != "next":
            # As in a generator: else `all(map(f, …))` would end well.
            error = RuntimeError("the function raised StopIteration")
        raise error

    def serve(self) -> None:
        """Do what the other side asks until it is gone."""
        while True:
            _, *question = self.receive()
            self._serve(*question)

    def send(self, message: Any) -> None:
        """One message. `Gone` if nobody reads; ValueError: too large or too deep."""
        try:
            line = json.dumps(message, check_circular=False).encode() + b"\n"
        except RecursionError:
            raise ValueError("a value that is nested too deeply to be handed over") from None
        if len(line) > MAX_MESSAGE:
            raise ValueError(f"a value of {len(line)} bytes, too large to be handed over")
        try:
            self._writer.write(line)
            self._writer.flush()
        except OSError as error:
            raise Gone(str(error)) from None

    def receive(self) -> list[Any]:
        """The next message: a list that begins with its kind."""
        try:
            line = self._reader.readline(MAX_MESSAGE)
            message = json.loads(line or '"it has ended"')
        except (OSError, ValueError, RecursionError) as error:
            raise Gone(f"a message that is no JSON: {error}") from None
        if not isinstance(message, list) or not message:
            raise Gone(f"no message: {str(message)[:100]}")
        return message

    def _serve(self, what: str, asked: Any) -> None:
        try:
            if not self._everything and what != "call":
                raise PermissionError("tests answer no questions")
            of, args, named = self.in_(asked)
            result = _DO[what](of, *args, **named)
            # A function that returns nothing was called for what it does to its arguments.
            changed = args if result is None and what == "call" else ()
            reply = ["value", self.out((result, changed))]
        except BaseException as error:
            names = [one.__name__ for one in type(error).__mro__ if one is not object]
            reply = ["raised", names, _text(error)]
        try:
            self.send(reply)
        except ValueError as error:
            self.send(["raised", ["ValueError"], str(error)])

    def _error(self, names: list[str], text: str) -> Exception:
        for name in names:
            known = self.errors.get(name) or getattr(builtins, name, None)
            if isinstance(known, type) and issubclass(known, Exception):
                try:
                    return known(str(text))
                except TypeError:  # UnicodeDecodeError wants five arguments
                    continue
        return Exception(f"{names[:1]}: {text}")

    def out(self, value: Any) -> Any:
        """The value as JSON: itself if it is plain, else its number. `CannotCross` if neither."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Remote):
            return ["yours", hash(value)]
        for name, (kind, write, _) in _PLAIN.items():
            if isinstance(value, kind):
                return [name, write(value)]
        for name, many in _MANY.items():
            if isinstance(value, many):
                return [name, [self.out(one) for one in many.__iter__(value)]]
        if isinstance(value, dict):
            return ["dict", [[self.out(key), self.out(one)] for key, one in dict.items(value)]]
        for name, one in _BUILTINS.items():
            if value is one:
                return ["builtin", name]
        if not self._everything and not callable(value):
            raise CannotCross(f"a {type(value).__name__} is no plain value")
        self._held.append(value)
        return ["mine", len(self._held) - 1]

    def in_(self, value: Any) -> Any:
        """The inverse of `out`: a plain value, made here, or a `Remote`. Fails if it is neither."""
        if value is None or isinstance(value, bool):
            return value
        name, inside = value
        if name in _MANY:
            return _MANY[name](self.in_(one) for one in inside)
        return self._readers[name](inside)


class Remote:
    """An object of the other side: it can be called, asked, and compared with its like."""

    def __init__(self, peer: Peer, number: int):
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __getattribute__(self, name: str) -> Any:
        if name in ("__doc__", "__name__"):  # the object's own, not ours
            return _ask(self, "getattr", name)
        return object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _ask(self, "getattr", name)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, Remote) and _ask(instance, "isinstance", self) is True

    def __hash__(self) -> int:
        return int(object.__getattribute__(self, "_number"))


def _ask(of: Remote, what: str, *args: Any, **named: Any) -> Any:
    peer: Peer = object.__getattribute__(of, "_peer")
    return peer.ask(what, of, *args, **named)


def _ask_two(one: Remote, what: str, other: object) -> Any:
    return _ask(one, what, other) if isinstance(other, Remote) else NotImplemented


# `__len__`, `__add__` and the like: a Remote does them all by asking.
for _what in _OF_ONE:
    setattr(Remote, f"__{_what}__", functools.partialmethod(_ask, _what))
for _what in _OF_TWO:
    setattr(Remote, f"__{_what}__", functools.partialmethod(_ask_two, _what))


def _put_back(mine: Any, now: Any) -> None:
    if type(mine) is not type(now):
        return
    if isinstance(mine, list):
        mine[:] = now
    elif isinstance(mine, dict | set):
        mine.clear()
        mine.update(now)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:500]
    except Exception:
        return ""
