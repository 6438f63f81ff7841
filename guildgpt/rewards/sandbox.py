"""Run Python that nobody has read: in a process that can compute, and little else.

    ran = run("print(6 * 7)")
    ran.output  # '42\\n'

What the process is kept from, and what remains, stands in docs/rewards.md. Where this machine
cannot confine a process, `SandboxError` says so and nothing is run.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from guildgpt.errors import GuildError
from guildgpt.rewards.confine import DEFAULT_LIMITS, Level, Limits, level

Ended = Literal["exit", "time", "output", "files", "signal"]

_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from guildgpt.rewards.keeper import main; main()"
)
REMEDY = (
    "Run it on Linux (x86-64 or ARM, 64 bits; WSL 2 and containers count) with Python 3.11 or "
    "newer, or leave `verify` out of the rewards."
)


class SandboxError(GuildError):
    """Code cannot be run safely on this machine, or the sandbox itself failed."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of code to run alone, or against tests that it never sees; `where` names its row."""

    code: str
    tests: str | None = None
    where: str = ""


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a script: what it printed, its exit status (-n for signal n), how it ended.

    `time`: it used up its time; `output`, `files`: it wrote more than it may; `signal`: it crashed.
    """

    output: str
    status: int
    ended: Ended

    @property
    def good(self) -> bool:
        """It came to its own end without an error."""
        return self.ended == "exit" and self.status == 0


@dataclass(frozen=True, slots=True)
class Protection:
    """What this machine offers, in a word and in words."""

    level: Level
    words: str


def run(code: str, limits: Limits = DEFAULT_LIMITS, *, at: Level | None = None) -> Ran:
    """Run one script. SandboxError where it cannot be run safely.

    `at` asks for a lower level of confinement than this machine offers, for trying it out.
    """
    (result,) = run_all([Snippet(code)], limits, at=at)
    return Ran(result["output"], result["status"], result["ended"])


def run_all(
    snippets: Sequence[Snippet],
    limits: Limits = DEFAULT_LIMITS,
    workers: int = 1,
    *,
    at: Level | None = None,
) -> list[dict[str, Any]]:
    """Run all snippets, at most `workers` side by side; the keepers' results in the same order.

    Without tests a result has `output`, `status` and `ended` (see `Ran`); with tests it has
    `ended` and `tests`, the lines that `runner.run_tests` reports. SandboxError names the row.
    """
    if workers < 1:
        raise ValueError(f"at least 1 worker is needed, not {workers}")
    at = at or level()
    if at == "none":
        raise SandboxError(
            "this machine cannot confine code, so code that nobody has read is not run on it",
            remedy=REMEDY,
        )
    shares = [range(first, len(snippets), workers) for first in range(min(workers, len(snippets)))]
    results: list[dict[str, Any]] = [{} for _ in snippets]
    with (
        tempfile.TemporaryDirectory(prefix="guildgpt-", ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(max(1, len(shares))) as threads,
        _keepers(len(shares), folder, at) as keepers,
    ):
        done = [
            threads.submit(_keep, keeper, snippets, share, limits)
            for keeper, share in zip(keepers, shares, strict=True)
        ]
        for share, future in zip(shares, done, strict=True):
            for index, result in zip(share, future.result(), strict=True):
                results[index] = result
    return results


_PROBE = """
import os, socket
def refused(act):
    try:
        act()
    except OSError:
        return True
print(all(map(refused, [
    socket.socket, os.fork, lambda: os.execv("/bin/true", ["true"]), lambda: os.kill(1, 0),
    lambda: open("/tmp/guildgpt-probe", "w"), lambda: os.truncate(".", 0),
])), refused(lambda: open("/etc/passwd")), refused(lambda: open("own", "w")))
"""
_WORDS = {
    (True, True, False): "network, processes and all files but the code's own are closed to it",
    (True, False, True): (
        "network and processes are closed to it, and so is writing; this kernel lacks Landlock, so "
        "it could read your files, but tell nobody"
    ),
}


def check(at: Level | None = None) -> Protection:
    """What confinement holds on this machine: found out by trying to break out of it."""
    at = at or level()
    if at == "none":
        return Protection(at, "code cannot be run safely here, so `verify` cannot be used")
    try:
        ran = run(_PROBE, at=at)
    except GuildError as error:
        return Protection("none", error.what)
    kept = tuple(word == "True" for word in ran.output.split())
    words = next((words for known, words in _WORDS.items() if known == kept), None)
    if not ran.good or words is None:
        return Protection("none", f"the sandbox does not hold ({ran.output.strip() or ran.ended})")
    return Protection(at, words)


@contextmanager
def _keepers(count: int, folder: str, at: Level) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many keepers; however the block ends, neither they nor what they forked outlive it."""
    root = str(Path(__file__).parents[2])
    # Without site-packages and the folder we stand in; hashes are the same in every run.
    command = [sys.executable, "-P", "-s", "-S", "-c", _START, root, folder, at]
    env = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}
    keepers: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            keepers.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=env,
                    cwd=folder,
                    start_new_session=True,
                )
            )
        yield keepers
    finally:
        for keeper in keepers:
            if keeper.poll() is None:  # one that has ended has cleared up
                os.killpg(keeper.pid, signal.SIGKILL)
                keeper.wait()


def _keep(
    keeper: subprocess.Popen[bytes], snippets: Sequence[Snippet], share: range, limits: Limits
) -> list[dict[str, Any]]:
    """Let a keeper run its share. SandboxError, with the row, at the first trouble."""
    patience = 30 + len(share) * (limits.seconds + 5)
    try:
        request = b"".join(_request(snippets[index], limits) for index in share)
        output, errors = keeper.communicate(request, timeout=patience)
        trouble = errors.decode(errors="replace").strip()[-500:] or "its keeper ended"
    except subprocess.TimeoutExpired:
        os.killpg(keeper.pid, signal.SIGKILL)
        keeper.communicate()
        output, trouble = b"", f"it did not end within {patience:.0f} seconds"
    results = [json.loads(line) for line in output.splitlines()]
    found = list(itertools.takewhile(lambda result: "trouble" not in result, results))
    if len(found) == len(share):
        return found
    if len(found) < len(results):
        trouble = results[len(found)]["trouble"]
    failed = share[len(found)]
    raise SandboxError(
        f"the sandbox failed: {trouble}",
        where=snippets[failed].where or f"snippet {failed + 1}",
        remedy="`guildgpt doctor` says whether it works here at all.",
    )


def _request(snippet: Snippet, limits: Limits) -> bytes:
    code = snippet.code.encode(errors="replace")
    tests = None if snippet.tests is None else snippet.tests.encode(errors="replace")
    sizes = {"code": len(code), "tests": None if tests is None else len(tests)}
    header = json.dumps({"limits": limits, **sizes}).encode()
    return struct.pack("=I", len(header)) + header + code + (tests or b"")
