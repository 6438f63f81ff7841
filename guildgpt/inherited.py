"""What a command inherits from whoever started it, set right before it begins.

A shell lets what it starts in the background ignore Ctrl-C, other programs hand on other signals,
a service manager may close standard input. None of it is meant for the command.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from io import TextIOWrapper
from typing import NoReturn


class Terminated(SystemExit):
    """SIGTERM. It ends a command as Ctrl-C does: what is open is closed on the way out."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def set_right() -> None:
    """The process takes Ctrl-C and SIGTERM, can wait for its children, has streams and a home."""
    if threading.current_thread() is threading.main_thread():  # no other one may change signals
        _take_signals()
    _complete_streams()
    if os.path.expanduser("~") == "~":  # neither HOME nor an entry for the user: "/", as in Docker
        os.environ["HOME"] = os.sep


def _take_signals() -> None:
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it takes away children's statuses
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def _complete_streams() -> None:
    """What is closed reads as empty and takes everything; what cannot be encoded becomes "?"."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Opened in this order each gets its own number, before a store or a socket has it.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
