"""Leases: what only one process may do at a time, the one that holds the lease."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import delete, func, select

from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock
from guildgpt.feedback.storage.schema import leases


def holder_here() -> str:
    """A name for this process among all that may want a lease."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


def is_dead(holder: str) -> bool:
    """Whether the process that held a lease ran on this machine and is no more."""
    host, pid, _ = holder.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return int(pid) == os.getpid()  # the holder of this number before us


@dataclass(frozen=True, slots=True)
class Leases:
    """Rights by name, each held by one holder until its time is over."""

    _database: Database
    _clock: Clock

    async def acquire(self, name: str, holder: str, seconds: float) -> bool:
        """Take the lease, or renew it, for `seconds` from now; False while another one holds it."""
        now = self._common_time()
        taken = {"holder": holder, "expires_at": now + timedelta(seconds=seconds)}
        taking = (
            self._database.insert(leases)
            .values(name=name, **taken)
            .on_conflict_do_update(
                index_elements=["name"],
                set_=taken,
                where=(leases.c.holder == holder) | (leases.c.expires_at <= now),
            )
        )
        return bool(await self._database.execute(taking))

    async def holder(self, name: str) -> str | None:
        """Who holds the lease; None if nobody does, or their time is over."""
        is_held = leases.c.expires_at > self._common_time()
        found = await self._database.row(
            select(leases.c.holder).where(leases.c.name == name, is_held)
        )
        return found.holder if found else None

    async def release(self, name: str, holder: str) -> None:
        """Give the lease back; nothing happens if another one has it."""
        theirs = (leases.c.name == name) & (leases.c.holder == holder)
        await self._database.execute(delete(leases).where(theirs))

    def _common_time(self) -> Any:
        """Now, for all who want the same lease: they may be on hosts whose clocks differ, so that
        PostgreSQL tells the time. A SQLite file lies on their own host."""
        return self._clock.now() if self._database.is_sqlite else func.clock_timestamp()
