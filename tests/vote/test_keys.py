"""What is typed, byte by byte: on a pipe, in a file, and at a real terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from guildgpt.vote.keys import Keys


@pytest.fixture
def terminal() -> Iterator[tuple[int, Keys]]:
    """The person's side of a terminal, and what reads the other."""
    person, program = pty.openpty()
    yield person, Keys(program)
    for descriptor in (person, program):
        os.close(descriptor)


async def all_of(keys: Keys) -> list[str]:
    found = []
    while (key := await keys.key()) is not None:
        found.append(key)
    return found


async def test_from_a_pipe_a_letter_a_line() -> None:
    read, write = os.pipe()
    os.write(write, b"a\r\n\n  Better \nq")
    os.close(write)
    keys = Keys(read)
    assert not keys.single
    with keys.listening():
        assert await all_of(keys) == ["a", "b", "q"]
        assert await keys.key() is None
    os.close(read)


async def test_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("é\nt\n", encoding="utf-8")
    with path.open("rb") as file:
        assert await all_of(Keys(file.fileno())) == ["é", "t"]


async def test_lines_end_with_a_dot_or_with_the_input() -> None:
    read, write = os.pipe()
    os.write(write, "One\n\n  two ç\n.\nthree".encode())
    os.close(write)
    keys = Keys(read)
    assert await keys.lines() == ["One", "", "  two ç"]
    assert await keys.lines() == ["three"]
    os.close(read)


async def test_at_a_terminal_a_key_is_enough(terminal: tuple[int, Keys]) -> None:
    person, keys = terminal
    assert keys.single
    with keys.listening():
        os.write(person, b"A\x1b[D\x1b[C\x1bOD\x1b[A\x1b[3~\r\nt\x04")
        assert await all_of(keys) == ["a", "a", "b", "a", "t"]


async def test_an_escape_may_come_in_pieces(terminal: tuple[int, Keys]) -> None:
    person, keys = terminal
    with keys.listening():
        pressed = asyncio.create_task(keys.key())
        for piece in (b"\x1b", b"[", b"C"):
            await asyncio.sleep(0.01)
            os.write(person, piece)
        assert await pressed == "b"


async def test_what_was_typed_before_is_forgotten(terminal: tuple[int, Keys]) -> None:
    person, keys = terminal
    with keys.listening():
        os.write(person, b"bbbb")
        assert await keys.key() == "b"
        keys.forget()
        os.write(person, b"t")
        assert await keys.key() == "t"


async def test_who_stops_waiting_for_a_key_loses_none(terminal: tuple[int, Keys]) -> None:
    person, keys = terminal
    with keys.listening():
        waiting = asyncio.create_task(keys.key())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        os.write(person, b"x")
        assert await keys.key() == "x"


async def test_lines_are_typed_with_an_echo_and_the_terminal_is_left_as_it_was(
    terminal: tuple[int, Keys],
) -> None:
    person, keys = terminal
    before = termios.tcgetattr(person)
    with keys.listening():
        assert not termios.tcgetattr(person)[3] & (termios.ECHO | termios.ICANON)
        with keys.typing():
            assert termios.tcgetattr(person)[3] & termios.ECHO
            os.write(person, b"On\x7fne\n\x04")
            assert await keys.lines() == ["One"]
        assert not termios.tcgetattr(person)[3] & termios.ECHO
        os.write(person, b"q")
        assert await keys.key() == "q"
    assert termios.tcgetattr(person) == before


async def test_a_terminal_that_is_gone_is_the_end() -> None:
    person, program = pty.openpty()
    keys = Keys(program)
    with keys.listening():
        os.close(person)
        assert await keys.key() is None
    os.close(program)
