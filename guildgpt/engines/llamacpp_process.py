"""The process that llama.cpp runs in, seen from outside: started, watched, ended; what it says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

from guildgpt.engines import llamacpp_child
from guildgpt.errors import EngineError
from guildgpt.model.gguf_file import diagnose

# A model that is not loaded by then hangs: a minute, and a second more for each 20 MB.
LOAD_SECONDS, LOAD_BYTES_A_SECOND = 60.0, 20e6
LINES = 50  # of llama.cpp's last words that are kept
# How often a thread of OpenMP's looks whether the others are there before it sleeps. By default it
# spins for so long that two engines on the same cores stand still (bench/engines.py).
SPINS = "3000"
# Why a model is not loaded, a thread of llama.cpp's writes after the server has given up.
WORDS_SECONDS = 10.0

# Who has a shared library: on Debian and Ubuntu, and on Fedora.
_PACKAGES = {
    "libgomp.so": ("libgomp1", "libgomp"),
    "libstdc++.so": ("libstdc++6", "libstdc++"),
    "libgcc_s.so": ("libgcc-s1", "libgcc"),
    "libvulkan.so": ("libvulkan1", "vulkan-loader"),
}
_MEANINGS = {
    "SIGKILL": ": it was killed; the system does that where memory is short",
    "SIGILL": ": this processor lacks an instruction that it needs",
}
_LIBRARY = re.compile(r"(lib[\w+.-]+?\.so)(?:\.\d+)*(?=: cannot open)")
_REASON = re.compile(r"error loading model: (.+)")
_ERROR = re.compile(r"^[\d.]+ E (.+)", re.MULTILINE)


class LlamaCppProcess:
    """llama.cpp in a process of its own, for one model."""

    def __init__(self) -> None:
        self._process = _child()
        self._words: deque[str] = deque(maxlen=LINES)
        self._complained = Event()  # or ended
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()

    def load(self, path: Path, key: str, context: int, slots: int, threads: int | None) -> str:
        """Load a model; where it answers then.

        Raises `EngineError` where it does not come up, with its own words if it had any.
        """
        options: dict[str, Any] = {
            "path": str(path),
            "key": key,
            "context": context,
            "slots": slots,
            "threads": threads,
        }
        seconds = LOAD_SECONDS + path.stat().st_size / LOAD_BYTES_A_SECOND
        deadline = time.monotonic() + seconds
        timer = Timer(seconds, self._process.kill)
        timer.start()
        try:
            reply = _asked(self._process, options)
        finally:
            timer.cancel()
        if "address" in reply:
            return str(reply["address"])
        if time.monotonic() >= deadline:
            raise EngineError(
                f"llama.cpp was not ready after {seconds:,.0f} seconds, and was stopped",
                where=path,
                remedy="Is the disk very slow, or the memory full? Try again, or take a smaller "
                "model.",
            )
        if "import" in reply:
            raise cannot_start(reply["import"])
        if "error" not in reply:
            self._process.wait()
        raise diagnose(path, self._reason() or reply.get("error") or self.how_it_ended())

    def how_it_ended(self) -> str | None:
        """In words, how the process ended; None while it is there."""
        return _how_it_ended(self._process.poll())

    def stop(self) -> None:
        """End the process at once; nothing in it is worth a farewell."""
        with suppress(OSError), self._process:  # which closes its pipes
            self._process.kill()
            self._process.wait()
            self._listener.join()

    def _reason(self) -> str | None:
        """Why llama.cpp does not load a model, in its own words; waits for them."""
        self._complained.wait(WORDS_SECONDS)
        words = "".join(list(self._words))
        found = _REASON.search(words) or _ERROR.search(words)
        return found[1] if found else None

    def _listen(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            self._words.append(line)
            if _ERROR.match(line):
                self._complained.set()
        self._complained.set()


def check_llamacpp() -> None:
    """Raise `EngineError` where llama.cpp cannot start here, whatever the model."""
    with _child() as process:
        reply = _asked(process, {})
    if "import" in reply:
        raise cannot_start(reply["import"])
    if "ready" not in reply:
        raise cannot_start(_how_it_ended(process.returncode) or "it said nothing")


def cannot_start(why: str) -> EngineError:
    """The error for llama.cpp that cannot be loaded, of which the loader says `why`."""
    remedy = "Install it anew: pip install --force-reinstall xllamacpp"
    if "No module named" in why:
        remedy = "Install it: pip install xllamacpp"
    if missing := _LIBRARY.search(why):
        remedy = f"Install the package of your system that has {missing[0]}."
        if known := _PACKAGES.get(missing[1]):
            remedy = (
                f"Install what has {missing[0]}: `apt-get install {known[0]}` on Debian and "
                f"Ubuntu, `dnf install {known[1]}` on Fedora."
            )
    return EngineError(f"llama.cpp cannot start here: {why}", remedy=remedy)


def _child() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(Path(llamacpp_child.__file__))],
        env={"GOMP_SPINCOUNT": SPINS, **os.environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # the terminal's Ctrl-C is not for it
    )


def _asked(process: subprocess.Popen[str], options: dict[str, Any]) -> dict[str, Any]:
    """The child's one line of JSON; empty where it ended without it."""
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(json.dumps(options) + "\n")
        process.stdin.flush()
        reply = json.loads(process.stdout.readline())
        return reply if isinstance(reply, dict) else {}
    except (OSError, ValueError):
        return {}


def _how_it_ended(status: int | None) -> str | None:
    """An exit status in words."""
    if status is None:
        return None
    if status >= 0:
        return f"its process ended with status {status}"
    names = {number.value: number.name for number in signal.Signals}
    name = names.get(-status, f"signal {-status}")
    return f"its process ended by {name}{_MEANINGS.get(name, '')}"
