"""Processes that begin as a shell's background jobs do, and worse: with signals ignored."""

from __future__ import annotations

import sys

IGNORE = """
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
    signal.signal(number, signal.SIG_IGN)
"""
_RUN = f"{IGNORE}\nimport os, sys\nos.execv(sys.executable, [sys.executable, *sys.argv[1:]])"


def ignoring(*arguments: object) -> list[str]:
    """The command `python ARGUMENTS`, started so."""
    return [sys.executable, "-c", _RUN, *map(str, arguments)]
