"""The bot in a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

from .house import KEY, House


class Process:
    """The bot in a process of its own: `python -m simguild.launch`."""

    def __init__(self, house: House, rate: float | None):
        """Without a rate it opens the models that are released."""
        self._house = house
        self._rate = rate
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it may take a moment to connect."""
        environment = {
            **os.environ,
            **self._house.fake.environment(),
            "SIMGUILD_ENGINE": f"paced:{self._rate}" if self._rate else "",
            "GUILDGPT_STORE": str(self._house.database),
            "GUILDGPT_MEMBER_KEY": KEY.hex(),
        }
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "simguild.launch"),
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process
        return self._process.pid

    async def end(self, how: signal.Signals) -> int:
        """Send a signal, and wait for the end; its status."""
        assert self._process
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(how)
        _, log = await self._process.communicate()
        self.log = log.decode()
        assert self._process.returncode is not None
        return self._process.returncode
