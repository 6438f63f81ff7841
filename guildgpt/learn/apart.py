"""A night in a process of its own: its memory goes with it, and so does whatever kills it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from rich.console import Console

from guildgpt.inherited import set_right
from guildgpt.learn.night import Happened, take_night
from guildgpt.learn.turn import Options


@dataclass(frozen=True, slots=True)
class Wanted:
    """How turns are taken, in values that another process can be given; see `turn.Options`."""

    store: str
    recipe: str
    overrides: Sequence[str]
    work: Path
    share: float | None = None
    least: int | None = None
    promote: Literal["ask", "by_itself"] | None = None
    guilds: Literal["served"] | list[int] | None = None
    is_quiet: bool = False

    def options(self) -> Options:
        """The same for a turn that asks nobody: what needs the operator's yes waits for it."""
        return Options(
            self.store,
            self.recipe,
            self.overrides,
            self.work,
            self.share,
            self.least,
            Console(quiet=self.is_quiet),
            lambda _: False,
            self.promote,
            self.guilds,
        )


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
