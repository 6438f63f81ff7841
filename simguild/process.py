"""The bot in a process of its own, started and killed, and its operator's commands beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from guildgpt.errors import GuildError
from simguild.fake import FakeDiscord
from simguild.fake.server import PATIENCE

ROOT = Path(__file__).parents[1]
STOP_SECONDS = 60.0


async def guildgpt(*arguments: str, width: int = 100) -> str:
    """Run `guildgpt` as an operator does, in a process of its own.

    Returns what it printed; GuildError with that if it fails.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "guildgpt", *arguments),
        env={"COLUMNS": str(width)} | dict(os.environ),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:  # whoever waits for it is cancelled
            process.kill()
    said = printed.decode(errors="replace").rstrip()
    if process.returncode:
        raise GuildError(f"`guildgpt {arguments[0]}` failed", remedy=said)
    return said


class BotProcess:
    """`python -m simguild.launch` against a fake, with its store and log in a folder.

    `settings` are the bot's, by their names (`max_tokens=96`); `engine` is what SIMGUILD_ENGINE
    takes. An operator's own settings in the environment do not reach it.
    """

    def __init__(
        self,
        fake: FakeDiscord,
        folder: Path,
        *,
        engine: str = "",
        settings: Mapping[str, object] | None = None,
    ):
        self._fake = fake
        self.log = folder / "bot.log"
        self.store = f"sqlite:///{folder / 'feedback.db'}"
        given = {"store": self.store, **(settings or {})}
        own = {key: value for key, value in os.environ.items() if not key.startswith("GUILDGPT_")}
        cache = {key: os.environ[key] for key in ("GUILDGPT_CACHE",) if key in os.environ}
        self._environment = {
            **own,
            **cache,
            **fake.environment(),
            **{f"GUILDGPT_{key.upper()}": str(value) for key, value in given.items()},
            "SIMGUILD_ENGINE": engine,
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The number of the running process."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self, timeout: float = PATIENCE) -> None:
        """Start it, and wait until it is on Discord; RuntimeError with its log if it ends."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "simguild.launch"),
                env=self._environment,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = asyncio.get_running_loop().time() + timeout
        while not (self._fake.connected and self._fake.commands.everywhere):
            late = asyncio.get_running_loop().time() > deadline
            if late or self._process.returncode is not None:
                raise RuntimeError(f"the bot did not start; the end of its log:\n{self.tail()}")
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """kill -9."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM, and the exit status; killed if it does not end."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
            except TimeoutError:
                await self.kill()
        return self._process.returncode or 0

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
