"""Two processes, the answer's and the tests', and all that passes between them: plain values.

The tests call the answer's functions through a `Remote`; what comes back is rebuilt here from JSON,
so that a number is a number and a list a list, and no object of the answer's ever decides what
`==` says. What is not plain stays where it is and is known to the other side by a number.
"""

from __future__ import annotations

import builtins
import datetime
import decimal
import fractions
import json
import operator
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

MAX_MESSAGE = 8 * 2**20  # bytes

_TEXTUAL: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "bytes": (bytes, lambda value: value.hex(), bytes.fromhex),
    "complex": (complex, repr, lambda text: complex(text)),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "fraction": (fractions.Fraction, str, fractions.Fraction),
    "datetime": (datetime.datetime, lambda v: v.isoformat(), datetime.datetime.fromisoformat),
    "date": (datetime.date, lambda v: v.isoformat(), datetime.date.fromisoformat),
    "time": (datetime.time, lambda v: v.isoformat(), datetime.time.fromisoformat),
    "timedelta": (
        datetime.timedelta,
        lambda v: f"{v.days} {v.seconds} {v.microseconds}",
        lambda text: datetime.timedelta(*map(int, text.split())),
    ),
}
_MANY: dict[str, type] = {"tuple": tuple, "set": set, "frozenset": frozenset}
# Builtins that cross by their names; none of them can run a text or reach an attribute.
_BUILTINS = {
    name: getattr(builtins, name)
    for name in (
        "abs", "all", "any", "bin", "bool", "bytes", "chr", "complex", "dict", "divmod", "float",
        "frozenset", "hash", "hex", "int", "len", "list", "max", "min", "oct", "ord", "pow",
        "range", "repr", "reversed", "round", "set", "sorted", "str", "sum", "tuple",
    )
}  # fmt: skip
_SMALL = 2**63  # larger integers travel in hexadecimal: Python bounds the digits of decimal ones

