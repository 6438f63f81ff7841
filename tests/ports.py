"""Ports for the servers that a test starts, and that cannot be told to take any."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from random import SystemRandom

from filelock import FileLock, Timeout

_HELD: list[FileLock] = []


def free_port() -> int:
    """A port that is this process's until it ends, as far as tests go: nobody listens on it.

    Outgoing connections take theirs from above, where the system would find us one as well, and
    could give it to somebody else before we use it.
    """
    folder = Path(tempfile.gettempdir()) / f"guildgpt-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    while True:
        port = SystemRandom().randrange(10_000, 32_000)
        lock = FileLock(folder / str(port))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                lock.release()
                continue
        _HELD.append(lock)
        return port
