"""A small process that forks a confined one for each piece of code, watches it and clears up.

It is started without site-packages and without our environment, knows nothing but this room and the
standard library, and never reads the code or the tests: each confined process takes its own part
from standard input. So no run finds anything of another in its memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from guildgpt.rewards import runner
from guildgpt.rewards.confine import Level, Limits, confine, hide
from guildgpt.rewards.wire import Gone, Peer

# Loaded once here, so that it costs nothing in each run.
_USUAL = (
    "bisect", "collections", "contextlib", "copy", "dataclasses", "datetime", "decimal", "enum",
    "fractions", "functools", "heapq", "itertools", "math", "operator", "random", "re",
    "statistics", "string", "textwrap", "typing",
)  # fmt: skip
_WATCH_SECONDS = 0.05
_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT  # whether a process has ended, and no more


def main() -> None:
    """Serve requests from standard input until it ends; each is answered by a line of JSON.

    A request is the length of its header, the header (JSON), the code, and the tests if any. The
    first argument is the folder for the runs' own folders, the second the level of confinement.
    """
    folder, level = sys.argv[1:]
    hide()  # what comes over standard input is for others
    for name in _USUAL:
        __import__(name)
    sys.dont_write_bytecode = True
    results = os.dup(1)
    os.dup2(2, 1)
    while size := _read(0, 4, whole=False):
        request = json.loads(_read(0, *struct.unpack("=I", size)))
        result = _Run(request, folder, level).result()  # type: ignore[arg-type]
        os.write(results, json.dumps(result).encode() + b"\n")


class _Run:
    """One piece of code, alone or against its tests."""

    def __init__(self, request: dict[str, Any], parent: str, level: Level):
        self.limits = Limits(*request["limits"])
        self.code_bytes, self.tests_bytes = request["code"], request["tests"]
        self.level: Level = level
        self.folder = tempfile.mkdtemp(dir=parent)
        self.pids: list[int] = []
        self.deadline = time.monotonic() + self.limits.seconds

    def result(self) -> dict[str, Any]:
        """Run it; whatever happens, nothing of it is left."""
        try:
            return self._alone() if self.tests_bytes is None else self._against_tests()
        except OSError as error:
            return {"trouble": str(error)}
        finally:
            for pid in self.pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            shutil.rmtree(self.folder)  # flat: confined code makes no folders

    def _alone(self) -> dict[str, Any]:
        out, into = os.pipe()
        self._fork(self.code_bytes, runner.run_alone, shown=into)
        os.close(into)
        most = self.limits.output_kib * 1024
        output, ended = self._watch(out, most)
        os.close(out)
        pid = self.pids.pop()
        if ended:
            os.kill(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
        status = os.waitstatus_to_exitcode(status)
        if not ended and status < 0:
            spent = used.ru_utime + used.ru_stime > self.limits.cpu_seconds - 0.1
            ended = "time" if spent or status == -signal.SIGXCPU else "signal"
        text = output[:most].decode(errors="replace")
        return {"output": text, "status": status, "ended": ended or "exit"}

    def _against_tests(self) -> dict[str, Any]:
        to_answer, to_tests, report = os.pipe(), os.pipe(), os.pipe()

        def answer(code: str) -> None:
            peer = Peer(to_answer[0], to_tests[1], everything=True)
            with contextlib.suppress(Gone):
                runner.run_answer(code, peer)

        def tests(text: str) -> None:
            peer = Peer(to_tests[0], to_answer[1], everything=False)
            runner.run_tests(text, peer, report[1])

        # In this order: the one that reads the tests is forked when the other has its own.
        self._fork(self.code_bytes, answer, keep=(to_answer[0], to_tests[1]))
        keep = (to_tests[0], to_answer[1], report[1])
        self._fork(self.tests_bytes, tests, keep=keep, writing=False)
        for end in (*to_answer, *to_tests, report[1]):
            os.close(end)
        said, ended = self._watch(report[0], 2**20)
        os.close(report[0])
        ended = ended or ("time" if self._spent(self.pids[0]) else "")
        lines = [json.loads(line) for line in said.split(b"\n")[:-1]]
        return {"tests": lines, "ended": ended or "exit"}

    def _fork(
        self,
        size: int,
        act: Callable[[str], None],
        *,
        keep: tuple[int, ...] = (),
        shown: int | None = None,
        writing: bool = True,
    ) -> None:
        """A confined process that reads `size` bytes of standard input and acts on them."""
        ready, tell = os.pipe()
        pid = os.fork()
        if not pid:
            self._inside(size, act, (*keep, tell), shown, writing)
        self.pids.append(pid)
        os.close(tell)
        said = _read(ready, 4096, whole=False)
        os.close(ready)
        if said != b"ready":
            raise OSError(said.decode(errors="replace") or "it ended before it was confined")

    def _inside(
        self,
        size: int,
        act: Callable[[str], None],
        keep: tuple[int, ...],
        shown: int | None,
        writing: bool,
    ) -> NoReturn:
        tell = keep[-1]
        try:
            text = _read(0, size).decode()
            null = os.open(os.devnull, os.O_RDWR)
            for number in (1, 2):
                os.dup2(null if shown is None else shown, number)
            os.dup2(null, 0)
            _close_all_but(keep)
            folder = self.folder if writing else "/"
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(HOME=folder, TMPDIR=folder, LANG="C.UTF-8", TZ="UTC")
            tempfile.tempdir = None
            sys.argv[:] = [runner.FILE]
            random.seed(0)  # the same answer gets the same reward, in a resumed run too
            confine(self.limits, self.folder if writing else None, self.level)
            os.write(tell, b"ready")
            os.close(tell)
        except BaseException as error:
            os.write(tell, f"{type(error).__name__}: {error}".encode()[:4096])
            os._exit(1)
        os._exit(_status(act, text))

    def _watch(self, fd: int, most: int) -> tuple[bytes, str]:
        """What the last process writes until it ends, or until why it must end."""
        output, open_ = bytearray(), True
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while open_ or os.waitid(os.P_PID, self.pids[-1], _LOOK) is None:  # it still runs
            left = self.deadline - time.monotonic()
            if left <= 0:
                return bytes(output), "time"
            if self._folder_is_full():
                return bytes(output), "files"
            if not open_:
                time.sleep(0.001)  # it has closed its output, and is about to end as a rule
            elif poll.poll(1000 * min(left, _WATCH_SECONDS)):
                part = os.read(fd, 2**16)
                output += part
                open_ = bool(part)
                if len(output) > most:
                    return bytes(output), "output"
        return bytes(output), ""

    def _spent(self, pid: int) -> bool:
        """Whether a process ended because its processor time was used up. It ends when its tests
        do, at the latest; one that does not is not waited for."""
        for _ in range(100):
            if found := os.waitid(os.P_PID, pid, _LOOK):
                return found.si_code != os.CLD_EXITED and found.si_status == signal.SIGXCPU
            time.sleep(0.005)
        return False

    def _folder_is_full(self) -> bool:
        size = 0
        with os.scandir(self.folder) as found:
            for number, entry in enumerate(found, 1):
                with contextlib.suppress(FileNotFoundError):
                    size += entry.stat(follow_symlinks=False).st_size
                if number > self.limits.files or size > self.limits.files_mib * 2**20:
                    return True
        return False


def _status(act: Callable[[str], None], text: str) -> int:
    """Do it and end as Python ends: the exit status."""
    try:
        act(text)
        status = 0
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    return status & 0xFF


def _close_all_but(keep: tuple[int, ...]) -> None:
    low = 3
    for number in sorted(keep):
        os.closerange(low, number)
        low = number + 1
    os.closerange(low, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _read(fd: int, size: int, *, whole: bool = True) -> bytes:
    """Just so many bytes, unbuffered: what follows is for another process. b"" at the end."""
    data = b""
    while len(data) < size:
        part = os.read(fd, size - len(data))
        if not part:
            if data and whole:
                raise EOFError("the request is cut off")
            break
        data += part
    return data