# What may be done with an object that lives on the other side. Nothing here tells it what a test
# expects: operators between such an object and a plain value are not passed on.
_OF_ONE: dict[str, Callable[..., Any]] = {
    "call": lambda of, *args, **named: of(*args, **named),
    "getattr": getattr, "setattr": setattr, "len": len, "getitem": operator.getitem,
    "setitem": operator.setitem, "delitem": operator.delitem, "iter": iter, "next": next,
    "str": str, "repr": repr, "bool": bool, "neg": operator.neg, "abs": abs,
}  # fmt: skip
_OF_TWO: dict[str, Callable[..., Any]] = {
    name: getattr(operator, name)
    for name in ("eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "matmul")
} | {"isinstance": isinstance}


class Gone(Exception):
    """The other side has ended, or says what cannot be understood."""


class CannotCross(Exception):
    """A value that cannot be handed to the other side."""


class Peer:
    """One end of the connection. `everything` says whether the other end may hold any object of
    ours (the answer's) or call the functions that we hand over and nothing else (the tests').
    """

    def __init__(self, read_fd: int, write_fd: int, *, everything: bool):
        self._read, self._write, self._everything = read_fd, write_fd, everything
        self._held: list[Any] = []
        self.errors: dict[str, type[Exception]] = {}
        """The other side's own exceptions by name, as classes of this side."""

    def ask(self, what: str, of: Any, *args: Any, **named: Any) -> Any:
        """Have the other side do something; meanwhile it may ask back.

        Raises what it raised, `Gone` if it is gone, `CannotCross` for what is not plain, and
        ValueError for what is too large or too deep.
        """
        self.send(["ask", what, self.out(of), self.out(list(args)), self.out(named)])
        while True:
            kind, *rest = self.receive()
            if kind == "ask":
                self._serve(*rest)
            elif kind == "value" and len(rest) == 2:
                result, changed = self.in_(rest[0]), self.in_(rest[1])
                for mine, now in zip(args, changed or (), strict=False):
                    _put_back(mine, now)
                return result
            elif kind == "raised" and len(rest) == 2:
                error = self._error(*rest)
                if isinstance(error, StopIteration) and what != "next":
                    # As in a generator: else `all(map(f, …))` would end well.
                    error = RuntimeError("the function raised StopIteration")
                raise error
            else:
                raise Gone(f"an answer of an unknown kind: {kind!r}")

    def serve(self) -> None:
        """Do what the other side asks until it is gone."""
        while True:
            kind, *rest = self.receive()
            if kind != "ask":
                raise Gone(f"a question of an unknown kind: {kind!r}")
            self._serve(*rest)

    def send(self, message: Any) -> None:
        """One message, as JSON after its length. `Gone` if nobody reads; ValueError: too large."""
        try:
            data = json.dumps(message, check_circular=False).encode()
        except RecursionError:
            raise ValueError("a value that is nested too deeply to be handed over") from None
        if len(data) > MAX_MESSAGE:
            raise ValueError(f"a value of {len(data)} bytes, too large to be handed over")
        data = struct.pack("=I", len(data)) + data
        try:
            while data:
                data = data[os.write(self._write, data) :]
        except OSError as error:
            raise Gone(str(error)) from None

    def receive(self) -> list[Any]:
        """The next message: a list that begins with its kind."""
        (size,) = struct.unpack("=I", self._bytes(4))
        if size > MAX_MESSAGE:
            raise Gone("a message that is too long")
        try:
            message = json.loads(self._bytes(size))
        except (ValueError, RecursionError) as error:
            raise Gone(f"a message that is no JSON: {error}") from None
        if not isinstance(message, list) or not message:
            raise Gone("a message that is no list")
        return message

    def in_(self, value: Any) -> Any:
        """The inverse of `out`: a plain value, made here, or a `Remote`. `Gone` if neither."""
        try:
            return self._in(value)
        except Gone:
            raise
        except Exception as error:
            raise Gone(f"a value that cannot be read: {error}") from None

    def _bytes(self, count: int) -> bytes:
        parts = []
        while count:
            try:
                part = os.read(self._read, count)
            except OSError as error:
                raise Gone(str(error)) from None
            if not part:
                raise Gone("it has ended")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _serve(self, *question: Any) -> None:
        try:
            what, of, args, named = question
            if not self._everything and what != "call":
                raise PermissionError("tests answer no questions")
            do = _OF_ONE.get(what) or _OF_TWO[what]
            positional = self.in_(args)
            result = do(self.in_(of), *positional, **self.in_(named))
            # A function that returns nothing was called for what it does to its arguments.
            changed = positional if result is None and what == "call" else None
            reply = ["value", self.out(result), self.out(changed)]
        except Gone:
            raise
        except BaseException as error:
            names = [one.__name__ for one in type(error).__mro__ if one is not object]
            reply = ["raised", names, _text(error)]
        try:
            self.send(reply)
        except ValueError as error:
            self.send(["raised", ["ValueError"], str(error)])

    def _error(self, names: list[str], text: str) -> Exception:
        for name in map(str, names):
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
            return {"yours": object.__getattribute__(value, "_number")}
        # Of classes derived from the plain ones only the plain part crosses.
        if isinstance(value, int):
            plain = int.__add__(value, 0)
            return plain if -_SMALL < plain < _SMALL else {"int": hex(plain)}
        if isinstance(value, float):
            return float.__pos__(value)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, list):
            return [self.out(one) for one in list.__iter__(value)]
        if isinstance(value, dict):
            return {"dict": [[self.out(k), self.out(v)] for k, v in dict.items(value)]}
        for name, many in _MANY.items():
            if isinstance(value, many):
                return {name: [self.out(one) for one in many.__iter__(value)]}  # type: ignore[attr-defined]
        for name, (kind, written, _) in _TEXTUAL.items():
            if type(value) is kind:
                return {name: written(value)}
        if isinstance(value, range):
            return {"range": [value.start, value.stop, value.step]}
        for name, one in _BUILTINS.items():
            if value is one:
                return {"builtin": name}
        if not self._everything and not callable(value):
            raise CannotCross(f"a {type(value).__name__} is no plain value")
        self._held.append(value)
        return {"mine": len(self._held) - 1}

    def _in(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._in(one) for one in value]
        if not isinstance(value, dict):
            return value
        ((name, inside),) = value.items()
        if name == "mine":
            return Remote(self, int(inside))
        if name == "yours":
            return self._held[abs(int(inside))]
        if name == "int":
            return int(inside, 16)
        if name == "dict":
            return {self._in(key): self._in(one) for key, one in inside}
        if name in _MANY:
            return _MANY[name](self._in(one) for one in inside)
        if name in _TEXTUAL:
            return _TEXTUAL[name][2](inside)
        if name == "range":
            return range(*map(int, inside))
        if name == "builtin":
            return _BUILTINS[inside]
        raise Gone(f"a value of an unknown kind: {name!r}")


