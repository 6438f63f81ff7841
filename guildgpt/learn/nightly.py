"""The circle by itself: one process that takes each night at its time, as long as it runs.

Which nights were taken stands in the circle's log, so that none is taken twice, whether the machine
slept, the process was started anew or the clock was set; and a night that was missed is taken once.
Each is taken in a process of its own: what training takes of memory is free by day, and if it is
killed, for want of memory or otherwise, this one says so, and goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from guildgpt.errors import GuildError
from guildgpt.feedback.commands import with_store
from guildgpt.feedback.storage.rows import utcnow
from guildgpt.feedback.store import Store
from guildgpt.learn.calendar import Calendar
from guildgpt.learn.night import AT_WORK, Happened

LOOK = 60.0  # seconds: so soon a machine that wakes or a clock that was set is noticed
PAUSES = (300.0, 1200.0, 3600.0)  # seconds, before a night is tried again
REMEMBERED = 1000  # entries of the log, among which are the nights that were taken


@dataclass
class Nightly:
    """Nights of one store. `attempt` takes one, `tell` is told what came of it, and `say` in words
    what comes next; clock and sleep are the machine's, or a test's."""

    store: str
    calendar: Calendar
    attempt: Callable[[date], Happened]
    tell: Callable[[Happened], None]
    say: Callable[[str], None]
    clock: Callable[[], datetime] = utcnow
    sleep: Callable[[float], None] = time.sleep
    unwritten: list[Happened] = field(default_factory=list)  # while the store was away
    _announced: datetime | None = None
    _has_looked_back: bool = False
    _assumed: date | None = None

    def run(self) -> None:
        """Night after night, until KeyboardInterrupt or SystemExit."""
        while True:
            self.step()

    def step(self) -> None:
        """Take the night that is due, or wait for a while."""
        self._write()
        if not self._has_looked_back and self._look_back():
            self.one(self.calendar.newest(self.clock()))
        elif (night := self.calendar.due(self.clock())) is not None:
            self.one(night)
        else:
            self._wait()

    def one(self, night: date) -> Happened:
        """Take a night; where what went wrong may pass, once more after a pause, and a longer one.
        What came of it at last."""
        self.calendar.taken.add(night)
        pauses: list[float | None] = [*PAUSES, None]
        for pause in pauses:
            happened = self.attempt(night)
            self.tell(happened)
            self.unwritten.append(happened)
            self._write()
            if pause is None or not happened.may_pass:
                break
            self.say(f"It is tried again in {pause / 60:.0f} minutes.")
            self._pause(pause)
        return happened

    def _wait(self) -> None:
        now = self.clock()
        coming = self.calendar.next(now)
        if coming != self._announced:
            self._announced = coming
            self.say(f"The next night is {coming:%Y-%m-%d %H:%M %Z}.")
        self.sleep(max(1.0, min(LOOK, (coming - now).total_seconds())))

    def _pause(self, seconds: float) -> None:
        """In short sleeps: while a machine sleeps they do not count."""
        until = self.clock() + timedelta(seconds=seconds)
        while 0 < (left := (until - self.clock()).total_seconds()) <= seconds:  # or it was set back
            self.sleep(min(LOOK, left))

    def _look_back(self) -> bool:
        """Which nights were taken, once the store can be asked; whether a turn was stopped in the
        middle, which goes on at once. Before the first night nothing was missed."""
        newest = self.calendar.newest(self.clock())
        try:
            taken, stopped = with_store(self.store, _known)
        except GuildError as error:
            if self._assumed is None:
                self._assumed = newest
                self.calendar.taken.add(newest)  # whether it was missed is not known yet
                self.say(f"The store cannot be asked yet: {error.what}.")
            return False
        self._has_looked_back = True
        if taken:
            self.calendar.taken.discard(self._assumed)
        self.calendar.taken |= taken or {newest}
        return stopped

    def _write(self) -> None:
        """What happened, into the circle's log, as soon as the store takes it."""
        try:
            while self.unwritten:
                with_store(self.store, lambda store: _write_down(store, self.unwritten[0]))
                self.unwritten.pop(0)
        except GuildError:
            pass


async def _write_down(store: Store, happened: Happened) -> None:
    id = happened.decision_id
    known = id is not None and await store.decisions.by_id(id) is not None
    await store.log.add(happened.kind, happened.logged(), decision_id=id if known else None)


async def _known(store: Store) -> tuple[set[date], bool]:
    """The nights that were taken, and whether a turn stands in the middle of its training."""
    entries = await store.log.entries(limit=REMEMBERED)
    nights = {date.fromisoformat(one.detail["night"]) for one in entries if "night" in one.detail}
    decision = await store.decisions.current()
    return nights, decision is not None and decision.state in AT_WORK
