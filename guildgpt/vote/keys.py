"""What the person types: single keys at a terminal, one letter a line from a pipe."""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

if sys.platform != "win32":
    import termios
    import tty

_ESCAPE = re.compile(r"\x1b[\[O][0-9;]*([A-Za-z~])")
_BEGUN = re.compile(r"\x1b([\[O][0-9;]*)?\Z")  # the rest of an escape may still come
_ARROWS = {"D": "a", "C": "b"}  # left, right
_ENDS = ("\x03", "\x04")  # Ctrl-C, where the terminal sends no signal for it, and Ctrl-D
PIECE = 65536


class Keys:
    """Standard input, or another file descriptor; nothing is read ahead of who asks.

    At a terminal that knows termios a key is enough; elsewhere a line is, of which the first
    letter counts.
    """

    def __init__(self, descriptor: int | None = None):
        self._descriptor = sys.stdin.fileno() if descriptor is None else descriptor
        self.at_terminal = os.isatty(self._descriptor)
        self.single = self.at_terminal and sys.platform != "win32"
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._text = ""
        self._ended = False
        self._one_by_one = False
        self._cooked: list[Any] | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keys come one by one, without an echo; the terminal is as before when this ends."""
        if not self.single:
            yield
            return
        self._cooked = termios.tcgetattr(self._descriptor)
        self._listen()
        loop = asyncio.get_running_loop()
        # Ctrl-Z and `fg`: the shell has set the terminal right for itself meanwhile.
        loop.add_signal_handler(signal.SIGCONT, self._resume)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGCONT)
            self._restore()

    @contextmanager
    def typing(self) -> Iterator[None]:
        """Lines are typed, or another program has the terminal, until this ends."""
        if not self.single:
            yield
            return
        self._restore()
        try:
            yield
        finally:
            self._listen()

    def forget(self) -> None:
        """Drop what was typed at the terminal before there was anything to answer."""
        if self.single:
            with suppress(termios.error):
                termios.tcflush(self._descriptor, termios.TCIFLUSH)
            self._text = ""

    async def key(self) -> str | None:
        """The next letter, small, an arrow as the answer that it points at; None at the end."""
        return await self._single() if self.single else await self._letter()

    async def lines(self) -> list[str]:
        """Lines up to one that is a single dot, or to the end: at a terminal Ctrl-D."""
        found: list[str] = []
        while (line := await self._line()) is not None and line.strip() != ".":
            found.append(line)
        return found

    async def _single(self) -> str | None:
        while True:
            while not self._text or _BEGUN.match(self._text):
                if not await self._more():
                    return None
            if escape := _ESCAPE.match(self._text):
                self._text = self._text[escape.end() :]
                if escape[1] in _ARROWS:
                    return _ARROWS[escape[1]]
                continue
            key, self._text = self._text[0], self._text[1:]
            if key in _ENDS:
                return None
            if key.isprintable():
                return key.casefold()

    async def _letter(self) -> str | None:
        while (line := await self._line()) is not None:
            if word := line.strip().casefold():
                return word[0]
        return None

    async def _line(self) -> str | None:
        while "\n" not in self._text:
            if not await self._more():
                line, self._text = self._text, ""
                return line or None
        line, _, self._text = self._text.partition("\n")
        return line.removesuffix("\r")

    async def _more(self) -> bool:
        """Wait for more; False at the end."""
        if self._ended:
            return False
        try:
            data = await self._read()
        except OSError:  # the terminal is gone
            data = b""
        self._text += self._decoder.decode(data)
        self._ended = not data and not self.at_terminal
        return bool(data)

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        try:
            loop.add_reader(self._descriptor, _set, ready)
        except NotImplementedError:  # Windows
            return await asyncio.to_thread(os.read, self._descriptor, PIECE)
        except PermissionError:  # a file, from which reading never waits
            return os.read(self._descriptor, PIECE)
        try:
            await ready
        finally:
            loop.remove_reader(self._descriptor)
        return os.read(self._descriptor, PIECE)

    def _listen(self) -> None:
        self._one_by_one = True
        self._resume()

    def _resume(self) -> None:
        if self._one_by_one:
            tty.setcbreak(self._descriptor, termios.TCSADRAIN)

    def _restore(self) -> None:
        self._one_by_one = False
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._cooked or [])


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