class Remote:
    """An object of the other side: it can be called, asked, and compared with its like."""

    def __init__(self, peer: Peer, number: int):
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return _ask(self, "call", *args, **named)

    def __getattribute__(self, name: str) -> Any:
        if name in ("__doc__", "__name__"):  # the object's own, not ours
            return _ask(self, "getattr", name)
        return object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _ask(self, "getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "setattr", name, value)

    def __len__(self) -> int:
        return int(_ask(self, "len"))

    def __bool__(self) -> bool:
        return _ask(self, "bool") is True

    def __getitem__(self, key: Any) -> Any:
        return _ask(self, "getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _ask(self, "setitem", key, value)

    def __delitem__(self, key: Any) -> None:
        _ask(self, "delitem", key)

    def __iter__(self) -> Iterator[Any]:
        found = _ask(self, "iter")
        while True:
            try:
                one = _ask(found, "next")
            except StopIteration:
                return
            yield one

    def __next__(self) -> Any:
        return _ask(self, "next")

    def __str__(self) -> str:
        return str(_ask(self, "str"))

    def __repr__(self) -> str:
        return str(_ask(self, "repr"))

    def __neg__(self) -> Any:
        return _ask(self, "neg")

    def __abs__(self) -> Any:
        return _ask(self, "abs")

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, Remote) and _ask_two("isinstance", instance, self) is True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and _ask_two("eq", self, other) is True

    def __ne__(self, other: object) -> bool:
        return not isinstance(other, Remote) or _ask_two("ne", self, other) is True

    def __hash__(self) -> int:
        return int(object.__getattribute__(self, "_number"))

    def __lt__(self, other: object) -> Any:
        return _ask_two("lt", self, other)

    def __le__(self, other: object) -> Any:
        return _ask_two("le", self, other)

    def __gt__(self, other: object) -> Any:
        return _ask_two("gt", self, other)

    def __ge__(self, other: object) -> Any:
        return _ask_two("ge", self, other)

    def __add__(self, other: object) -> Any:
        return _ask_two("add", self, other)

    def __sub__(self, other: object) -> Any:
        return _ask_two("sub", self, other)

    def __mul__(self, other: object) -> Any:
        return _ask_two("mul", self, other)

    def __truediv__(self, other: object) -> Any:
        return _ask_two("truediv", self, other)

    def __matmul__(self, other: object) -> Any:
        return _ask_two("matmul", self, other)


def _ask(of: Remote, what: str, *args: Any, **named: Any) -> Any:
    peer: Peer = object.__getattribute__(of, "_peer")
    return peer.ask(what, of, *args, **named)


def _ask_two(what: str, one: Remote, other: object) -> Any:
    if not isinstance(other, Remote):
        return NotImplemented
    return _ask(one, what, other)


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
