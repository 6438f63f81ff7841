"""A person at a terminal, in front of a whole process of ours."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from contextlib import suppress

import psutil
from ignoring import ignoring

PATIENCE = 240.0  # seconds until something counts as hung, however busy the machine is


class Terminal:
    """Types, and waits for what should appear.

    What they called (`guildgpt` with these arguments) began with signals ignored, as under a shell
    that was itself started so.
    """

    def __init__(self, *arguments: object, columns: int = 80, **environment: str):
        command = ignoring("-m", "guildgpt", *arguments)
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            size = struct.pack("HHHH", 40, columns, 0, 0)
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.execve(command[0], command, {**os.environ, **environment})
        self.process = psutil.Process(self.pid)
        self.text = ""

    def see(self, pattern: str) -> str:
        """Read until `pattern` appears; what came up to its end."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.text, re.S)):
            ready, _, _ = select.select([self.screen], [], [], max(0, deadline - time.monotonic()))
            try:
                piece = os.read(self.screen, 65536) if ready else b""
            except OSError:  # Linux says so when the other side is gone
                piece = b""
            assert piece, f"waited for {pattern!r}, saw {self.text!r}"
            self.text += piece.decode(errors="replace").replace("\r\n", "\n")
        seen, self.text = self.text[: found.end()], self.text[found.end() :]
        return seen

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.screen, keys.encode())

    def rest(self) -> str:
        """What comes until the process is gone."""
        with suppress(OSError):  # Linux says so at the end
            while piece := os.read(self.screen, 65536):
                self.text += piece.decode(errors="replace").replace("\r\n", "\n")
        return self.text

    def leave(self) -> int:
        """The exit status."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        """What is left of the process is killed."""
        with suppress(psutil.NoSuchProcess, ChildProcessError):
            self.process.kill()
            self.leave()
        os.close(self.screen)
