"""A night in a process of its own: its memory goes with it, and so does whatever kills it."""

from __future__ import annotations

import signal
from dataclasses import dataclass, fields
from datetime import date
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from rich.console import Console

from guildgpt.inherited import set_right
from guildgpt.learn.night import Happened, take_night
from guildgpt.learn.turn import Options


@dataclass(frozen=True, slots=True)
class Wanted:
    """How turns are taken, in values that another process can be given: `settings` are those of
    `turn.Options` but the console and who is asked. Nobody is: what needs the operator's yes waits
    for it."""

    settings: dict[str, Any]
    is_quiet: bool = False

    def options(self) -> Options:
        """The same for a turn."""
        console = Console(quiet=self.is_quiet)
        return Options(**self.settings, console=console, agree=lambda _: False)


def wanted_of(options: Options, *, is_quiet: bool = False) -> Wanted:
    """These options, for nights."""
    names = [one.name for one in fields(options) if one.name not in ("console", "agree")]
    return Wanted({name: getattr(options, name) for name in names}, is_quiet)


def take_night_apart(wanted: Wanted, night: date) -> Happened:
    """Take a night in a process of its own; that it died is a night that failed."""
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_take, args=(wanted, night, there))
    process.start()
    there.close()
    try:
        happened = here.recv()
        process.join()
        return happened  # type: ignore[no-any-return]
    except EOFError:
        process.join()
        return Happened("failed", night, _death(process.exitcode or 0))
    except BaseException:  # Ctrl-C or SIGTERM: it ends as a turn does, to go on another time
        process.terminate()
        process.join()
        raise


def _take(wanted: Wanted, night: date, there: Connection) -> None:
    set_right()
    there.send(take_night(wanted.options(), night))


def _death(code: int) -> str:
    if code == -getattr(signal, "SIGKILL", 9):
        return "the process that trained was killed: the machine may have run out of memory"
    return f"the process that trained died ({'signal' if code < 0 else 'status'} {abs(code)})"
