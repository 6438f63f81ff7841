"""Code in a process of its own, to be killed wherever it hurts.

Loading torch and transformers takes seconds, so it is done once, in a process that does nothing
else; every process of a test is forked from that one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path

LOADED = ["guildgpt.cli", "guildgpt.pipeline.run", "transformers.models.llama.modeling_llama"]
PATIENCE = 240.0  # seconds until a process counts as hung, however busy the machine is


class Forked:
    """A process that runs `code`, with what it writes to standard output and error kept."""

    def __init__(self, code: str):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LOADED)
        self._output = tempfile.NamedTemporaryFile()  # noqa: SIM115 (deleted with this object)
        self._process = context.Process(target=_run, args=(code, self._output.name), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    def output(self) -> str:
        """What it has written so far."""
        return Path(self._output.name).read_text(encoding="utf-8")

    def wait(self) -> int:
        """Wait for its end; the exit status, minus the signal if one killed it."""
        self._process.join(PATIENCE)
        status = self._process.exitcode
        assert status is not None, f"it hangs: {self.output()}"
        return status

    def finish(self) -> str:
        """Wait for its end, which must be a success; its output."""
        status = self.wait()
        assert status == 0, self.output()
        return self.output()

    def wait_for(self, text: str) -> None:
        """Wait until it has written `text`."""
        until = time.monotonic() + PATIENCE
        while text not in self.output():
            self.check()
            assert time.monotonic() < until, self.output()
            time.sleep(0.01)

    def check(self) -> None:
        """AssertionError if it has ended."""
        assert self._process.is_alive(), f"it ended too soon: {self.output()}"

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()
        assert self.wait() == -signal.SIGKILL


def _run(code: str, output: str) -> None:
    with open(output, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    exec(compile(code, "forked", "exec"), {"__name__": "forked"})
